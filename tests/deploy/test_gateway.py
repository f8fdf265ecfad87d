"""The gateway's image and its Kubernetes component, without a container engine or a cluster."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from altreco_client.cli.main import parser
from altreco_client.gateway.limits import Limits
from altreco_client.gateway.serve import STOP_S
from altreco_client.images import MAX_PIXELS

from tests.deploy.test_container import CONTAINER, lint
from tests.deploy.test_kubernetes import KUBERNETES, NEWEST, OLDEST, Document, mebibytes, overlay, render

DOCKERFILE = CONTAINER / "gateway.Dockerfile"
WITH_MONITORING = ("gateway", "monitoring")


def namespaces(documents: list[Document]) -> set[str]:
    return {each["metadata"].get("namespace", "none") for each in documents if each["kind"] != "Namespace"}


@pytest.fixture(params=["overlays/cpu", "overlays/gpu-signed"])
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> list[Document]:
    return overlay(tmp_path, [request.param], WITH_MONITORING)


def named(documents: list[Document], kind: str, name: str = "tag-recommender-gateway") -> Any:
    (found,) = (one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name)
    return found["spec"]


def template(documents: list[Document]) -> Any:
    return named(documents, "Deployment", "tag-recommender")["template"]


def test_a_pod_has_a_confined_gateway_beside_triton(documents: list[Document]) -> None:
    for version in (OLDEST, NEWEST):
        for document in (each for each in documents if each["kind"] != "PodMonitor"):
            kubernetes_validate.validate(document, version, strict=True)
    triton, gateway = template(documents)["spec"]["containers"]
    assert (triton["name"], gateway["name"]) == ("triton", "gateway")
    assert "--metrics-config=summary_latencies=true" in triton["args"], "monitoring has found Triton"
    assert gateway["securityContext"] == triton["securityContext"]
    assert {"cpu", "memory", "ephemeral-storage"} == set(gateway["resources"]["limits"])
    assert re.search(r":\d+\.\d+[\w.-]*$", gateway["image"]), "a tag that stays"
    assert {mount["name"] for mount in gateway["volumeMounts"]} == {"gateway-tls"}
    volumes = {volume["name"]: volume for volume in template(documents)["spec"]["volumes"]}
    assert volumes["gateway-tls"]["secret"]["secretName"] == "tag-recommender-gateway-tls"


def test_the_gateway_takes_its_arguments_and_asks_the_triton_of_its_pod(documents: list[Document]) -> None:
    gateway = template(documents)["spec"]["containers"][1]
    given = parser().parse_args(["gateway", *gateway["args"]])
    assert gateway["ports"] == [{"name": "gateway", "containerPort": given.port}]
    (alias,) = template(documents)["spec"]["hostAliases"]
    assert alias == {"ip": "127.0.0.1", "hostnames": [given.url.removesuffix(":8001")]}
    assert f"for the name `{alias['hostnames'][0]}`" in (CONTAINER.parent / "README.md").read_text(), (
        "the certificate's"
    )
    (mount,) = gateway["volumeMounts"]
    assert {str(Path(each).parent) for each in (given.ca, given.certificate, given.key)} == {mount["mountPath"]}
    assert given.host == "0.0.0.0"


def test_it_joins_tritons_namespace(documents: list[Document]) -> None:
    assert namespaces(documents) == {"altreco"}


def test_it_leaves_others_in_theirs(tmp_path: Path) -> None:
    assert namespaces(overlay(tmp_path, ["overlays/cpu", "backfill", "loadtest"], WITH_MONITORING)) == {
        "altreco",
        *namespaces(render("backfill")),
        *namespaces(render("loadtest")),
    }


def test_callers_and_prometheus_reach_it(documents: list[Document]) -> None:
    labels = template(documents)["metadata"]["labels"]
    service, policy = named(documents, "Service"), named(documents, "NetworkPolicy")
    monitor = named(documents, "PodMonitor")
    for selector in (service["selector"], policy["podSelector"]["matchLabels"], monitor["selector"]["matchLabels"]):
        assert selector
        assert selector.items() <= labels.items()
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8080, "gateway")]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]
    assert [endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]] == ["gateway"]
    of_triton = named(documents, "NetworkPolicy", "tag-recommender")["ingress"]
    assert policy["ingress"][0]["from"] == [peer for rule in of_triton for peer in rule["from"]]


def test_it_stops_after_triton_has_no_callers_and_has_the_memory_that_its_limits_allow(
    documents: list[Document],
) -> None:
    triton, gateway = template(documents)["spec"]["containers"]
    assert gateway["lifecycle"] == triton["lifecycle"]
    pause_s = gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template(documents)["spec"]["terminationGracePeriodSeconds"] >= pause_s + STOP_S + 5
    limits = Limits()
    decoded = 4 * MAX_PIXELS * limits.decoded_at_once
    most = limits.requests * limits.body_bytes + decoded
    assert mebibytes(gateway["resources"]["limits"]["memory"]) > most / 2**20 + 256


def test_hadolint_finds_nothing() -> None:
    assert lint(DOCKERFILE) == ""


def test_the_image_is_the_clients_alone_and_runs_as_nobody() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ENTRYPOINT (.+)", text, re.MULTILINE) == ['["altreco", "gateway"]']
    ignored = DOCKERFILE.with_name(f"{DOCKERFILE.name}.dockerignore").read_text().splitlines()
    seen = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    assert all((CONTAINER.parents[1] / path).exists() for path in seen)
    assert {path.partition("/")[0] for path in seen} == {"constraints.txt", "client"}
    component = (KUBERNETES / "components" / "gateway" / "kustomization.yaml").read_text()
    (tag,) = re.findall(r"--tag (\S+)", text)
    assert f"newName: {tag.partition(':')[0]}" in component
    assert f"newTag: {tag.partition(':')[2]}" in component
