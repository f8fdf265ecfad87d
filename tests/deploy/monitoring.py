"""What the tests of monitoring share."""

from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def compose_flags() -> list[str]:
    """Triton's in the compose file."""
    return yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]["triton"]["command"]
