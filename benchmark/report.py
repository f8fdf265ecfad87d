"""From `benchmarks.json` to `benchmarks.md` and its picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.client import render_client
from benchmark.images import render_images
from benchmark.peers_section import render_peers
from benchmark.settings import SECTIONS
from measure.kept import ResultsError, write_below
from measure.kept import read_results as read
from measure.kept import write_results as write
from measure.markdown import cell, compared, number, table
from measure.pictures import GREEN, GREY, INK, MEDIUM, SMALL, new_figure, save_png

RESULTS, REPORT, PICTURE = "benchmarks.json", "benchmarks.md", "benchmarks.png"
COMMAND = "python -m benchmark"
METRICS = {"p50_ms": "p50, ms", "p99_ms": "p99, ms", "requests_per_s": "requests a second"}
BASELINES = ("unfolded", "fp32")
FORMAT = "altreco-benchmarks-1"

Results = Mapping[str, Mapping[str, Any]]
"""Section to what it measured, with its conditions."""


def read_results(folder: Path) -> dict[str, Any]:
    """The results that are there already, none at first; raises ResultsError for a damaged file."""
    return read(folder / RESULTS, FORMAT)


def write_results(folder: Path, results: Results) -> None:
    """Write the results as JSON, whole or not at all."""
    write(folder / RESULTS, FORMAT, results)


def write_report(folder: Path) -> Path:
    """Render the results in `folder` beside them, below what is written by hand. Raises ResultsError without any."""
    results = read_results(folder)
    if not results:
        raise ResultsError(f"no results in {folder / RESULTS}: measure first, with `{COMMAND}`")
    _draw(results, folder / PICTURE)
    machines = {_machine(of["conditions"]) for of in results.values()}
    lines = [*sorted(machines if len(machines) == 1 else ()), f"![Requests a second]({PICTURE})", ""]
    for section in (section for section in SECTIONS if section in results):
        of = results[section]
        lines += [f"## {SECTIONS[section]}", "", f"    {of['conditions']['command']}", ""]
        lines += [_machine(of["conditions"])] if len(machines) > 1 else []
        lines += RENDERERS[section](of)
    return write_below(folder / REPORT, "Benchmarks", COMMAND, lines)


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
    lines = [
        _static("bytes between the models, a picture", passed),
        _static("bytes of cache, a picture (size over pictures held)", a_picture),
        *_load_lines(section["load"], "folded", "unfolded"),
    ]
    return [
        *_rounds(section),
        *table(["", "folded", "unfolded", "unfolded / folded"], lines),
        "",
        f"The answers of the two are at most {section['max_abs_difference']:.1e} apart in any tag's probability.",
        "",
    ]


def _precision(section: Mapping[str, Any]) -> list[str]:
    sizes, names = section["bytes"], list(section["bytes"])
    lines = [[f"`{model}`", *(f"{sizes[name][model] / 1e6:.1f}" for name in names)] for model in sizes[names[0]]]
    loads = [
        *_load_lines(section["load"], "fp32", "int8"),
        compared("loading and warming, served, s", section["loading_s"], "fp32", "int8"),
    ]
    return [
        *_rounds(section),
        *table(["", "fp32", "int8", "int8 / fp32"], loads),
        "",
        *table(
            ["file sizes, MB", *names],
            [*lines, ["all", *(f"{sum(sizes[name].values()) / 1e6:.1f}" for name in names)]],
        ),
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
        *table(
            ["", "precision@5", "against the checkpoint"],
            [[name, f"{value:.4f}", f"{value - reference:+.4f}"] for name, value in values.items()],
        ),
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
        *table(
            [
                "asked for",
                "hit rate",
                "p50, ms, 1 client",
                "p99, ms, 1 client",
                f"requests a second, {clients} clients",
            ],
            [
                [
                    alone.partition(",")[0],
                    *map(cell, (load[together]["hit_rate"], load[alone]["p50_ms"], load[alone]["p99_ms"])),
                    cell(load[together]["requests_per_s"]),
                ]
                for alone, together in zip(one, several, strict=True)
            ],
        ),
        "",
        "The hit rate is Triton's own: `cache_hit` of the visual encoder's statistics over hits and misses.",
        "",
        *table(
            ["size of the cache (`--cache-size`)", "pictures held", "bytes a picture"],
            [
                [_size(int(size)), f"{pictures:,}", f"{int(size) / pictures:,.0f}"]
                for size, pictures in section["pictures_by_size"].items()
            ],
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


def _load_lines(load: Mapping[str, Mapping[str, Any]], one: str, other: str) -> list[list[str]]:
    """Latency where one client asks; throughput, and what it costs in latency, where several do."""
    lines = []
    for phase in load[one]:
        metrics = ("p50_ms", "p99_ms") if phase.endswith(", 1 client") else ("requests_per_s", "p99_ms")
        for metric in metrics:
            values = {name: load[name][phase][metric] for name in (one, other)}
            lines.append(compared(f"{phase}: {METRICS[metric]}", values, one, other))
    return lines


def _static(label: str, values: Mapping[str, float]) -> list[str]:
    one, other = values.values()
    return [label, f"{one:,.0f}", f"{other:,.0f}", f"{other / one:.1f}"]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:g} MiB"


def _listed(layers: Sequence[str]) -> str:
    return ", ".join(f"`{layer}`" for layer in layers) or "no layer"


def _draw(results: Results, path: Path) -> None:
    """Requests a second under several clients, a panel a section, the rounds as dots."""
    panels = {name: _throughput(section["load"]) for name, section in results.items() if "load" in section}
    figure = new_figure(0.3 * sum(map(len, panels.values())) + 0.75 * max(1, len(panels)))
    if not panels:
        figure.text(0.5, 0.5, "no load was measured", ha="center")
    for place, (name, rows) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(len(panels), 1, place)
        for position, (label, values) in enumerate(rows.items()):
            colour = GREY if label.endswith(BASELINES) else GREEN
            axis.barh(position, median(values), color=colour, height=0.7)
            axis.plot(values, [position] * len(values), "o", markersize=3, color=INK, alpha=0.7)
            axis.text(max(values), position, f"  {number(median(values))}", va="center", fontsize=SMALL)
        axis.set_yticks(range(len(rows)), list(rows), fontsize=SMALL)
        axis.set_title(f"{SECTIONS[name]}: requests a second", loc="left", fontsize=MEDIUM, color=INK)
        axis.margins(x=0.1)
        axis.invert_yaxis()
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    save_png(figure, path)


def _throughput(load: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[float]]:
    return {
        f"{phase}, {name}" if len(load) > 1 else phase: of_phase["requests_per_s"]
        for phase in next(iter(load.values()))
        if not phase.endswith(", 1 client")
        for name, of_phase in ((name, load[name][phase]) for name in load)
    }
