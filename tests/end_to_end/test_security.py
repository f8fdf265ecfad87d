"""What docs/threat_model.md says that cannot be done, tried on a Triton with the manifests' own flags.

Beside each attempt that fails is the same one by somebody who may.
"""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from altreco_client import Channel, TagRecommender, Unavailable, contract
from tritonclient.utils import InferenceServerException

from deploy.local import Server
from export.served import infer_input
from measure.waiting import wait_until
from tests.end_to_end.conftest import Served
from tests.end_to_end.deployed import KEY, Deployed, deploying
from tests.end_to_end.faults import HISTORY, WAIT_S, gone, picture, port
from tests.servers import listens
from tests.tiny import TAGS

RESTRICTED = "This protocol is restricted"
NO_MODEL_CONTROL = "explicit model load / unload is not allowed"
NO_HANDLE = "failed to register shared memory region"
Call = Callable[[triton.InferenceServerClient, str], Any]
GRPC: dict[str, tuple[Call, str]] = {
    "load": (lambda client, _: client.load_model("classifier"), NO_MODEL_CONTROL),
    "unload": (lambda client, _: client.unload_model("classifier"), NO_MODEL_CONTROL),
    "index": (lambda client, _: client.get_model_repository_index(), ""),
    "config": (lambda client, _: client.get_model_config("classifier"), ""),
    "statistics": (lambda client, _: client.get_inference_statistics(), ""),
    "shared memory": (lambda client, memory: client.register_system_shared_memory("r", f"/{memory}", 64), ""),
    "shared memory's status": (lambda client, _: client.get_system_shared_memory_status(), ""),
    "shared memory's end": (lambda client, _: client.unregister_system_shared_memory(), ""),
    "CUDA memory": (lambda client, _: client.register_cuda_shared_memory("c", b"AAAA" * 16, 0, 64), NO_HANDLE),
    "CUDA memory's status": (lambda client, _: client.get_cuda_shared_memory_status(), ""),
    "trace": (lambda client, _: client.get_trace_settings(), ""),
    "trace, changed": (lambda client, _: client.update_trace_settings(settings={"trace_level": ["OFF"]}), ""),
    "log": (lambda client, _: client.get_log_settings(), ""),
    "log, changed": (lambda client, _: client.update_log_settings({"log_verbose_level": 0}), ""),
}
"""Call to what it is told with the key; empty: it is answered."""
HTTP: dict[str, tuple[str, dict[str, Any] | None, int]] = {
    "repository/models/classifier/load": ("POST", {}, 503),
    "repository/models/classifier/unload": ("POST", {}, 503),
    "repository/index": ("POST", {}, 200),
    "models/classifier/config": ("GET", None, 200),
    "models/stats": ("GET", None, 200),
    "systemsharedmemory/region/r/register": ("POST", {"key": "/MEMORY", "byte_size": 64}, 200),
    "systemsharedmemory/status": ("GET", None, 200),
    "systemsharedmemory/unregister": ("POST", {}, 200),
    "cudasharedmemory/region/c/register": (
        "POST",
        {"raw_handle": {"b64": "QUFB"}, "device_id": 0, "byte_size": 64},
        400,
    ),
    "cudasharedmemory/status": ("GET", None, 200),
    "trace/setting": ("POST", {"trace_level": ["OFF"]}, 200),
    "models/classifier/trace/setting": ("GET", None, 200),
    "logging": ("POST", {"log_verbose_level": 0}, 200),
}
"""Path to method, body, and status with the key: 503 is model control's refusal, 400 that of a handle which is none."""


@pytest.fixture(scope="module")
def deployed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """On all addresses of the machine, as in a pod, but for what the flags say."""
    with deploying(served.repository, tmp_path_factory.mktemp("deployed"), host="0.0.0.0") as deployed:
        yield deployed


@pytest.fixture
def memory() -> Iterator[str]:
    """The name of a piece of shared memory."""
    region = SharedMemory(create=True, size=64)
    yield region.name
    region.close()
    region.unlink()


@pytest.mark.parametrize("certificate", ["no TLS", None, "stranger", "expired"])
def test_who_is_no_client_gets_no_answer(deployed: Deployed, certificate: str | None) -> None:
    tls = None if certificate == "no TLS" else deployed.tls(certificate)
    with TagRecommender(deployed.server.grpc_url, channel=Channel(tls=tls), deadline_s=WAIT_S) as recommender:
        with pytest.raises(Unavailable):  # TLSFailed, unless the server was the first to close the connection
            recommender.recommend(picture(), HISTORY)
        assert not recommender.ready()


def test_a_client_needs_no_key_for_what_a_client_does(deployed: Deployed) -> None:
    with deployed.access().recommender(deployed.server.grpc_url, deadline_s=WAIT_S) as recommender:
        assert recommender.ready()
        assert len(recommender.recommend(picture(), HISTORY).tags) == 5
    with deployed.access().connect(deployed.server.grpc_url) as client:
        assert client.get_server_metadata().version


@pytest.mark.parametrize("key", [None, "another-key", KEY.upper(), ""])
@pytest.mark.parametrize("name", GRPC)
def test_operators_calls_want_the_key(deployed: Deployed, memory: str, name: str, key: str | None) -> None:
    with (
        deployed.access(key).connect(deployed.server.grpc_url) as client,
        pytest.raises(InferenceServerException, match=RESTRICTED),
    ):
        GRPC[name][0](client, memory)


