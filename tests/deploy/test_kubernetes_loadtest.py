"""The Jobs of a load test from several nodes, against Kubernetes' schemas and the command's own options."""

import argparse
import re
from typing import Any

import kubernetes_validate
import pytest

from loadtest.commands import run, worker
from tests.deploy.test_kubernetes import NEWEST, OLDEST, Document, find, render

MASTER, WORKER = "loadtest-master", "loadtest-worker"


def rendered() -> list[Document]:
    return render("loadtest")


def job(name: str) -> dict[str, Any]:
    (found,) = (d for d in rendered() if d["kind"] == "Job" and d["metadata"]["name"] == name)
    return found["spec"]


def pod(name: str) -> dict[str, Any]:
    return job(name)["template"]["spec"]


def options(name: str) -> Any:
    (container,) = pod(name)["containers"]
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    run.add_parser(commands)
    worker.add_parser(commands)
    return parser.parse_args(container["args"][1:])


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_document_is_valid(version: str) -> None:
    for document in rendered():
        kubernetes_validate.validate(document, version, strict=True)


def test_there_are_as_many_workers_as_the_master_waits_for() -> None:
    spec = job(WORKER)
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == options(MASTER).workers


def test_workers_find_the_master_and_nobody_else_may() -> None:
    service = find(rendered(), "Service")
    (port,) = {service["spec"]["ports"][0]["port"], int(options(MASTER).bind.rpartition(":")[2])}
    assert options(WORKER).master == f"{service['metadata']['name']}:{port}"
    policies = {d["metadata"]["name"]: d["spec"] for d in rendered() if d["kind"] == "NetworkPolicy"}
    (rule,) = policies[MASTER]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port}]
    (peer,) = rule["from"]
    labels = {name: job(name)["template"]["metadata"]["labels"] for name in (MASTER, WORKER)}
    assert peer["podSelector"]["matchLabels"].items() <= labels[WORKER].items()
    assert not peer["podSelector"]["matchLabels"].items() <= labels[MASTER].items()
    assert policies[WORKER]["ingress"] == []
    for name in (MASTER, WORKER):
        assert policies[name]["podSelector"]["matchLabels"].items() <= labels[name].items()
    assert service["spec"]["selector"].items() <= labels[MASTER].items()


def test_tritons_policy_admits_them() -> None:
    policy = find(render("overlays/gpu"), "NetworkPolicy")
    peer = policy["spec"]["ingress"][0]["from"][0]
    namespace = find(rendered(), "Namespace")["metadata"]["labels"]
    assert peer["namespaceSelector"]["matchLabels"].items() <= namespace.items()
    for name in (MASTER, WORKER):
        labels = job(name)["template"]["metadata"]["labels"]
        assert peer["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_admin_key_is_the_masters_alone_and_no_secret_is_written_down() -> None:
    master, workers = (
        {volume["secret"]["secretName"] for volume in pod(name)["volumes"] if "secret" in volume}
        for name in (MASTER, WORKER)
    )
    assert master - workers == {"tag-recommender-admin"}
    assert not [document for document in rendered() if document["kind"] == "Secret"]
    assert options(MASTER).admin_key_file
    assert options(WORKER).admin_key_file is None


@pytest.mark.parametrize("name", [MASTER, WORKER])
def test_every_container_is_confined(name: str) -> None:
    spec = pod(name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
    assert re.search(r":\d+\.\d+\.\d+$", container["image"])
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in spec["volumes"]}
    files = [word.partition("=")[2] for word in container["args"] if re.search("=/", word)]
    assert files
    assert all(file.startswith(tuple(mounted.values())) for file in files)
