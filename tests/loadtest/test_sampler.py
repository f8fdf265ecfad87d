import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from deploy.local import Server
from loadtest.errors import LoadtestError
from loadtest.run.sampler import sampling, save_samples
from measure.waiting import wait_until
from tests.client.odd_server import Odd
from tests.client.odd_server import serving as serving_odd
from tests.deploy.models import config, double, write_model
from tests.servers import serving

COUNTERS = {
    "requests",
    "executions",
    "rows",
    "queue_ns",
    "compute_input_ns",
    "compute_infer_ns",
    "compute_output_ns",
    "cache_hit",
    "cache_miss",
    "cache_hit_ns",
    "cache_miss_ns",
    "fail",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    more = "response_cache { enable: true } version_policy { all { } } dynamic_batching { }"
    write_model(tmp_path, "cached", double(), config(more=more))
    shutil.copytree(tmp_path / "cached" / "1", tmp_path / "cached" / "2")
    with serving(tmp_path, strict=False) as server:
        yield server


def ask(url: str, rows: list[float], version: str = "") -> None:
    array = np.array([[value] * 3 for value in rows], dtype=np.float32)
    entry = triton.InferInput("X", array.shape, "FP32")
    entry.set_data_from_numpy(array)
    with triton.InferenceServerClient(url) as client:
        client.infer("cached", [entry], model_version=version)


def test_samples_count_what_was_asked_between_them(server: Server, tmp_path: Path) -> None:
    with sampling(server.grpc_url, [server.metrics_url], server.pid, every_s=0.1) as samples:
        assert len(samples) == 1  # before the load
        ask(server.grpc_url, [1, 2, 3], version="1")
        ask(server.grpc_url, [4], version="2")
        ask(server.grpc_url, [4], version="2")
        wait_until(lambda: len(samples) > 3 and is_counted(samples[-1]))
    first, last = samples[0]["models"]["cached"], samples[-1]["models"]["cached"]
    assert last.keys() == {*COUNTERS, "request_ns", "batch_sizes"}
    grown = {counter: last[counter] - first[counter] for counter in COUNTERS}
    assert (grown["requests"], grown["executions"], grown["rows"], grown["fail"]) == (3, 2, 4, 0)
    assert (grown["cache_hit"], grown["cache_miss"]) == (1, 2)
    assert last["batch_sizes"] == {"3": 1, "1": 1}
    parts = sum(grown[f"compute_{part}_ns"] for part in ("input", "infer", "output"))
    assert 0 < parts < last["request_ns"] - first["request_ns"] < 30e9
    times = [sample["t_s"] for sample in samples]
    assert times[0] >= 0
    assert times == sorted(times)
    assert all(sample["pending"].keys() == {"cached"} for sample in samples)
    assert samples[0]["pending"] == samples[-1]["pending"] == {"cached": 0}
    assert all("ended" not in sample for sample in samples)
    save_samples(tmp_path / "server.json", samples)
    assert json.loads((tmp_path / "server.json").read_text()) == {"samples": samples}


def is_counted(sample: dict[str, Any]) -> bool:
    """Triton counts a request after its answer."""
    cached = sample["models"]["cached"]
    return (cached["requests"], cached["executions"]) == (3, 2) and sample["pending"] == {"cached": 0}


def test_processor_and_memory_are_those_of_triton_and_its_children(server: Server) -> None:
    with sampling(server.grpc_url, [], server.pid, every_s=0.5) as samples:
        begun_s = time.monotonic()
        while len(samples) < 3 or max(sample["cpu_share"] or 0 for sample in samples) < 0.02:
            ask(server.grpc_url, list(np.random.default_rng().random(8)))
            assert time.monotonic() - begun_s < 60, samples
    assert samples[0]["cpu_share"] is None
    shares = [sample["cpu_share"] for sample in samples if sample["cpu_share"] is not None]
    assert 0 <= min(shares) < 2 * len(os.sched_getaffinity(0))  # an interval may be one in which nothing ran
    assert 50e6 < samples[-1]["memory_bytes"] < 2e9  # Triton and a Python with ONNX Runtime
    assert samples[-1]["pending"] == {}
    with sampling(server.grpc_url, [server.metrics_url], None) as samples:
        pass
    assert (samples[-1]["cpu_share"], samples[-1]["memory_bytes"]) == (None, None)


def test_a_server_that_dies_ends_the_samples_with_a_reason(server: Server) -> None:
    with sampling(server.grpc_url, [server.metrics_url], server.pid, every_s=0.05) as samples:
        wait_until(lambda: len(samples) > 2)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: "ended" in samples[-1])
        count = len(samples)
    assert len(samples) == count
    assert [("ended" in sample) for sample in samples] == [False] * (count - 1) + [True]
    assert samples[-1]["ended"]
    assert samples[-1]["models"]["cached"]["fail"] == 0


def test_no_server_is_an_error() -> None:
    reason = r"127\.0\.0\.1:9 returns no statistics .* is Triton running"
    with pytest.raises(LoadtestError, match=reason), sampling("127.0.0.1:9", [], None):
        pytest.fail("there is nothing to sample")


class Rude(Odd):
    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> None:  # noqa: N802
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone\x1b[2K\nerror: forged")


def test_a_servers_words_are_escaped() -> None:
    with (
        serving_odd(Rude()) as url,
        pytest.raises(LoadtestError, match=re.escape(r"no statistics (gone\x1b[2K\nerror: forged)")),
        sampling(url, [], None),
    ):
        pytest.fail("there is nothing to sample")


def test_a_process_that_is_not_there_is_an_error(server: Server) -> None:
    gone = 2**22 + 1  # above Linux's largest process id
    with pytest.raises(LoadtestError, match=f"there is no process {gone}"), sampling(server.grpc_url, [], gone):
        pytest.fail("there is nothing to sample")
