"""The rules, their unit tests, what Grafana is given, and the Kubernetes component, without a server."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.prometheus_rule import MONITORING, prometheus_rule
from loadtest.parse import read_toml
from tests.deploy.monitoring import DASHBOARD, DEPLOY, compose_flags, panels
from tests.deploy.prometheus import SUMMARIES, local_config
from tests.deploy.test_kubernetes import NEWEST, flags, overlay, pod, validate
from tests.deploy.triton_flags import assert_taken
from tests.tools import require

RULES = sorted((MONITORING / "rules").glob("*.yml"))
TESTS = sorted((MONITORING / "tests").glob("*.yml"))
RUNBOOK = DEPLOY.parent / "docs" / "runbook.md"


def promtool(*arguments: str | Path, ok: bool = True) -> str:
    ended = subprocess.run([require("promtool"), *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode == 0) is ok, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def test_promtool_takes_the_config_and_finds_every_rule(tmp_path: Path) -> None:
    # As committed: the rules are not where the container has them.
    promtool("check", "config", MONITORING / "prometheus.yml")
    here = tmp_path / "prometheus.yml"
    here.write_text(yaml.safe_dump(local_config({"altreco/tag-recommender": ["triton:8002"]}, interval_s=15)))
    said = promtool("check", "config", here)
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == len(rules())


def test_only_paths_targets_and_intervals_differ_on_this_machine() -> None:
    committed = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    here = local_config({"altreco/tag-recommender": ["triton:8002"]}, interval_s=15)
    assert committed == here | {"rule_files": ["/etc/prometheus/rules/*.yml"]}


def test_promtool_runs_the_rules_own_tests() -> None:
    assert promtool("test", "rules", *TESTS).count("SUCCESS") == len(TESTS)


def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path) -> None:
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    for file in RULES:
        (tmp_path / "rules" / file.name).write_text(file.read_text().replace("> 0.95", "> 0.99"))
    (tmp_path / "tests" / "alerts.yml").write_text((MONITORING / "tests" / "alerts.yml").read_text())
    assert "TagRecommenderGpuMemory" in promtool("test", "rules", tmp_path / "tests" / "alerts.yml", ok=False)


def job(series: str) -> str | None:
    found = re.search(r'job="(\w+)/tag-recommender"', series)
    return found and found[1]


def test_every_alert_has_a_series_that_fires_it_and_one_that_does_not() -> None:
    fires, silent = set(), set()
    for case in (case for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]):
        given = {job(one["series"]) for one in case["input_series"]} - {None}
        for check in case["promql_expr_test"]:
            fired = {job(sample["labels"]) for sample in check["exp_samples"]} - {None}
            for alert in re.findall(r'alertname="(\w+)", alertstate="firing"', check["expr"]):
                fires |= {alert} if fired else set()
                silent |= {alert} if fired and given - fired else set()
    assert fires == silent == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    anchor = alert["alert"].lower()
    assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{anchor}"
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_objective_of_latency_is_the_load_tests() -> None:
    (recorded,) = (rule for rule in rules() if rule.get("record") == "tag_recommender:objective:p95_seconds")
    production = read_toml(DEPLOY.parent / "loadtest" / "slos" / "production.toml", "objectives")
    assert recorded["expr"] == f"vector({production['all']['p95_ms'] / 1000:g})"


def test_the_dashboard_is_whole() -> None:
    shown = list(panels(job="a"))
    assert len({panel.json["id"] for panel in shown}) == len(shown)
    cells = [
        (x, y)
        for panel in shown
        for x in range(panel.x, panel.x + panel.width)
        for y in range(panel.y, panel.y + panel.height)
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    for panel in shown:
        assert (panel.kind == "row") is not bool(panel.queries), panel.title
        for query in panel.queries:
            assert "$" not in query, "a variable that is not replaced"
    declared = {variable["name"] for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    assert declared == {"datasource", "job", "instance", "caller"}


def test_the_dashboard_shows_one_deployment() -> None:
    """Objectives are the same for all, an alert about nothing that answers has no job, and callers have their own."""
    for query in (query for panel in panels(job="a", caller="b") for query in panel.queries):
        selectors = re.findall(r"\{([^}]*)\}", query)
        assert selectors or query.startswith("tag_recommender:objective:"), query
        for selector in selectors:
            expected = 'job=~"a|"' if "ALERTS" in query else 'job=~"b"' if "altreco_" in query else 'job="a"'
            assert expected in selector, query


def test_what_is_drawn_from_recorded_rules_is_recorded() -> None:
    used = {
        name
        for panel in panels(job="a")
        for query in panel.queries
        for name in re.findall(r"\b(?:job|instance|job_model|tag_recommender):\w+:\w+", query)
    }
    assert used
    assert used <= {rule["record"] for rule in rules() if "record" in rule}


def test_grafana_finds_prometheus_and_the_dashboard_where_compose_puts_them() -> None:
    provisioning = MONITORING / "grafana" / "provisioning"
    services = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yml").read_text())["providers"]
    mounted = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    assert mounted["../monitoring/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["../monitoring/grafana/provisioning"] == "/etc/grafana/provisioning"
    mounted = dict(mount.split(":")[:2] for mount in services["prometheus"]["volumes"])
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert config["rule_files"] == [f"{mounted['../monitoring/rules']}/*.yml"]
    (scrape,) = config["scrape_configs"]
    assert [target.partition(":")[0] in services for target in scrape["static_configs"][0]["targets"]] == [True]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_no_rules_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deploy.monitoring.prometheus_rule.MONITORING", tmp_path)
    with pytest.raises(FileNotFoundError, match="no rules in"):
        prometheus_rule()


def test_the_operators_object_has_every_rule() -> None:
    groups = prometheus_rule()["spec"]["groups"]
    assert [rule for group in groups for rule in group["rules"]] == rules()
    assert len({group["name"] for group in groups}) == len(groups)


def test_the_operators_object_leads_to_the_teams_own_runbook() -> None:
    here = "https://git.example.com/altreco/docs/runbook.md"
    groups = prometheus_rule(here)["spec"]["groups"]
    fired = {rule["alert"]: rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert set(fired) == {alert["alert"] for alert in alerts()}
    for name, annotations in fired.items():
        assert annotations["runbook_url"] == f"{here}#{name.lower()}"


@pytest.mark.parametrize("folder", ["overlays/cpu", "overlays/gpu-object-storage", "kserve"])
def test_the_kubernetes_component(folder: str, tmp_path: Path) -> None:
    documents = overlay(tmp_path, [folder], ["monitoring"])
    monitors = [document for document in documents if document["kind"] == "PodMonitor"]
    monitor, of_gateway = sorted(monitors, key=lambda one: one["metadata"]["name"])
    # The operator's own schemas are not at hand: its object is looked at here.
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}" == "altreco/tag-recommender"
    validate([document for document in documents if document not in monitors], NEWEST)
    running = pod(documents)
    assert monitor["spec"]["selector"]["matchLabels"].items() <= running["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (container,) = running["spec"]["containers"]
    assert {"name": endpoint["port"], "containerPort": 8002} in container["ports"]
    # Without a gateway there is nothing of it to scrape; with one, it is no replica of Triton to the rules.
    assert not {one["port"] for one in of_gateway["spec"]["podMetricsEndpoints"]} & {
        one["name"] for one in container["ports"]
    }
    assert not re.fullmatch(".+/tag-recommender", f"altreco/{of_gateway['metadata']['name']}")
    # Scraped once.
    assert not any(key.startswith("prometheus.io") for key in running["metadata"].get("annotations") or {})
    assert SUMMARIES in flags(documents)
    assert_taken(flags(documents), tmp_path)
    boards = [d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["labels"].get("grafana_dashboard")]
    assert [json.loads(text) for board in boards for text in board["data"].values()] == [
        json.loads(DASHBOARD.read_text())
    ]


def test_compose_has_triton_measure_its_latency() -> None:
    assert SUMMARIES in compose_flags()
