"""Every command of docs/runbook.md that is not marked as never run, in its order."""

import re
import shlex
from pathlib import Path

import pytest

from export.config import released_version
from tests.end_to_end.deployed import KEY, manifest_flags
from tests.end_to_end.printed import EXPORT, NEVER_RUN, ROOT, commands, run, run_here
from tests.kept import Kept
from tests.keys import make_keys
from tests.servers import serving
from tests.tiny import copy_configs

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SERVER = ".venv/bin/python -m deploy.local --repository $REPOSITORY --model-control explicit -- "
"""The test starts it on free ports, with these flags and with those that ask for the key."""
COMMANDS = [command for command in commands(RUNBOOK) if not command.endswith(NEVER_RUN)]


def obey(command: str, variables: dict[str, object]) -> str:
    codes = (0, 1, 2) if " canary compare " in command else (0,)  # by latencies of a busy machine, which none asserts
    return (run_here if command.startswith(EXPORT) else run)(command, codes=codes, **variables)


@pytest.mark.slow
def test_every_command_does_what_it_says(kept: Kept, tmp_path: Path) -> None:
    repository, volume, key = (tmp_path / name for name in ("model_repository", "volume", "key"))
    copy_configs(repository)
    volume.mkdir()
    signing = make_keys(tmp_path / "signing")
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    variables: dict[str, object] = {
        "REPOSITORY": repository,
        "VOLUME": volume,
        "CHECKPOINT": kept.checkpoint(),
        "NEXT_CHECKPOINT": kept.checkpoint(seed=1),
        "RELEASE": 1,
        "NEXT_RELEASE": 2,
        "MANIFEST": kept.checkpoint().with_suffix(".data") / "manifest.parquet",
        "TAGS": tmp_path / "tags",
        "TLS": "",
        "SECURITY": f"--admin-key-file {key}",
        "SIGNING_KEY": signing.private,
        "PUBLIC_KEY": signing.public,
    }
    first = next(number for number, command in enumerate(COMMANDS) if "$URL" in command)
    for command in COMMANDS[:first]:
        obey(command, variables)
    assert (volume / "1" / "tag_recommender" / "1" / "probe" / "allowed").exists()
    copied = next(command for command in COMMANDS if command.startswith("mkdir"))
    run(copied, codes=(1,), **variables)  # a number that is there is refused
    assert not (volume / "1" / repository.name).exists()

    (started,) = (command for command in COMMANDS if command.startswith(SERVER))
    restricted = [flag for flag in manifest_flags() if flag.startswith("--grpc-restricted-protocol=")]
    flags = (*shlex.split(started.removeprefix(SERVER)), *restricted)
    with serving(repository, strict=False, model_control="explicit", extra_args=flags) as server:
        variables |= {"URL": server.grpc_url, "METRICS_URL": server.metrics_url}
        said = {command: obey(command, variables) for command in COMMANDS[first:] if command != started}
    assert any("result: " in output for command, output in said.items() if " canary compare " in command)
    assert any("nv_inference_request_success" in output for output in said.values())
    assert "release 1" in said[".venv/bin/python -m export rollback --repository $REPOSITORY --to $RELEASE"]
    assert released_version(repository) == 1  # rolled back, and not forward again
    listed = run_here(".venv/bin/python -m export list --repository $REPOSITORY", **variables)
    assert re.findall(r"^\d+", listed, re.MULTILINE) == ["1", "2", "3"]


def test_only_what_needs_a_cluster_is_marked() -> None:
    marked = [command for command in commands(RUNBOOK) if command.endswith(NEVER_RUN)]
    assert marked
    assert all(line.startswith("kubectl ") and not line.startswith("kubectl kustomize ") for line in marked)
