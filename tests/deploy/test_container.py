"""What can be said of the image and the compose file without a container engine."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from measure.telemetry import OFF
from tests.deploy.triton_flags import assert_restricted, assert_taken, cpu_instances, value, values

CONTAINER = Path(__file__).parents[2] / "deploy" / "container"
HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(dockerfile: Path) -> str:
    ended = subprocess.run(
        [HADOLINT, "--no-color", dockerfile], capture_output=True, text=True, timeout=60, check=False
    )
    return ended.stdout + ended.stderr


def instructions() -> list[str]:
    """The Dockerfile's, each on one line and without comments."""
    text = re.sub(r"^\s*#.*\n", "", (CONTAINER / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


def compose() -> dict[str, Any]:
    return yaml.safe_load((CONTAINER / "compose.yaml").read_text())


@pytest.mark.parametrize("name", ["Dockerfile", "backfill.Dockerfile", "tools.Dockerfile"])
def test_hadolint_and_its_shellcheck_find_nothing(name: str) -> None:
    assert lint(CONTAINER / name) == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text((CONTAINER / "Dockerfile").read_text() + "USER root\nRUN cd /tmp && apt-get install curl\n")
    assert {"DL3002", "DL3003", "DL3008"} <= set(re.findall(r"DL\d+", lint(bad)))


def test_every_base_is_of_one_pinned_month_that_is_new_enough() -> None:
    tags = dict(re.findall(r"^ARG (\w+)=(\S+)", "\n".join(instructions()), re.MULTILINE))
    year, month, flavour = re.fullmatch(r"(\d\d)\.(\d\d)-(py3)(@sha256:\w+)?", tags["TAG"]).groups()[:3]
    assert (int(year), int(month)) >= (26, 11), "earlier batchers have faults that the configs meet"
    assert tags["MIN_TAG"].startswith(f"{year}.{month}-{flavour}-min")


def test_onnx_runtime_does_not_report_its_use() -> None:
    (variables,) = (line for line in instructions() if line.startswith("ENV"))
    assert f"ORT_DISABLE_TELEMETRY={OFF['ORT_DISABLE_TELEMETRY']}" in variables.split()
    assert compose()["services"]["triton"]["environment"].items() >= {"ORT_DISABLE_TELEMETRY": "1"}.items()


def test_grafana_reports_and_fetches_nothing() -> None:
    variables = compose()["services"]["grafana"]["environment"]
    on = ("ANALYTICS_REPORTING_ENABLED", "ANALYTICS_CHECK_FOR_UPDATES", "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES")
    assert {variables[f"GF_{name}"] for name in (*on, "NEWS_NEWS_FEED_ENABLED")} == {"false"}
    assert {variables[f"GF_{name}"] for name in ("PLUGINS_PREINSTALL_DISABLED", "SECURITY_DISABLE_GRAVATAR")} == {
        "true"
    }


def test_every_place_names_the_dockerfiles_release() -> None:
    (tag,) = re.findall(r"^ARG TAG=(\d\d\.\d\d)-", (CONTAINER / "Dockerfile").read_text(), re.MULTILINE)
    assert "args" not in compose()["services"]["triton"]["build"], "a second place"
    files = [
        path for path in CONTAINER.parent.rglob("*") if path.suffix in (".yaml", ".md") or path.name == "Dockerfile"
    ]
    named = {
        path: re.findall(r"(?:tritonserver:|altreco/triton:|newTag: )(\d\d\.\d\d)-", path.read_text()) for path in files
    }
    assert {path.name for path, found in named.items() if found} == {
        "Dockerfile",
        "compose.yaml",
        "kustomization.yaml",
        "README.md",
    }
    assert {release for found in named.values() for release in found} == {tag}


def test_the_image_holds_what_is_named_and_runs_as_nobody() -> None:
    last = instructions()[max(i for i, line in enumerate(instructions()) if line.startswith("FROM ")) :]
    # All that reaches the last stage: one folder, whose contents the middle stage names, and the probe.
    assert [line.split()[1:] for line in last if line.startswith(("COPY", "ADD"))] == [
        ["--from=parts", "/parts", "/"],
        ["--chmod=0555", "probe.sh", "/usr/local/bin/probe.sh"],
    ]
    (copied,) = (line for line in instructions() if "--target-directory=/parts" in line)
    assert set(re.findall(r"/opt/tritonserver/(?:backends|repoagents|caches)\S*", copied)) == {
        "/opt/tritonserver/backends/onnxruntime",
        "/opt/tritonserver/caches/local",
    }
    assert [line for line in last if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(line.startswith('ENTRYPOINT ["/opt/tritonserver/bin/tritonserver"]') for line in last)


def test_the_build_sees_the_probe_alone() -> None:
    lines = (CONTAINER / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!probe.sh"]


@pytest.mark.parametrize("name", ["triton", "prometheus", "grafana"])
def test_every_service_is_confined(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
    assert re.search(r":v?\d+\.\d+[\w.-]+$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "reachable from other machines"
    # Written to are volumes and /tmp alone.
    for mount in service["volumes"]:
        source = mount.partition(":")[0]
        assert source in compose()["volumes"] or (mount.endswith(":ro") and (CONTAINER / source).exists())


def test_there_are_no_other_services() -> None:
    assert set(compose()["services"]) == {"triton", "prometheus", "grafana"}


def test_triton_takes_the_flags(tmp_path: Path) -> None:
    service = compose()["services"]["triton"]
    flags = [re.sub(r"\$\{ADMIN_KEY\b[^}]*\}", "a-key", flag) for flag in service["command"]]
    assert_taken(flags, tmp_path)
    assert_restricted(flags, "a-key")
    assert values(flags, "backend-config") == []
    assert value(flags, "model-config-name") == "native-cpu"
    assert cpu_instances() == service["cpus"]


def test_no_secret_has_a_value() -> None:
    text = (CONTAINER / "compose.yaml").read_text() + (CONTAINER / "Dockerfile").read_text()
    for line in re.findall(r".*(?:KEY|PASSWORD).*", text):
        assert re.search(r"\$\{\w+(:\?[^}]*)?\}", line) or "openssl rand" in line, line
