"""Grafana's dashboard, read: its panels, and their queries as Grafana would send them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "grafana" / "dashboards" / "tag_recommender.json"


@dataclass(frozen=True)
class Target:
    """One query of a panel; `legend` as Grafana writes it, with {{label}}."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel, or the title of a row, which has no targets."""

    title: str
    kind: str
    x: int
    y: int
    width: int
    height: int
    unit: str
    stacked: bool
    targets: tuple[Target, ...]
    json: dict[str, Any]


def panels(*, job: str, instance: str = ".+", rate_interval: str = "1m") -> Iterator[Panel]:
    """All of them, their variables replaced; `instance` is a regular expression."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        box = panel["gridPos"]
        yield Panel(
            title=panel["title"],
            kind=panel["type"],
            x=box["x"],
            y=box["y"],
            width=box["w"],
            height=box["h"],
            unit=defaults.get("unit", "none"),
            stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
            targets=tuple(
                Target(
                    target["expr"]
                    .replace("$__rate_interval", rate_interval)
                    .replace("$job", job)
                    .replace("$instance", instance),
                    target.get("legendFormat", ""),
                )
                for target in panel.get("targets", [])
            ),
            json=panel,
        )
