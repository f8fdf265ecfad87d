"""Folders of runs that never took place: what they would have measured is known."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.load.workload import DEFAULT, load_workload
from loadtest.records import Records, Run, load_run, save_records
from loadtest.second_opinion.perf_analyzer import FEWEST, PerfAnalyzerResult, Schedule, numbered

MODELS = {"tag_recommender": 0.0, "visual_encoder": 12.0, "preference_encoder": 0.4, "classifier": 1.1}
"""Milliseconds of inference of a request."""

PERF_ANALYZER = PerfAnalyzerResult(
    seconds=30,
    requests_per_s=19.9,
    mean_ms=18.1,
    p50_ms=18,
    p90_ms=19,
    p95_ms=20,
    p99_ms=21,
    server_ms=17,
    hit_share=0.4,
)


def lognormal(count: int, *, median_ms: float = 20, spread: float = 0.3, seed: int = 0) -> NDArray[np.float64]:
    return median_ms * np.exp(spread * np.random.default_rng(seed).standard_normal(count))


def poisson(rate: float, seconds: float, *, repeated: float = 0.0, seed: int = 0) -> Schedule:
    """Draw an open load at `rate` requests per second, with a share of repeated pictures."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, max(FEWEST, round(1.5 * rate * seconds))))
    arrivals = arrivals[arrivals < seconds]
    return Schedule(arrivals, numbered(rng.random(len(arrivals)) < repeated, rng), rng.random(len(arrivals)) < 0.5)


def make_run(
    folder: Path,
    latency_ms: NDArray[np.float64],
    *,
    duration_s: float = 60,
    failed: NDArray[np.bool_] | None = None,
    samples: bool = True,
    cpu_share: float = 0.35,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Evenly spaced requests of these latencies, two in five with repeat pictures, one in five cold; an open load."""
    count = len(latency_ms)
    failed = np.zeros(count, dtype=bool) if failed is None else failed
    at, serial = np.linspace(0, duration_s * 0.999, count), np.arange(count)
    records = Records(
        intended_s=at,
        started_s=at + 0.0005,
        ended_s=at + latency_ms / 1000,
        rows=np.ones(count, dtype=np.int16),
        repeat=serial % 5 < 2,
        cold=serial % 5 == 4,
        phase=(at > duration_s / 2).astype(np.int16),
        error=np.where(failed, serial % 2, -1).astype(np.int16),
        errors=("DeadlineExceeded: no answer within 2 s", "Unavailable: <no server> answers"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_records(folder / "records.npz", records)
    (folder / "run.json").write_text(json.dumps(_settings(duration_s, cpu_share) | dict(settings or {})))
    times = np.linspace(0, duration_s, 31 if samples else 0)
    server = {"samples": [_sample(float(t), int(count * t / duration_s)) for t in times]}
    (folder / "server.json").write_text(json.dumps(server))
    return load_run(folder)


def workload(*, cold_share: float = 0.2) -> dict[str, Any]:
    """The default workload as JSON has it, with another share of users without history."""
    values = asdict(load_workload(DEFAULT))
    return {**values, "users": {**values["users"], "cold_share": cold_share}}


def _settings(duration_s: float, cpu_share: float) -> dict[str, Any]:
    return {
        "format": "altreco-loadtest-1",
        "profile": {
            "name": "steady",
            "rate": 20,
            "stages": [{"name": name, "duration_s": duration_s / 2} for name in ("first", "second")],
        },
        "workload": workload(),
        "url": "localhost:8001",
        "started": "2026-01-31T12:00:00+00:00",
        "duration_s": duration_s,
        "ended_early": None,
        "environment": {
            "machine": "2 cores of a processor",
            "versions": {"tritonclient": "2.73.0", "locust": "2.47.0"},
            "git": "0123abc",
        },
        "generator": {
            "cpu_share": [[t, cpu_share] for t in range(1, int(duration_s))],
            "limit_requests_per_s": 900.0,
            "workers": 1,
            "load": "open",
        },
        "server_config": {"visual_encoder": {"max_queue_delay_microseconds": 1000}},
    }


def _sample(t_s: float, requests: int) -> dict[str, Any]:
    models = {name: _counters(name, requests, infer_ms) for name, infer_ms in MODELS.items()}
    pending = {"visual_encoder": int(3 + 2 * np.sin(t_s))}
    return {
        "t_s": t_s,
        "models": models,
        "cpu_share": 1.7 + 0.1 * np.sin(t_s),
        "memory_bytes": 700 << 20,
        "gpu": [],
        "pending": pending,
    }


def _counters(name: str, requests: int, infer_ms: float) -> dict[str, Any]:
    """From an earlier load 100 requests more; batches of two, and four in ten encodings from the cache."""
    total = 100 + requests
    hits = total * 2 // 5 if name == "visual_encoder" else 0
    executed = total - hits
    return {
        "requests": total,
        "request_ns": int(total * 17.5e6),
        "executions": executed // 2,
        "rows": executed,
        "queue_ns": int(total * 1.5e6),
        "compute_input_ns": int(total * 0.2e6),
        "compute_infer_ns": int(total * infer_ms * 1e6),
        "compute_output_ns": int(total * 0.1e6),
        "cache_hit": hits,
        "cache_miss": executed if name == "visual_encoder" else 0,
        "cache_hit_ns": int(hits * 0.3e6),
        "cache_miss_ns": 0,
        "fail": 0,
        "batch_sizes": {"2": executed // 2},
    }
