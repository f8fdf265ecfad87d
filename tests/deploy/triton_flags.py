"""The local Triton's word on flags that are meant for another one."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.environment import find_installation, server_environment
from export.config import parse_config
from tests.tiny import REPOSITORY

RESTRICTED = {"shared-memory", "model-config", "model-repository", "statistics", "trace", "logging"}
"""All groups of protocols that Triton knows, but health, metadata and inference."""


def complaint(flags: Sequence[str], folder: Path) -> str:
    """What tritonserver says to the flags: what it lacks in an empty `folder` if it takes them all, else its usage."""
    installation = find_installation()
    # It reads all flags, then looks for the cache's library: before it opens a port or loads a model.
    command = [installation.executable, *flags, "--cache-directory", folder.resolve()]
    ended = subprocess.run(
        command, env=server_environment(installation), capture_output=True, text=True, timeout=60, check=False
    )
    return ended.stdout + ended.stderr


def assert_taken(flags: Sequence[str], folder: Path) -> None:
    assert "unable to find 'libtritoncache_local.so'" in complaint(flags, folder), complaint(flags, folder)[:500]


def values(flags: Sequence[str], name: str) -> list[str]:
    """What the flags give as --name."""
    return [flag.partition("=")[2] for flag in flags if flag.partition("=")[0] == f"--{name}"]


def value(flags: Sequence[str], name: str) -> str:
    (only,) = values(flags, name)
    return only


def cpu_instances() -> int:
    """Instances of the visual encoder in the variant `native-cpu`, each of one thread."""
    config = parse_config(REPOSITORY / "visual_encoder" / "configs" / "native-cpu.pbtxt")
    (group,) = config.instance_group
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    return group.count


def assert_restricted(flags: Sequence[str], key: str) -> None:
    """All that a client does not need wants the key, over both protocols; and HTTP is the container's own."""
    for flag in ("grpc-restricted-protocol", "http-restricted-api"):
        groups, header, given = re.fullmatch(r"([^:]*):([^=]*)=(.*)", value(flags, flag)).groups()
        assert set(groups.split(",")) == RESTRICTED
        assert (header, given) == ("admin-key", key)
    assert value(flags, "http-address") == "127.0.0.1"
    assert value(flags, "metrics-address") == "0.0.0.0"
    assert value(flags, "model-control-mode") == "none"
