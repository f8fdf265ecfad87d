"""The rules as an object of the Prometheus operator, for kubectl: `python -m deploy.monitoring.prometheus_rule`.

kustomize can put a file's text into a ConfigMap, but not into another object's fields.
"""

import argparse
from typing import Any

import yaml
from altreco_client.cli.pipe import quiet_pipe

from deploy.monitoring.local import MONITORING


def prometheus_rule() -> dict[str, Any]:
    """All groups of rules/, in one object; its namespace is the caller's choice."""
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
