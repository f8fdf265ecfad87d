"""From `benchmarks.json` to `benchmarks.md` and its picture."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.client import render_client
from benchmark.images import render_images
from benchmark.peers_section import render_peers
from benchmark.settings import SECTIONS
from benchmark.tables import cell, header, number, row
from export.errors import ExportError
from training import figures
from training.files import write_text

RESULTS, REPORT, PICTURE = "benchmarks.json", "benchmarks.md", "benchmarks.png"
MARK = "<!-- Above: written by hand, and kept. Below: written by `python -m benchmark`. -->"
METRICS = {"p50_ms": "p50, ms", "p99_ms": "p99, ms", "requests_per_s": "requests a second"}
BASELINES = ("unfolded", "fp32")
FORMAT = "altreco-benchmarks-1"

Results = Mapping[str, Mapping[str, Any]]
"""Section to what it measured, with its conditions."""


def read_results(folder: Path) -> dict[str, Any]:
    """Those that are there already, none at first; raises ExportError for a damaged file."""
    path = folder / RESULTS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path} holds no results of this benchmark ({error}): remove it, and measure again"
        ) from error
    return values


def write_results(folder: Path, results: Results) -> None:
    """Write them as JSON, whole or not at all."""
    write_text(folder / RESULTS, json.dumps({"format": FORMAT, **results}, indent=1) + "\n")


def write_report(folder: Path) -> Path:
    """Render the results in `folder` beside them; what stands above MARK is kept. Raises ExportError without any."""
    results = read_results(folder)
    if not results:
        raise ExportError(f"no results in {folder / RESULTS}: measure first, with `python -m benchmark`")
    _draw(results, folder / PICTURE)
    report = folder / REPORT
    by_hand = report.read_text(encoding="utf-8").split(MARK)[0] if report.exists() else "# Benchmarks\n\n"
    machines = {_machine(of["conditions"]) for of in results.values()}
    lines = [MARK, "", *sorted(machines if len(machines) == 1 else ()), f"![Requests a second]({PICTURE})", ""]
    for section in (section for section in SECTIONS if section in results):
        of = results[section]
        lines += [f"## {SECTIONS[section]}", "", f"    {of['conditions']['command']}", ""]
        lines += [_machine(of["conditions"])] if len(machines) > 1 else []
        lines += RENDERERS[section](of)
    write_text(report, by_hand + "\n".join(lines))
    return report


def _machine(conditions: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return f"Measured on {conditions['machine']}, with the clients on the same cores; {versions}.\n"


def _rounds(section: Mapping[str, Any]) -> list[str]:
    of = section["conditions"]
    return [
        f"Took {of['minutes']:.1f} minutes. Preset `{of['preset']}` with random weights, served by Triton, its cache "
        f"{_size(of['cache_size_bytes'])}. Each cell is the median over {of['rounds']} rounds, and their range; in a "
        f"round, every contestant has {of['window_s']:g} s for each kind of load.",
        "",
    ]


def _split(section: Mapping[str, Any]) -> list[str]:
    passed, cache = section["bytes_between_models"], section["cache"]
    a_picture = {name: of["bytes_a_picture"] for name, of in cache.items()}
    rows = [
        _static("bytes between the models, a picture", passed),
        _static("bytes of cache, a picture (size over pictures held)", a_picture),
    ]
    return [
        *_rounds(section),
        *header("", ["folded", "unfolded", "unfolded / folded"]),
        *rows,
        *_load_rows(section["load"], "folded", "unfolded"),
        "",
        f"The answers of the two are at most {section['max_abs_difference']:.1e} apart in any tag's probability.",
        "",
    ]


def _precision(section: Mapping[str, Any]) -> list[str]:
    sizes, names = section["bytes"], list(section["bytes"])
    totals = {name: sum(of.values()) for name, of in sizes.items()}
    return [
        *_rounds(section),
        *header("", ["fp32", "int8", "int8 / fp32"]),
        *_load_rows(section["load"], "fp32", "int8"),
        row("loading and warming, served, s", section["loading_s"], "fp32", "int8"),
        "",
        *header("file sizes, MB", names),
        *(
            f"| `{model}` | {' | '.join(f'{sizes[name][model] / 1e6:.1f}' for name in names)} |"
            for model in sizes[names[0]]
        ),
        f"| all | {' | '.join(f'{totals[name] / 1e6:.1f}' for name in names)} |",
        "",
        f"int8 keeps {_listed(section['kept_in_float'])} in float. fp16 is for GPUs, and its speed was not measured: "
        "a CPU computes it in fp32. Random weights say nothing of how well int8 tags; the next section does.",
        "",
    ]


def _quality(section: Mapping[str, Any]) -> list[str]:
    values = section["precision_at_5"]
    reference = values["checkpoint"]
    return [
        f"Of a model trained on generated pictures (preset `{section['preset']}`), with the users' histories, on "
        f"{section['pictures']:,} test pictures.",
        "",
        *header("", ["precision@5", "against the checkpoint"]),
        *(f"| {name} | {value:.4f} | {value - reference:+.4f} |" for name, value in values.items()),
        "",
        f"int8 keeps {_listed(section['kept_in_float'])} in float.",
        "",
    ]


def _cache(section: Mapping[str, Any]) -> list[str]:
    load = section["load"]["folded"]
    one = [name for name in load if name.endswith(", 1 client")]
    several = [name for name in load if name not in one]
    clients = section["conditions"]["clients"]
    return [
        *_rounds(section),
        *header(
            "asked for", ["hit rate", "p50, ms, 1 client", "p99, ms, 1 client", f"requests a second, {clients} clients"]
        ),
        *(
            f"| {alone.partition(',')[0]} | {cell(load[together]['hit_rate'])} | {cell(load[alone]['p50_ms'])} | "
            f"{cell(load[alone]['p99_ms'])} | {cell(load[together]['requests_per_s'])} |"
            for alone, together in zip(one, several, strict=True)
        ),
        "",
        "The hit rate is Triton's own, `nv_cache_num_hits_per_model` over hits and misses.",
        "",
        *header("size of the cache (`--cache-size`)", ["pictures held", "bytes a picture"]),
        *(
            f"| {_size(int(size))} | {pictures:,} | {int(size) / pictures:,.0f} |"
            for size, pictures in section["pictures_by_size"].items()
        ),
        "",
    ]


RENDERERS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "split": _split,
    "precision": _precision,
    "quality": _quality,
    "cache": _cache,
    "images": render_images,
    "client": render_client,
    "peers": render_peers,
}


def _load_rows(load: Mapping[str, Mapping[str, Any]], one: str, other: str) -> list[str]:
    """Latency where one client asks; throughput, and what it costs in latency, where several do."""
    rows = []
    for phase in load[one]:
        metrics = ("p50_ms", "p99_ms") if phase.endswith(", 1 client") else ("requests_per_s", "p99_ms")
        for metric in metrics:
            values = {name: load[name][phase][metric] for name in (one, other)}
            rows.append(row(f"{phase}: {METRICS[metric]}", values, one, other))
    return rows


def _static(label: str, values: Mapping[str, float]) -> str:
    one, other = values.values()
    return f"| {label} | {one:,.0f} | {other:,.0f} | {other / one:.1f} |"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:g} MiB"


def _listed(layers: Sequence[str]) -> str:
    return ", ".join(f"`{layer}`" for layer in layers) or "no layer"


def _draw(results: Results, path: Path) -> None:
    """Requests a second under several clients, a panel a section, the rounds as dots."""
    panels = {name: _throughput(section["load"]) for name, section in results.items() if "load" in section}
    figure = figures.new_figure(9, 0.3 * sum(map(len, panels.values())) + 0.75 * max(1, len(panels)))
    if not panels:
        figure.text(0.5, 0.5, "no load was measured", ha="center")
    for place, (name, rows) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(len(panels), 1, place)
        for position, (label, values) in enumerate(rows.items()):
            colour = figures.MISS if label.endswith(BASELINES) else figures.HIT
            axis.barh(position, median(values), color=colour, height=0.7)
            axis.plot(values, [position] * len(values), "o", markersize=3, color=figures.INK, alpha=0.7)
            axis.text(max(values), position, f"  {number(median(values))}", va="center", fontsize=figures.SMALL)
        axis.set_yticks(range(len(rows)), list(rows), fontsize=figures.SMALL)
        axis.set_title(f"{SECTIONS[name]}: requests a second", loc="left", fontsize=figures.MEDIUM, color=figures.INK)
        axis.margins(x=0.1)
        axis.invert_yaxis()
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figures.save(figure, path)


def _throughput(load: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[float]]:
    return {
        f"{phase}, {name}" if len(load) > 1 else phase: of_phase["requests_per_s"]
        for phase in next(iter(load.values()))
        if not phase.endswith(", 1 client")
        for name, of_phase in ((name, load[name][phase]) for name in load)
    }
