"""Every command of docs/runbook.md that is not marked as never run, in its order."""

import os
import shutil
import subprocess
from pathlib import Path

from deploy.local import on_free_ports, serve
from tests.end_to_end.deployed import KEY, manifest_flags
from tests.tiny import copy_configs, save_tiny_checkpoint

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
NOT_RUN = "# *"


def commands() -> list[str]:
    """The indented lines without the mark."""
    lines = [line.strip() for line in RUNBOOK.splitlines() if line.startswith("    ")]
    return [line for line in lines if not line.endswith(NOT_RUN)]


def test_every_command_does_what_it_says(tmp_path: Path) -> None:
    repository, volume, key = (tmp_path / name for name in ("model_repository", "volume", "key"))
    copy_configs(repository)
    volume.mkdir()
    key.write_text(f"{KEY}\n")
    variables = {
        "REPOSITORY": repository,
        "VOLUME": volume,
        "CHECKPOINT": save_tiny_checkpoint(tmp_path / "first.pt"),
        "NEXT_CHECKPOINT": save_tiny_checkpoint(tmp_path / "next.pt", seed=7),
        "KEY_FILE": key,
    }
    first = next(number for number, command in enumerate(commands()) if "$URL" in command)
    for command in commands()[:first]:
        run(command, **variables)
    assert (volume / "1" / "tag_recommender" / "1" / "probe" / "allowed").exists()
    flags = ("--load-model=*", *(flag for flag in manifest_flags() if flag.startswith("--grpc-restricted-protocol=")))
    with serve(on_free_ports(repository, model_control="explicit", stop_timeout_s=1, extra_args=flags)) as server:
        variables |= {"URL": server.grpc_url, "METRICS_URL": server.metrics_url}
        said = {command: run(command, **variables) for command in commands()[first:]}
    assert any("nv_inference_request_success" in output for output in said.values())
    assert "2" in said[".venv/bin/python -m export rollback --repository $REPOSITORY --to 2"]


def run(command: str, **variables: object) -> str:
    if command.startswith("kubectl") and shutil.which("kubectl") is None:
        assert os.environ.get("ALTRECO_REQUIRE_KUBECTL") != "1", "no kubectl on the PATH"
        return ""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=os.environ | {name: str(value) for name, value in variables.items()},
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
