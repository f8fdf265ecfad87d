"""Breakdown of the time of a request: Triton's counters over the run, beside the clients' latencies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from altreco_client import contract

from loadtest.errors import LoadtestError
from loadtest.judge.slo import requests_needed
from loadtest.records import Run
from measure.callers import percentile
from measure.markdown import number

PARTS = {
    "queue_ns": "queue",
    "cache_hit_ns": "cache hit",
    "cache_miss_ns": "cache miss",
    "compute_input_ns": "compute input",
    "compute_infer_ns": "infer",
    "compute_output_ns": "compute output",
}
"""Part of a request's time that each of Triton's counters measures."""

PARALLEL = (contract.VISUAL_ENCODER.name, contract.PREFERENCE_ENCODER.name)
"""Models that the ensemble runs in parallel: a request waits for the slower one."""

NONE = "-"
"""Cell without a value."""

ENSEMBLE = contract.TAG_RECOMMENDER.name

FEW_FAILED = 0.01
"""Share of failed requests above which the means of Triton and of the clients cover different requests."""


@dataclass(frozen=True, kw_only=True)
class ModelTime:
    """Work of one model during the run; `parts_ms` are means per request, cache hits included."""

    name: str
    requests: int
    batch: float | None
    """Mean size of the executed batches; None if nothing was executed."""
    cache_hit_share: float | None
    """Share of cache hits; None if the model has no cache."""
    request_ms: float
    """Mean time from a request's arrival at the model to its answer."""
    parts_ms: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        """Sum of all parts."""
        return sum(self.parts_ms.values())


@dataclass(frozen=True, kw_only=True)
class ClientTime:
    """Latency of answered requests as the clients saw it, ms."""

    requests: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    waited_ms: float
    """Mean time from when a request was due to when it was sent."""


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Breakdown of one run; `cpu_share` (mean, 1 is one core), `memory_bytes` (peak) and `gpu_utilization` if known.

    If `incomparable` is empty, the clients' mean is the sum of the wait in the generator, the models of `path`,
    `ensemble_ms` and `outside_ms`.
    """

    models: tuple[ModelTime, ...]
    client: ClientTime
    failed: int
    """Failed requests of the clients."""
    cpu_share: float | None
    memory_bytes: int | None
    gpu_utilization: float | None
    ended: str | None
    """Why sampling the server ended before the run; None if it did not."""

    @property
    def path(self) -> tuple[ModelTime, ...]:
        """Models that a request waits for, one after the other."""
        steps = [model for model in self.models if model.name != ENSEMBLE]
        side_by_side = [model for model in steps if model.name in PARALLEL]
        longest = max(side_by_side, key=lambda model: model.total_ms, default=None)
        return tuple(model for model in steps if model.name not in PARALLEL or model is longest)

    @property
    def aside(self) -> tuple[ModelTime, ...]:
        """Models that run in parallel and take less time."""
        return tuple(model for model in self.models if model.name != ENSEMBLE and model not in self.path)

    @property
    def server_ms(self) -> float:
        """Mean time of a request to the ensemble in the server."""
        return next(model.request_ms for model in self.models if model.name == ENSEMBLE)

    @property
    def ensemble_ms(self) -> float:
        """Mean time in the server outside the models of `path`: the ensemble's scheduling."""
        return self.server_ms - sum(model.total_ms for model in self.path)

    @property
    def outside_ms(self) -> float:
        """Mean time outside the server: network, gRPC and client."""
        return self.client.mean_ms - self.client.waited_ms - self.server_ms

    @property
    def incomparable(self) -> str:
        """Why Triton's counters do not explain the clients' latencies; empty if they do."""
        requests = self.client.requests + self.failed
        if self.failed > FEW_FAILED * requests:
            return f"{self.failed:,} of {requests:,} requests failed"
        if min(self.ensemble_ms, self.outside_ms) < 0:
            return "Triton's times do not fit into them (other callers, few requests, or a busy machine)"
        return ""


