"""Grafana's dashboard, read: its panels, and their queries as Grafana would send them; and the compose file's flags."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "monitoring" / "grafana" / "dashboards" / "tag_recommender.json"
RATE_INTERVAL = "1m"


@dataclass(frozen=True)
class Panel:
    """A panel, or the title of a row, which has no queries."""

    title: str
    kind: str
    x: int
    y: int
    width: int
    height: int
    queries: tuple[str, ...]
    json: dict[str, Any]


def panels(*, job: str, instance: str = ".+", caller: str = ".+") -> Iterator[Panel]:
    """All of them, their variables replaced; `instance` and `caller` are regular expressions."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        box = panel["gridPos"]
        yield Panel(
            title=panel["title"],
            kind=panel["type"],
            x=box["x"],
            y=box["y"],
            width=box["w"],
            height=box["h"],
            queries=tuple(
                target["expr"]
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$job", job)
                .replace("$instance", instance)
                .replace("$caller", caller)
                for target in panel.get("targets", [])
            ),
            json=panel,
        )


def compose_flags() -> list[str]:
    """Triton's in the compose file."""
    return yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]["triton"]["command"]
