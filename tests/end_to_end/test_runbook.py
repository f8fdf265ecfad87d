"""Every command of docs/runbook.md that is not marked as never run, in its order."""

import os
import subprocess
from pathlib import Path

from tests.end_to_end.deployed import KEY, manifest_flags
from tests.kept import Kept
from tests.servers import serving
from tests.tiny import copy_configs
from tests.tools import path_with_environment, require

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
NOT_RUN = "# *"


def commands() -> list[str]:
    """The indented lines without the mark."""
    lines = [line.strip() for line in RUNBOOK.splitlines() if line.startswith("    ")]
    return [line for line in lines if not line.endswith(NOT_RUN)]


def test_every_command_does_what_it_says(kept: Kept, tmp_path: Path) -> None:
    repository, volume, key = (tmp_path / name for name in ("model_repository", "volume", "key"))
    copy_configs(repository)
    volume.mkdir()
    key.write_text(f"{KEY}\n")
    variables = {
        "REPOSITORY": repository,
        "VOLUME": volume,
        "CHECKPOINT": kept.checkpoint(),
        "NEXT_CHECKPOINT": kept.checkpoint(seed=1),
        "KEY_FILE": key,
    }
    first = next(number for number, command in enumerate(commands()) if "$URL" in command)
    for command in commands()[:first]:
        run(command, **variables)
    assert (volume / "1" / "tag_recommender" / "1" / "probe" / "allowed").exists()
    flags = ("--load-model=*", *(flag for flag in manifest_flags() if flag.startswith("--grpc-restricted-protocol=")))
    with serving(repository, strict=False, model_control="explicit", extra_args=flags) as server:
        variables |= {"URL": server.grpc_url, "METRICS_URL": server.metrics_url}
        said = {command: run(command, **variables) for command in commands()[first:]}
    assert any("nv_inference_request_success" in output for output in said.values())
    assert "2" in said[".venv/bin/python -m export rollback --repository $REPOSITORY --to 2"]


def run(command: str, **variables: object) -> str:
    if command.startswith("kubectl"):
        require("kubectl")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=os.environ | {"PATH": path_with_environment()} | {name: str(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_only_what_needs_a_cluster_is_marked() -> None:
    lines = [line.strip() for line in RUNBOOK.splitlines() if line.startswith("    ") and line.endswith(NOT_RUN)]
    assert lines
    assert all(line.startswith("kubectl ") and not line.startswith("kubectl kustomize ") for line in lines)