def breakdown(run: Run) -> Breakdown:
    """Compute the breakdown from the first and the last sample; raises LoadtestError, saying why there is none."""
    answered = run.records.where(run.records.error < 0)
    if not len(answered):
        raise LoadtestError("no request was answered")
    if len(run.samples) < 2:
        raise LoadtestError("Triton's counters were not sampled before and after the load")
    first, last = run.samples[0]["models"], run.samples[-1]["models"]
    if any(last.get(name, of)["requests"] < of["requests"] for name, of in first.items()):
        raise LoadtestError("Triton was restarted during the run, which resets its counters")
    models = [_model(name, first.get(name, {}), last[name]) for name in last]
    if not any(model.name == ENSEMBLE and model.requests for model in models):
        raise LoadtestError(f"Triton counted no answered request to {ENSEMBLE}")
    latency_ms = answered.latency_ms()
    return Breakdown(
        models=tuple(sorted((model for model in models if model.requests), key=_place)),
        client=ClientTime(
            requests=len(answered),
            mean_ms=float(latency_ms.mean()),
            p50_ms=percentile(latency_ms, 50),
            p99_ms=percentile(latency_ms, 99),
            waited_ms=float(answered.late_ms().mean()),
        ),
        failed=len(run.records) - len(answered),
        cpu_share=_mean(sample["cpu_share"] for sample in run.samples),
        memory_bytes=max((s["memory_bytes"] for s in run.samples if s["memory_bytes"] is not None), default=None),
        ended=run.samples[-1].get("ended"),
        gpu_utilization=_mean(gpu["utilization"] for sample in run.samples for gpu in sample["gpu"]),
    )


def _model(name: str, first: Mapping[str, Any], last: Mapping[str, Any]) -> ModelTime:
    def grown(counter: str) -> int:
        return int(last[counter] - first.get(counter, 0))

    requests, executions = grown("requests"), grown("executions")
    looked_up = grown("cache_hit") + grown("cache_miss")
    return ModelTime(
        name=name,
        requests=requests,
        batch=grown("rows") / executions if executions else None,
        cache_hit_share=grown("cache_hit") / looked_up if looked_up else None,
        request_ms=grown("request_ns") / 1e6 / requests if requests else 0.0,
        parts_ms={part: grown(counter) / 1e6 / requests if requests else 0.0 for counter, part in PARTS.items()},
    )


def _place(model: ModelTime) -> int:
    """Sort key: the ensemble, then its steps in order."""
    order = [ENSEMBLE, *(component.name for component in contract.COMPONENTS)]
    return order.index(model.name) if model.name in order else len(order)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rows(table: Breakdown) -> tuple[list[str], list[list[str]]]:
    """Make the table, in ms per request: the clients, the models, and the remaining parts if they are comparable."""
    heads = ["", "requests", "mean batch", "cache hits", *PARTS.values(), "sum", "p50", "p99"]
    client, counted = table.client, table.client.requests
    percentiles = {
        name: number(ms)
        for name, ms in (("p50", client.p50_ms), ("p99", client.p99_ms))
        if counted >= requests_needed(f"{name}_ms", 0)
    }

    def line(name: str, sum_ms: float | None, *, p50: str = NONE, p99: str = NONE, **cells: str) -> list[str]:
        counts = [cells.get(head, NONE) for head in ("requests", "batch", "hits")]
        parts = [cells.get(part, NONE) for part in PARTS.values()]
        return [name, *counts, *parts, NONE if sum_ms is None else number(sum_ms), p50, p99]

    lines = [
        line(
            "answered requests, as clients saw them",
            client.mean_ms,
            **percentiles,
            requests=f"{counted:,}",
        )
    ]
    for model in table.models:
        ensemble = model.name == ENSEMBLE  # its own counters sum up those of its steps
        cells = {} if ensemble else {part: number(ms) for part, ms in model.parts_ms.items()}
        cells["requests"] = f"{model.requests:,}"
        if model.batch is not None and not ensemble:
            cells["batch"] = number(model.batch)
        if model.cache_hit_share is not None:
            cells["hits"] = f"{100 * model.cache_hit_share:.1f} %"
        lines.append(line(model.name, model.request_ms if ensemble else model.total_ms, **cells))
    if not table.incomparable:
        lines.append(line("wait in the generator", client.waited_ms))
        lines.append(line("scheduling of the ensemble", table.ensemble_ms))
        lines.append(line("network, gRPC, client", table.outside_ms))
    return heads, lines
