"""Triton's counters and metrics, and the memory, files and connections of its processes."""

import re
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import psutil
import tritonclient.grpc as triton
from altreco_client import contract

from measure.markdown import mib

DEADLINE_S = 5.0

METRIC = re.compile(r"^(?P<name>nv_\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
GPU = {"utilization": "nv_gpu_utilization", "memory_bytes": "nv_gpu_memory_used_bytes"}
"""Triton's metric for each GPU figure."""

Counters = dict[str, dict[str, Any]]
"""Values by model and counter."""


def replicas(url: str) -> list[str]:
    """List host:port of each server in a gRPC address; a name to be resolved by DNS is returned as it is."""
    scheme, _, addresses = url.partition(":")
    return addresses.split(",") if scheme == "ipv4" else [url]


def counters(*servers: triton.InferenceServerClient) -> Counters:
    """Read Triton's statistics so far, summed over servers and loaded versions; `ns` are nanoseconds.

    `requests` counts answered requests, and `request_ns` the time from their arrival to their answer. `rows` counts
    the pictures that were executed, not taken from the cache; `batch_sizes` counts executions by size. Raises
    InferenceServerException.
    """
    models: Counters = {}
    statistics = [server.get_inference_statistics(client_timeout=DEADLINE_S).model_stats for server in servers]
    for of in chain(*statistics):
        stats, model = of.inference_stats, models.setdefault(of.name, {"batch_sizes": {}})
        version = {
            "requests": stats.success.count,
            "request_ns": stats.success.ns,
            "executions": of.execution_count,
            "rows": of.inference_count,
            "queue_ns": stats.queue.ns,
            "compute_input_ns": stats.compute_input.ns,
            "compute_infer_ns": stats.compute_infer.ns,
            "compute_output_ns": stats.compute_output.ns,
            "cache_hit": stats.cache_hit.count,
            "cache_miss": stats.cache_miss.count,
            "cache_hit_ns": stats.cache_hit.ns,
            "cache_miss_ns": stats.cache_miss.ns,
            "fail": stats.fail.count,
        }
        for counter, value in version.items():
            model[counter] = model.get(counter, 0) + value
        for batch in of.batch_stats:
            size = str(batch.batch_size)
            model["batch_sizes"][size] = model["batch_sizes"].get(size, 0) + batch.compute_infer.count
    return models


def grown(first: Mapping[str, Any], last: Mapping[str, Any], model: contract.Model, counter: str) -> int:
    """Compute how much a model's counter grew between two `counters`."""
    return int(last[model.name][counter] - first[model.name][counter])


def hit_share(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Compute the share of pictures between two `counters` whose encoding was cached; 0 without pictures."""
    hits, misses = (grown(first, last, contract.VISUAL_ENCODER, key) for key in ("cache_hit", "cache_miss"))
    return hits / (hits + misses) if hits + misses else 0.0


def metrics(urls: Sequence[str]) -> dict[str, Any]:
    """Read Triton's metrics: `pending` requests by model, and figures of each `gpu`. Raises OSError, HTTPException."""
    pending: dict[str, int] = {}
    gpus: dict[str, dict[str, Any]] = {}
    for metric in METRIC.finditer("\n".join(map(read, urls))):
        labels, value = dict(LABEL.findall(metric["labels"])), float(metric["value"])
        if metric["name"] == "nv_inference_pending_request_count":
            pending[labels["model"]] = pending.get(labels["model"], 0) + int(value)
        for key, name in GPU.items():
            if metric["name"] == name:
                gpus.setdefault(labels["gpu_uuid"], dict.fromkeys(GPU))[key] = value
    return {"pending": pending, "gpu": [gpus[uuid] for uuid in sorted(gpus)]}


@dataclass(frozen=True)
class Footprint:
    """Resources of a process and its children; `connections` are those of clients to the process's ports."""

    memory_bytes: int
    """Proportional set size: memory that processes share counts once."""
    resident_bytes: int
    files: int
    connections: int
    threads: int

    def grown_mib(self, before: "Footprint") -> float:
        """Compute the growth of memory since `before`, MiB."""
        return (self.memory_bytes - before.memory_bytes) / 1024**2

    def __str__(self) -> str:
        """Format the figures with their units."""
        return (
            f"{mib(self.memory_bytes)}, {self.files:,} open files, {self.connections:,} connections, "
            f"{self.threads:,} threads"
        )


def footprint(pid: int) -> Footprint:
    """Measure the footprint of a process and its children; raises psutil.NoSuchProcess."""
    memory = files = threads = resident = 0
    for process in processes(pid):
        with suppress(psutil.NoSuchProcess):  # a child that has ended since
            sizes = process.memory_full_info()
            memory, resident = memory + sizes.pss, resident + sizes.rss
            files, threads = files + process.num_fds(), threads + process.num_threads()
    return Footprint(memory, resident, files, connections(pid), threads)


def connections(pid: int) -> int:
    """Count clients' connections to a process's ports, in any state."""
    held = psutil.Process(pid).net_connections("tcp")
    return sum(connection.status != psutil.CONN_LISTEN for connection in held)


def processes(pid: int) -> list[psutil.Process]:
    """List a process and its descendants; raises psutil.NoSuchProcess."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> dict[int, float]:
    """Measure the CPU time of a process and of its descendants, s, by pid; raises psutil.NoSuchProcess."""
    used = {}
    for process in processes(pid):
        with suppress(psutil.NoSuchProcess):  # a child that has ended since
            times = process.cpu_times()
            used[process.pid] = times.user + times.system
    return used


def read(url: str) -> str:
    """Read a URL of this machine or cluster, as text, whatever http_proxy says. Raises OSError and HTTPException."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
        return text
