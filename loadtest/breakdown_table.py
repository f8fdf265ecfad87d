"""Where the time of a request goes: Triton's own counters over the run, beside what the clients saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from altreco_client import contract

from loadtest.errors import LoadtestError
from loadtest.records import Run
from measure.callers import percentile

PARTS = {
    "queue_ns": "queue",
    "cache_hit_ns": "cache, found",
    "cache_miss_ns": "cache, not found",
    "compute_input_ns": "compute input",
    "compute_infer_ns": "infer",
    "compute_output_ns": "compute output",
}
"""Triton's counter to the part of a request's time."""

PARALLEL = (contract.VISUAL_ENCODER.name, contract.PREFERENCE_ENCODER.name)
"""The ensemble runs them side by side, so that a request waits for the longer one."""

NONE = "-"
"""A cell without a value."""

ENSEMBLE = contract.TAG_RECOMMENDER.name


@dataclass(frozen=True, kw_only=True)
class ModelTime:
    """What one model did in the run; `parts_ms` are per request, those that the cache answered included."""

    name: str
    requests: int
    failed: int
    executions: int
    batch: float | None
    """Mean size of the executed batches; None: nothing was executed."""
    batch_sizes: Mapping[int, int]
    """Size to executions."""
    cache_hit_share: float | None
    """None: it has no cache."""
    request_ms: float
    """From a request's arrival at the model to its answer."""
    parts_ms: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        """Of all parts."""
        return sum(self.parts_ms.values())


@dataclass(frozen=True, kw_only=True)
class ClientTime:
    """What the clients saw, of answered requests; ms."""

    requests: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    waited_ms: float
    """Mean, before the request left: behind schedule."""


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """One run's; `cpu_share` (mean, 1 is one core), `memory_bytes` (most) and `gpu_utilization` where known.

    The clients' mean is what waited in the generator, the models of `path`, `ensemble_ms` and `outside_ms`.
    """

    models: tuple[ModelTime, ...]
    client: ClientTime
    cpu_share: float | None
    memory_bytes: int | None
    gpu_utilization: float | None
    ended: str | None
    """Why the server could be sampled no longer, before the run's end."""

    @property
    def path(self) -> tuple[ModelTime, ...]:
        """The models that a request waits for, one after the other."""
        steps = [model for model in self.models if model.name != ENSEMBLE]
        side_by_side = [model for model in steps if model.name in PARALLEL]
        longest = max(side_by_side, key=lambda model: model.total_ms, default=None)
        return tuple(model for model in steps if model.name not in PARALLEL or model is longest)

    @property
    def aside(self) -> tuple[ModelTime, ...]:
        """The models that run meanwhile, and are not waited for."""
        return tuple(model for model in self.models if model.name != ENSEMBLE and model not in self.path)

    @property
    def server_ms(self) -> float:
        """Of a request to the ensemble, in the server."""
        return next(model.request_ms for model in self.models if model.name == ENSEMBLE)

    @property
    def ensemble_ms(self) -> float:
        """In the server, and in no model that is waited for: the ensemble's scheduling."""
        return self.server_ms - sum(model.total_ms for model in self.path)

    @property
    def outside_ms(self) -> float:
        """Before the server and after it: network, gRPC and client."""
        return self.client.mean_ms - self.client.waited_ms - self.server_ms


def breakdown(run: Run) -> Breakdown:
    """Last sample less the first; raises LoadtestError, saying why there is none."""
    answered = run.records.where(run.records.error < 0)
    if not len(answered):
        raise LoadtestError("no request was answered")
    if len(run.samples) < 2:
        raise LoadtestError("Triton's statistics were not sampled, before the load and after it")
    first, last = run.samples[0]["models"], run.samples[-1]["models"]
    if any(last.get(name, of)["requests"] < of["requests"] for name, of in first.items()):
        raise LoadtestError("Triton was restarted during the run, and its counters began anew")
    models = [_model(name, first.get(name, {}), last[name]) for name in last]
    if not any(model.name == ENSEMBLE and model.requests for model in models):
        raise LoadtestError(f"Triton's statistics have no answered request to {ENSEMBLE}")
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
    before = first.get("batch_sizes", {})
    sizes = {int(size): count - before.get(size, 0) for size, count in last["batch_sizes"].items()}
    return ModelTime(
        name=name,
        requests=requests,
        failed=grown("fail"),
        executions=executions,
        batch=grown("rows") / executions if executions else None,
        batch_sizes={size: count for size, count in sorted(sizes.items()) if count},
        cache_hit_share=grown("cache_hit") / looked_up if looked_up else None,
        request_ms=grown("request_ns") / 1e6 / requests if requests else 0.0,
        parts_ms={part: grown(counter) / 1e6 / requests if requests else 0.0 for counter, part in PARTS.items()},
    )


def _place(model: ModelTime) -> int:
    """In the order of a request: the ensemble, then its steps."""
    order = [ENSEMBLE, *(component.name for component in contract.COMPONENTS)]
    return order.index(model.name) if model.name in order else len(order)


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rows(table: Breakdown) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: the clients first, then the models, then what the clients waited for besides; ms a request."""
    heads = ["", "requests", "mean batch", "cache hits", *PARTS.values(), "sum", "p50", "p99"]
    client = table.client

    def line(name: str, sum_ms: float | None, *, p50: str = NONE, p99: str = NONE, **cells: str) -> list[str]:
        counts = [cells.get(head, NONE) for head in ("requests", "batch", "hits")]
        parts = [cells.get(part, NONE) for part in PARTS.values()]
        return [name, *counts, *parts, NONE if sum_ms is None else _ms(sum_ms), p50, p99]

    lines = [
        line(
            "what the clients saw",
            client.mean_ms,
            p50=_ms(client.p50_ms),
            p99=_ms(client.p99_ms),
            requests=f"{client.requests:,}",
        )
    ]
    for model in table.models:
        ensemble = model.name == ENSEMBLE  # its own counters are its steps' together
        cells = {} if ensemble else {part: _ms(ms) for part, ms in model.parts_ms.items()}
        cells["requests"] = f"{model.requests:,}"
        if model.batch is not None and not ensemble:
            cells["batch"] = f"{model.batch:.2f}"
        if model.cache_hit_share is not None:
            cells["hits"] = f"{100 * model.cache_hit_share:.1f} %"
        lines.append(line(model.name, model.request_ms if ensemble else model.total_ms, **cells))
    lines.append(line("the generator, late to send", client.waited_ms))
    lines.append(line("the ensemble's scheduling", table.ensemble_ms))
    lines.append(line("network, gRPC, client", table.outside_ms))
    return heads, lines


def _ms(value: float) -> str:
    return f"{value:.2f}"
