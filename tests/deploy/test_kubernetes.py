"""The manifests as kustomize renders them: valid, confined, and fit for each other, for the client and for Triton."""

import copy
import functools
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from altreco_client import Channel, contract
from altreco_client.settings import Settings

from measure.telemetry import OFF
from tests.deploy.triton_flags import assert_restricted, assert_taken, complaint, cpu_instances, value, values
from tests.tools import require

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
RENDERED = ("overlays/cpu", "overlays/gpu", "overlays/gpu-object-storage", "overlays/gpu-signed", "kserve")
OLDEST, NEWEST = "1.30", "1.37"

DNS_TTL_S = 30
"""How long DNS' answers hold as kubeadm sets up CoreDNS, so that a client may connect anew to a pod that is leaving."""
JITTER = 1.1
"""gRPC lengthens a connection's age by up to a tenth."""

Document = dict[str, Any]


@functools.cache
def _rendered(folder: str) -> str:
    command = [require("kubectl"), "kustomize", str(KUBERNETES / folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, "kustomize warns"
    return ended.stdout


def render(folder: str) -> list[Document]:
    return list(yaml.safe_load_all(_rendered(folder)))


def overlay(folder: Path, resources: Sequence[str], components: Sequence[str]) -> list[Document]:
    """Render an overlay that is written into the folder."""

    def relative(path: Path) -> str:
        return os.path.relpath(path, folder.resolve())

    written = {
        "resources": [relative(KUBERNETES / name) for name in resources],
        "components": [relative(KUBERNETES / "components" / name) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return render(str(folder.resolve()))


def find(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod(documents: list[Document]) -> Document:
    """The pod that runs Triton; KServe makes it from two documents."""
    if not any(document["kind"] == "InferenceService" for document in documents):
        template = find(documents, "Deployment")["spec"]["template"]
        return {"metadata": template["metadata"], "spec": template["spec"]}
    runtime, predictor = (
        find(documents, "ServingRuntime")["spec"],
        find(documents, "InferenceService")["spec"]["predictor"],
    )
    (container,) = runtime["containers"]
    container = container | {
        "env": container["env"] + predictor["model"]["env"],
        "resources": predictor["model"]["resources"],
    }
    own = {key: entry for key, entry in predictor.items() if key != "model"}
    return {
        "metadata": {"labels": runtime["labels"], "annotations": runtime["annotations"]},
        "spec": own | {"containers": [container], "volumes": runtime["volumes"]},
    }


def triton(documents: list[Document]) -> Document:
    (container,) = pod(documents)["spec"]["containers"]
    return container


def flags(documents: list[Document]) -> list[str]:
    return [flag.replace("$(ADMIN_KEY)", "a-key") for flag in triton(documents)["args"]]


def validate(documents: list[Document], version: str) -> None:
    for document in documents:
        if not document["apiVersion"].startswith("serving.kserve.io/"):
            kubernetes_validate.validate(document, version, strict=True)
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod(documents)}, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", RENDERED)
def test_every_document_is_valid(folder: str, version: str) -> None:
    validate(render(folder), version)


@pytest.mark.parametrize("folder", RENDERED)
def test_a_misspelt_field_would_be_found(folder: str) -> None:
    documents = copy.deepcopy(render(folder))
    triton(documents)["readinessProbe"]["timeoutSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(documents, NEWEST)


@pytest.mark.parametrize("folder", RENDERED)
def test_every_container_is_confined(folder: str) -> None:
    spec = pod(render(folder))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001, "the image's user"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
        assert re.search(r":v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", container["image"]), "a tag that stays"


@pytest.mark.parametrize("folder", RENDERED)
def test_the_namespace_refuses_more_than_that(folder: str) -> None:
    assert find(render(folder), "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", RENDERED)
def test_secrets_are_named_and_not_written_down(folder: str) -> None:
    documents = render(folder)
    assert not [document for document in documents if document["kind"] == "Secret"]
    admin_key = {entry["name"]: entry for entry in triton(documents)["env"]}["ADMIN_KEY"]
    assert admin_key["valueFrom"] == {"secretKeyRef": {"name": "tag-recommender-admin", "key": "key"}}


@pytest.mark.parametrize("folder", RENDERED)
def test_selectors_find_the_pod_and_nobody_else(folder: str) -> None:
    documents = render(folder)
    labels = pod(documents)["metadata"]["labels"]
    selectors = [
        find(documents, "Service")["spec"]["selector"],
        find(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(d["spec"]["podSelector"]["matchLabels"] for d in documents if d["kind"] == "NetworkPolicy"),
        *(c["labelSelector"]["matchLabels"] for c in pod(documents)["spec"].get("topologySpreadConstraints", [])),
    ]
    if folder != "kserve":
        selectors.append(find(documents, "Deployment")["spec"]["selector"]["matchLabels"])
    for selector in selectors:
        assert selector, "an empty one finds every pod"
        assert selector.items() <= labels.items()


@pytest.mark.parametrize("folder", RENDERED)
def test_network_policy_admits_others_and_not_the_pod_itself(folder: str) -> None:
    # What kustomize's includeSelectors would do: put the pod's own labels into those of its peers.
    labels = pod(render(folder))["metadata"]["labels"]
    for policy in (document for document in render(folder) if document["kind"] == "NetworkPolicy"):
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            for peer in rule.get("from", rule.get("to")):
                asked = peer.get("podSelector", {}).get("matchLabels", {})
                assert "ipBlock" in peer or asked, "every pod of a namespace"
                assert not asked.items() & labels.items()


def test_triton_reaches_nothing_unless_its_models_come_from_a_bucket() -> None:
    assert find(render("overlays/gpu"), "NetworkPolicy")["spec"]["egress"] == []
    assert len([d for d in render("overlays/gpu-object-storage") if d["kind"] == "NetworkPolicy"]) == 2


def test_a_signature_is_checked_once_the_files_are_there_and_before_triton() -> None:
    spec = pod(render("overlays/gpu-signed"))["spec"]
    fetch, check = spec["initContainers"]
    assert (fetch["name"], check["command"]) == ("fetch-release", ["probe.sh", "signed"])
    (serving,) = spec["containers"]
    assert check["image"] == serving["image"], "it has probe.sh"
    models = [mount for mount in serving["volumeMounts"] if mount["name"] == "models"]
    assert models == [mount for mount in check["volumeMounts"] if mount["name"] == "models"], (
        "the files that are served"
    )


@pytest.mark.parametrize("folder", RENDERED)
def test_references_find_what_they_name(folder: str) -> None:
    documents = render(folder)
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    spec = pod(documents)["spec"]
    assert ("ServiceAccount", spec["serviceAccountName"]) in names
    target = find(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert folder == "kserve" or ("Deployment", target["name"]) in names
    for volume in spec["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for entry in container["env"]:
            if "configMapKeyRef" in entry.get("valueFrom", {}):
                assert ("ConfigMap", entry["valueFrom"]["configMapKeyRef"]["name"]) in names


@pytest.mark.parametrize("folder", RENDERED)
def test_ports_are_tritons(folder: str) -> None:
    documents = render(folder)
    defaults = {8001, 8002}  # of gRPC and metrics; no flag changes them
    assert not values(flags(documents), "grpc-port") + values(flags(documents), "metrics-port")
    assert {port["containerPort"] for port in triton(documents)["ports"]} == defaults
    assert {(port["port"], port["targetPort"]) for port in find(documents, "Service")["spec"]["ports"]} == {
        (port, port) for port in defaults
    }
    policy = next(d for d in documents if d["kind"] == "NetworkPolicy" and "ingress" in d["spec"])
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == defaults
    assert pod(documents)["metadata"]["annotations"]["prometheus.io/port"] == "8002"


@pytest.mark.parametrize("folder", RENDERED)
def test_triton_takes_the_flags(folder: str, tmp_path: Path) -> None:
    assert_taken(flags(render(folder)), tmp_path)
    assert_restricted(flags(render(folder)), "a-key")


@pytest.mark.parametrize("wrong", ["--grpc-max-conection-age=1", "--http-restricted-api=everything:a=b"])
def test_a_wrong_flag_would_be_found(wrong: str, tmp_path: Path) -> None:
    assert "Usage: tritonserver" in complaint([*flags(render("overlays/cpu")), wrong], tmp_path)


@pytest.mark.parametrize("folder", RENDERED)
def test_onnx_runtime_does_not_report_its_use(folder: str) -> None:
    assert {"name": "ORT_DISABLE_TELEMETRY", "value": OFF["ORT_DISABLE_TELEMETRY"]} in triton(render(folder))["env"]


@pytest.mark.parametrize("folder", RENDERED)
def test_a_pod_stops_only_when_no_client_is_left(folder: str) -> None:
    documents = render(folder)
    given = flags(documents)
    pause_s = triton(documents)["lifecycle"]["preStop"]["sleep"]["seconds"]
    age_s, grace_s = (int(value(given, f"grpc-max-connection-age{end}")) / 1000 for end in ("", "-grace"))
    assert pause_s >= DNS_TTL_S + JITTER * age_s + grace_s, "a connection may outlive the pause"
    exit_s = int(value(given, "exit-timeout-secs"))
    assert pod(documents)["spec"]["terminationGracePeriodSeconds"] >= pause_s + exit_s + 10, "killed before it ends"
    assert grace_s > Settings(url="localhost:8001").deadline_s, "a call is cut off by the end of its connection"


@pytest.mark.parametrize("folder", RENDERED)
def test_the_clients_keepalive_is_no_attack(folder: str) -> None:
    allowed_ms = int(value(flags(render(folder)), "grpc-http2-min-recv-ping-interval-without-data"))
    assert allowed_ms < Channel().keepalive_s * 1000


@pytest.mark.parametrize("folder", RENDERED)
def test_probes_ask_within_the_pod_and_have_the_time(folder: str) -> None:
    container = triton(render(folder))
    kinds = {"startupProbe": "golden", "readinessProbe": "ready", "livenessProbe": "live"}
    for name, kind in kinds.items():
        assert container[name]["exec"]["command"] == ["probe.sh", kind]
        assert container[name]["timeoutSeconds"] > 5, "probe.sh gives up by itself, and says why"


@pytest.mark.parametrize("folder", RENDERED[:-1])
def test_a_rollout_waits_as_long_as_a_start_may_take(folder: str) -> None:
    deployment = find(render(folder), "Deployment")["spec"]
    startup = triton(render(folder))["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] < deployment["progressDeadlineSeconds"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", size).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize("folder", RENDERED)
def test_the_pods_folders_and_cache_fit_its_limits(folder: str) -> None:
    documents = render(folder)
    limits = triton(documents)["resources"]["limits"]
    folders = [mebibytes(v["emptyDir"]["sizeLimit"]) for v in pod(documents)["spec"]["volumes"] if "emptyDir" in v]
    assert sum(folders) < mebibytes(limits["ephemeral-storage"]), "evicted before a folder is full"
    cache = re.fullmatch(r"local,size=(\d+)", value(flags(documents), "cache-config"))
    assert int(cache[1]) < mebibytes(limits["memory"]) * 1024**2 / 4


def test_on_cpus_each_core_has_an_instance_of_one_thread() -> None:
    documents = render("overlays/cpu")
    assert values(flags(documents), "backend-config") == []
    assert value(flags(documents), "model-config-name") == "native-cpu"
    assert str(cpu_instances()) == triton(documents)["resources"]["limits"]["cpu"]
    assert triton(documents)["resources"]["limits"] == triton(documents)["resources"]["requests"]


@pytest.mark.parametrize("folder", RENDERED[1:])
def test_a_triton_has_one_gpu_and_its_configs(folder: str) -> None:
    documents = render(folder)
    assert triton(documents)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    name = value(flags(documents), "model-config-name")
    for model in contract.COMPONENTS:
        assert (KUBERNETES.parents[1] / "model_repository" / model.name / "configs" / f"{name}.pbtxt").is_file()


def test_kserve_runs_the_same_server() -> None:
    theirs, ours = render("kserve"), render("overlays/gpu")
    assert [flag.replace("/mnt/models", "/models") for flag in flags(theirs)] == flags(ours)
    same = ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "resources", "securityContext", "image")
    for field in same:
        assert triton(theirs)[field] == triton(ours)[field], field
    release = find(theirs, "ConfigMap")["data"]["RELEASE"]
    assert {"name": "RELEASE", "value": release} in triton(theirs)["env"]
    assert find(theirs, "InferenceService")["spec"]["predictor"]["model"]["storageUri"].endswith(f"/{release}")


def test_scaled_by_what_waits_for_the_composing_models() -> None:
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (metric,) = find(render("overlays/gpu"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    for query in (rule["seriesQuery"], rule["metricsQuery"]):
        assert set(re.search(r'model=~"([^"]*)"', query)[1].split("|")) == {model.name for model in contract.COMPONENTS}
