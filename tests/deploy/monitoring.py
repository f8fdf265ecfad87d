"""What the tests of monitoring share."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def require(program: str) -> str:
    """Its path; without it the test is skipped, or fails where ALTRECO_REQUIRE_PROMETHEUS=1."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("ALTRECO_REQUIRE_PROMETHEUS") == "1":
            pytest.fail(f"no {program} on the PATH: it is in Debian's package `prometheus`")
        pytest.skip(f"no {program} on the PATH: it is in Debian's package `prometheus`")
    return path


def compose_flags() -> list[str]:
    """Triton's in the compose file."""
    return yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]["triton"]["command"]
