"""Atomic writes of files."""

from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file beside `path`, then rename it. A failed write leaves no file and raises OSError."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