@pytest.mark.parametrize("name", GRPC)
def test_the_key_gives_what_the_server_has_switched_on(deployed: Deployed, memory: str, name: str) -> None:
    call, refusal = GRPC[name]
    with deployed.access(KEY).connect(deployed.server.grpc_url) as client:
        try:
            if refusal:
                with pytest.raises(InferenceServerException, match=refusal):
                    call(client, memory)
            else:
                call(client, memory)
        finally:
            client.unregister_system_shared_memory()
        assert client.is_model_ready("classifier")


@pytest.mark.parametrize("path", HTTP)
def test_http_wants_the_key_as_well(deployed: Deployed, memory: str, path: str) -> None:
    method, body, status = HTTP[path]
    text = None if body is None else json.dumps(body).replace("MEMORY", memory)
    for headers in ({}, {"admin-key": "another-key"}):
        answered, content = asked(deployed, method, path, text, headers)
        assert (answered, "This API is restricted" in content) == (403, True)
    answered, content = asked(deployed, method, path, text, {"admin-key": KEY})
    asked(deployed, "POST", "systemsharedmemory/unregister", "{}", {"admin-key": KEY})
    assert answered == status, content
    assert (NO_MODEL_CONTROL in content) == (status == 503)


def asked(deployed: Deployed, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, str]:
    address = deployed.server.http_url.removeprefix("http://")
    with closing(http.client.HTTPConnection(address, timeout=WAIT_S)) as connection:
        connection.request(method, f"/v2/{path}", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_http_is_on_loopback_alone_and_the_others_are_not(deployed: Deployed) -> None:
    ports = {
        name: int(url.removesuffix("/metrics").rpartition(":")[2])
        for name, url in (
            ("gRPC", deployed.server.grpc_url),
            ("HTTP", deployed.server.http_url),
            ("metrics", deployed.server.metrics_url),
        )
    }
    listening = [
        connection.laddr
        for connection in psutil.Process(deployed.server.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == set(ports.values())
    assert {address.ip for address in listening if address.port == ports["HTTP"]} == {"127.0.0.1"}
    assert "127.0.0.1" not in {address.ip for address in listening if address.port != ports["HTTP"]}
    own = {
        address.address
        for of in psutil.net_if_addrs().values()
        for address in of
        if address.family == socket.AF_INET and address.address != "127.0.0.1"
    }
    for address in {"127.0.0.2", *own}:  # the first one is loopback too, but not where HTTP listens
        reached = {name for name, number in ports.items() if listens(number, address)}
        assert reached == {"gRPC", "metrics"}


def test_metrics_are_open_and_hold_nothing_of_a_request(deployed: Deployed) -> None:
    with deployed.access().recommender(deployed.server.grpc_url, deadline_s=WAIT_S) as recommender:
        recommender.recommend(picture(), HISTORY, request_id="a-request-of-somebody")
    address = deployed.server.metrics_url.removeprefix("http://").removesuffix("/metrics")
    with closing(http.client.HTTPConnection(address, timeout=WAIT_S)) as connection:
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    assert 'nv_inference_request_success{model="tag_recommender"' in metrics
    assert "a-request-of-somebody" not in metrics
    assert "tag-1" not in metrics


def test_connections_end_and_no_call_fails(served: Served, tmp_path: Path) -> None:
    """With a second in place of the manifests' half minute; by a client without retries, which would hide a failure."""
    age = ("--grpc-max-connection-age=1000", f"--grpc-max-connection-age-grace={round(WAIT_S * 1000)}")
    with deploying(served.repository, tmp_path, more=age) as deployed:
        server, seen = deployed.server, set[int]()

        def asked_on_three() -> bool:
            client.infer(contract.TAG_RECOMMENDER.name, rows(1), client_timeout=WAIT_S)
            seen.update(connected(server))
            return len(seen) >= 3

        with deployed.access().connect(server.grpc_url) as client:
            wait_until(asked_on_three)
            wait_until(lambda: not connected(server))  # also where nobody asks
            assert asked_on_three()


def connected(server: Server) -> set[int]:
    """This process's own ports of its connections to the server."""
    return {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr and connection.raddr.port == port(server) and connection.status == psutil.CONN_ESTABLISHED
    }


def test_the_client_sends_nothing_above_its_limit_and_the_server_takes_all_of_it(deployed: Deployed) -> None:
    """A message of 66 MiB: Triton reads it whole before it says that the batch is too large, and lives on."""
    limited = Channel(tls=deployed.tls()).client_arguments(deployed.server.grpc_url)
    refusals = {}
    for name, client in (
        ("limited", triton.InferenceServerClient(**limited)),
        ("unlimited", triton.InferenceServerClient(deployed.server.grpc_url, creds=deployed.tls().credentials())),
    ):
        with client, pytest.raises(InferenceServerException) as caught:
            client.infer(contract.TAG_RECOMMENDER.name, rows(460), client_timeout=WAIT_S)
        refusals[name] = caught.value.message()
    assert "CLIENT: Sent message larger than max" in refusals["limited"]
    assert "batch-size must be <= 32" in refusals["unlimited"]
    assert not gone(deployed.server)


def rows(count: int) -> list[triton.InferInput]:
    """A request of so many, 0.15 MB each."""
    image, history = np.zeros((count, *contract.IMAGE.dims), np.uint8), np.zeros((count, TAGS), np.float32)
    return [infer_input(contract.IMAGE, image), infer_input(contract.USER_TAG_COUNTS, history)]
