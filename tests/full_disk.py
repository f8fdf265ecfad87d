from collections.abc import Sequence


def on_a_full_disk(command: Sequence[str], *, left_bytes: int) -> list[str]:
    """The command, whose writes to any one file fail beyond so many bytes; not by a fork, which gRPC does not bear."""
    return ["sh", "-c", f'ulimit -f {left_bytes // 512}; exec "$@"', "sh", *command]
