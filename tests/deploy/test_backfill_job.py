"""The Indexed Job of a backfill: valid, confined, let in by Triton, and with options that the command takes."""

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from backfill.__main__ import DEADLINE_S, options_of, parser
from tests.deploy.test_kubernetes import NEWEST, OLDEST, find, render

FOLDER = "backfill"


def container() -> dict[str, Any]:
    (only,) = find(render(FOLDER), "Job")["spec"]["template"]["spec"]["containers"]
    return only


def arguments(shard: int) -> list[str]:
    return [argument.replace("$(SHARD)", str(shard)) for argument in container()["args"]]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_document_is_valid(version: str) -> None:
    for document in render(FOLDER):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    job = copy.deepcopy(find(render(FOLDER), "Job"))
    job["spec"]["backoffLimitPerIndexes"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, NEWEST, strict=True)


def test_the_runbook_looks_for_the_job_where_it_is() -> None:
    metadata = find(render(FOLDER), "Job")["metadata"]
    runbook = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    found = set(re.findall(r"kubectl --namespace (\S+) \w+ job[ /](\S+)", runbook))
    assert found == {(metadata["namespace"], metadata["name"])}


def test_each_index_is_one_shard() -> None:
    spec = find(render(FOLDER), "Job")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "podFailurePolicy needs it"
    shards = [options_of(parser().parse_args(arguments(index))).shard for index in range(spec["completions"])]
    assert shards == [(index, spec["completions"]) for index in range(spec["completions"])]
    (entry,) = container()["env"]
    assert entry["name"] == "SHARD"
    assert "job-completion-index" in entry["valueFrom"]["fieldRef"]["fieldPath"]
    assert spec["parallelism"] == spec["completions"], "the rate is divided by the number of shards"


def test_a_wrong_input_ends_the_job_and_a_drained_node_does_not() -> None:
    wrong, drained = find(render(FOLDER), "Job")["spec"]["podFailurePolicy"]["rules"]
    assert wrong["action"] == "FailJob"
    assert wrong["onExitCodes"] == {"containerName": container()["name"], "operator": "In", "values": [2]}
    assert drained["action"] == "Ignore"


def test_a_batch_ends_before_the_pod_is_killed() -> None:
    assert find(render(FOLDER), "Job")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > DEADLINE_S


def test_the_pod_is_confined_as_its_namespace_demands() -> None:
    spec = find(render(FOLDER), "Job")["spec"]["template"]["spec"]
    assert find(render(FOLDER), "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory", "ephemeral-storage"} <= set(container()["resources"]["limits"])


def test_tritons_network_policy_and_service_are_the_ones_that_it_meets() -> None:
    triton = render("overlays/cpu")
    policy = next(d for d in triton if d["kind"] == "NetworkPolicy" and "ingress" in d["spec"])
    (peer,) = policy["spec"]["ingress"][0]["from"]
    labels = find(render(FOLDER), "Job")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    namespace = find(render(FOLDER), "Namespace")["metadata"]["labels"]
    assert peer["namespaceSelector"]["matchLabels"].items() <= namespace.items()
    service = find(triton, "Service")["metadata"]
    assert f"--url=dns:///{service['name']}.{service['namespace']}:8001" in container()["args"]


def test_what_it_names_is_there() -> None:
    documents, spec = render(FOLDER), find(render(FOLDER), "Job")["spec"]["template"]["spec"]
    assert spec["priorityClassName"] == find(documents, "PriorityClass")["metadata"]["name"]
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
