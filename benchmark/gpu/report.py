"""The section "On a GPU" of `benchmarks.md`, rendered from `gpu.json`."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmark.gpu.settings import STAGES
from measure.markdown import cell, number, ratios, table

RESULTS, FORMAT = "gpu.json", "altreco-gpu-1"
TITLE = "On a GPU"


def render_gpu(results: Mapping[str, Any]) -> list[str]:
    """Render all stages as lines of Markdown, and name the stages that were not measured."""
    if not results:
        return [
            f"## {TITLE}",
            "",
            "    make gpu",
            "",
            f"Not measured: no GPU was available. The command writes {len(STAGES)} tables here, one for each stage.",
            "",
        ]
    machines = dict.fromkeys(of["conditions"]["machine"] for stage, of in results.items() if stage != "check")
    lines = [
        f"## {TITLE}",
        "",
        "    make gpu",
        "",
        *(f"- {machine}" for machine in machines),
        "",
        "The ensemble runs on the local Triton with the configs of the variant `gpu` and random weights. Raw ONNX "
        "Runtime runs in one process, from arrays to arrays. All clients share one Python process, which may be the "
        "bottleneck when they send single pictures. A cell is the median over the rounds and their range.",
        "",
    ]
    for stage, title in STAGES.items():
        lines += [f"### {title}", "", f"    .venv/bin/python -m benchmark.gpu --only {stage}", ""]
        lines += [*RENDERERS[stage](results[stage]), ""] if stage in results else ["Not measured yet.", ""]
    return lines


def _check(stage: Mapping[str, Any]) -> list[str]:
    return [f"Found {stage['found']}.", *(f"- {line}" for line in stage["problems"])]


def _engines(stage: Mapping[str, Any]) -> list[str]:
    if "missing" in stage:
        return [f"Not measured: {stage['missing']}."]
    sizes = list(next(iter(stage["engines"].values())))
    heads = ["", *(f"{size} per call, {unit}" for size in sizes for unit in ("ms", "pictures per second"))]
    return table(
        heads,
        [
            [name, *(_of(of[size], key) for size in sizes for key in ("p50_ms", "pictures_per_s"))]
            for name, of in stage["engines"].items()
        ],
    )


def _served(stage: Mapping[str, Any]) -> list[str]:
    rounds = stage["rounds"]
    lines = _serving(stage)
    for name in rounds:
        if (raw := name.replace("served", "raw")) in rounds and raw != name:
            rates = [[of["large_pictures_per_s"] for of in rounds[each]] for each in (raw, name)]
            lines.append(f"`{name}` reaches {cell(ratios(*rates))} of the rate of `{raw}`.")
    return [*lines, "", *_parts(rounds)]


def _serving(stage: Mapping[str, Any]) -> list[str]:
    keys = {
        "p50_ms": "p50, ms, 1 client",
        "pictures_per_s": f"pictures per second, {stage['clients']} clients",
        "p99_ms": f"p99, ms, {stage['clients']} clients",
        "large_pictures_per_s": f"pictures per second in requests of {stage['request']}",
    }
    lines = [[name, *(_of(of, key) if key in of[0] else "" for key in keys)] for name, of in stage["rounds"].items()]
    return [*table(["", *keys.values()], lines), ""]


def _parts(rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Show where the time of a large request goes, by Triton's counters of each model: medians over the rounds."""
    lines = []
    for name, of in rounds.items():
        for model, parts in of[0].get("parts_ms", {}).items():
            values = [number(median(each["parts_ms"][model][part] for each in of)) for part in parts]
            lines.append([name, model, *values])
            heads = ["ms per large request", "model", *parts]
    return table(heads, lines) if lines else []


def _settings(stage: Mapping[str, Any]) -> list[str]:
    return _serving(stage)[:-1]


def _rates(stage: Mapping[str, Any]) -> list[str]:
    heads = ["requests per second", "answers per second", "p50, ms", "p95, ms", "p99, ms"]
    keys = ("rate_per_s", "answered_per_s", "p50_ms", "p95_ms", "p99_ms")
    return table(heads, [[number(row[key]) for key in keys] for row in stage["rates"]])


def _cache(stage: Mapping[str, Any]) -> list[str]:
    load = stage["load"]
    alone = [name for name in load if name.endswith(", 1 client")]
    together = [name for name in load if name not in alone]
    heads = ["load", "p50, ms, 1 client", f"requests per second, {stage['clients']} clients", "hit rate"]
    return table(
        heads,
        [
            [
                one.partition(",")[0],
                cell(load[one]["p50_ms"]),
                cell(load[many]["requests_per_s"]),
                number(median(load[many]["hit_rate"])),
            ]
            for one, many in zip(alone, together, strict=True)
        ],
    )


def _copies(stage: Mapping[str, Any]) -> list[str]:
    sizes = list(stage["input_bytes"])
    lines = [[name, *(_of(of[size], "p50_ms") for size in sizes)] for name, of in stage["ways"].items()]
    lines.append(["bytes of the inputs", *(f"{stage['input_bytes'][size]:,}" for size in sizes)])
    return table(["ms per call", *(f"{size} pictures" for size in sizes)], lines)


def _training(stage: Mapping[str, Any]) -> list[str]:
    steps = stage["steps_per_s"]
    read = ", ".join(f"{number(rate)} with {workers}" for workers, rate in stage["read_pictures_per_s"].items())
    memory = stage["memory_bytes"]
    return [
        f"Preset `{stage['preset']}`, batches of {stage['batch']}, {stage['tags']:,} tags"
        f"{f', at most {memory / 1024**3:.1f} GiB of GPU memory' if memory else ''}.",
        "",
        *table(
            ["", "fp32", "bf16", "bf16 / fp32"],
            [
                [
                    "steps per second",
                    cell(steps["fp32"]),
                    cell(steps["bf16"]),
                    cell(ratios(steps["fp32"], steps["bf16"])),
                ]
            ],
        ),
        "",
        f"Pictures read per second, with this many worker processes (0: in the training process): {read}.",
    ]


def _of(rounds: Sequence[Mapping[str, float]], key: str) -> str:
    return cell([of[key] for of in rounds])


RENDERERS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "check": _check,
    "raw": _engines,
    "tensorrt": _engines,
    "served": _served,
    "batching": _settings,
    "instances": _settings,
    "rates": _rates,
    "cache": _cache,
    "copies": _copies,
    "training": _training,
}
