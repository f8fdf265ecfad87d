"""Print the alert and recording rules as a PrometheusRule for kubectl: `python -m deploy.monitoring.prometheus_rule`.

A PrometheusRule is the Prometheus operator's object. kustomize cannot make it: it puts the text of a file into a
ConfigMap, but not into the fields of another object.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from altreco_client.cli.pipe import quiet_pipe

MONITORING = Path(__file__).parent
RUNBOOK = "docs/runbook.md"
"""The runbook in rules/, whose annotations name it by its path in this repository."""


def prometheus_rule(runbook: str = RUNBOOK) -> dict[str, Any]:
    """Build one PrometheusRule with all groups in rules/; it names no namespace.

    `runbook` is where the alerts' `runbook_url` leads. Raises FileNotFoundError.
    """
    # One without groups would be valid, and applying it would remove every alert.
    if not (files := sorted((MONITORING / "rules").glob("*.yml"))):
        raise FileNotFoundError(f"no rules in {MONITORING / 'rules'}: run this from a whole checkout")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    for annotations in (rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule):
        annotations["runbook_url"] = annotations["runbook_url"].replace(RUNBOOK, runbook)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "tag-recommender",
            "labels": {"app.kubernetes.io/name": "tag-recommender", "app.kubernetes.io/part-of": "altreco"},
        },
        "spec": {"groups": groups},
    }


@quiet_pipe()
def main() -> int:
    """Print the object as YAML; 1 if there are no rules."""
    parser = argparse.ArgumentParser(prog="python -m deploy.monitoring.prometheus_rule", description=__doc__)
    parser.add_argument(
        "--runbook", default=RUNBOOK, metavar="URL", help="where your team reads %(default)s, for the alerts' links"
    )
    arguments = parser.parse_args()
    try:
        rule = prometheus_rule(arguments.runbook)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(yaml.safe_dump(rule, sort_keys=False, width=120), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
