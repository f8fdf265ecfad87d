"""Print the alert and recording rules as a PrometheusRule for kubectl: `python -m deploy.monitoring.prometheus_rule`.

A PrometheusRule is the Prometheus operator's object. kustomize cannot make it: it puts the text of a file into a
ConfigMap, but not into the fields of another object.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml
from altreco_client.cli.pipe import quiet_pipe

MONITORING = Path(__file__).parent


def prometheus_rule() -> dict[str, Any]:
    """Build one PrometheusRule with all groups in rules/; it names no namespace."""
    files = sorted((MONITORING / "rules").glob("*.yml"))
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "tag-recommender",
            "labels": {"app.kubernetes.io/name": "tag-recommender", "app.kubernetes.io/part-of": "altreco"},
        },
        "spec": {"groups": [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]},
    }


@quiet_pipe()
def main() -> None:
    """Print the object as YAML."""
    argparse.ArgumentParser(prog="python -m deploy.monitoring.prometheus_rule", description=__doc__).parse_args()
    print(yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120), end="")


if __name__ == "__main__":
    main()
