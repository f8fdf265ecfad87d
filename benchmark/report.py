"""The report `benchmarks.md` and its picture, rendered from `benchmarks.json` and `gpu.json`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmark.gpu import report as gpu
from benchmark.peers.contestants import ENSEMBLE
from benchmark.sections.arrivals import render_arrivals
from benchmark.sections.backfill import render_backfill
from benchmark.sections.cache import render_cache
from benchmark.sections.canary import render_canary
from benchmark.sections.client import render_client
from benchmark.sections.gateway import render_gateway
from benchmark.sections.images import render_images
from benchmark.sections.overhead import render_overhead
from benchmark.sections.peers import render_peers
from benchmark.sections.precision import render_precision
from benchmark.sections.quality import render_quality
from benchmark.sections.rows import conditions_text
from benchmark.sections.shards import render_shards
from benchmark.sections.split import render_split
from benchmark.settings import SECTIONS
from measure.kept import ResultsError, write_below
from measure.kept import read_results as read
from measure.kept import write_results as write
from measure.markdown import number
from measure.pictures import GREEN, GREY, INK, SMALL, new_figure, save_png, style

RESULTS, REPORT, PICTURE = "benchmarks.json", "benchmarks.md", "benchmarks.png"
COMMAND = "python -m benchmark"
CAPTION = "*Requests per second with several clients. A bar is the median; each dot is a round.*"
OURS = ("folded", "fp32", ENSEMBLE)
"""Contestants drawn as what this project serves by default; the others as what it is compared with."""
CLOSED_LOADS = ("split", "precision", "cache")
"""Sections whose load is described by their `conditions`."""
BASELINE = "0% repeated, "
"""Start of the phase that a contestant's other phases are compared with."""
FORMAT = "altreco-benchmarks-1"

Results = Mapping[str, Mapping[str, Any]]
"""The results of each section, with its conditions."""


def read_results(folder: Path) -> dict[str, Any]:
    """Read the existing results; empty if there are none. Raises ResultsError for a damaged file."""
    return read(folder / RESULTS, FORMAT)


def write_results(folder: Path, results: Results) -> None:
    """Write the results as JSON, atomically."""
    write(folder / RESULTS, FORMAT, results)


def write_report(folder: Path) -> Path:
    """Render the results in `folder`, below the hand-written part. Raises ResultsError if there are none."""
    results, on_gpu = read_results(folder), read(folder / gpu.RESULTS, gpu.FORMAT)
    if not results and not on_gpu:
        raise ResultsError(f"no results in {folder / RESULTS}: measure first, with `.venv/bin/{COMMAND}`")
    _draw(results, folder / PICTURE)
    measured = {section: results[section] for section in SECTIONS if section in results}
    machines = {section: of["conditions"]["machine"] for section, of in measured.items()}
    loads = {section: conditions_text(measured[section]) for section in CLOSED_LOADS if section in measured}
    lines = [*_shared(machines), *_shared(loads), "", f"![Requests per second]({PICTURE})", "", CAPTION, ""]
    for section, of in measured.items():
        lines += [f"## {SECTIONS[section]}", "", f"    {of['conditions']['command']}", "", *RENDERERS[section](of)]
    lines += gpu.render_gpu(on_gpu)
    return write_below(folder / REPORT, "Benchmarks", COMMAND, lines)


def _shared(texts: Mapping[str, str]) -> list[str]:
    """List the different texts, each with the sections that it applies to."""
    sections: dict[str, list[str]] = {}
    for section, text in texts.items():
        sections.setdefault(text, []).append(f"`{section}`")
    return [f"- {', '.join(names)}: {text}" for text, names in sections.items()]


RENDERERS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "split": render_split,
    "precision": render_precision,
    "quality": render_quality,
    "cache": render_cache,
    "images": render_images,
    "shards": render_shards,
    "client": render_client,
    "gateway": render_gateway,
    "backfill": render_backfill,
    "canary": render_canary,
    "arrivals": render_arrivals,
    "peers": render_peers,
    "overhead": render_overhead,
}


def _draw(results: Results, path: Path) -> None:
    """Draw requests per second with several clients: one panel per section, one dot per round."""
    panels = {name: bars(results[name]["load"]) for name in SECTIONS if "load" in results.get(name, {})}
    spans = [rows[-1].place + 1.4 for rows in panels.values()]
    figure = new_figure(0.26 * sum(spans) + 0.75 * len(panels) + 0.4)
    if not panels:
        figure.text(0.5, 0.5, "no load was measured", ha="center")
        save_png(figure, path)
        return
    # Axes are as high as their number of bars, so that all bars have one height.
    axes = figure.subplots(len(panels), 1, height_ratios=spans, squeeze=False)[:, 0]
    for axis, span, (name, rows) in zip(axes, spans, panels.items(), strict=True):
        for bar in rows:
            axis.barh(bar.place, median(bar.per_s), color=GREEN if bar.ours else GREY, height=0.7)
            axis.plot(bar.per_s, [bar.place] * len(bar.per_s), "o", markersize=3, color=INK, alpha=0.7)
            axis.text(max(bar.per_s), bar.place, f"  {number(median(bar.per_s))}", va="center", fontsize=SMALL)
        style(axis, SECTIONS[name], x="requests per second")
        axis.grid(visible=False, axis="y")
        axis.set_yticks([bar.place for bar in rows], [bar.label for bar in rows], color=INK)
        axis.set_ylim(span - 0.7, -0.7)
        axis.margins(x=0.1)
    keys = [
        Patch(color=GREEN, label="the default of this project"),
        Patch(color=GREY, label="compared with"),
        Line2D([], [], color=INK, marker="o", markersize=3, linestyle="", label="one round; the bar is the median"),
    ]
    figure.set_layout_engine("constrained", w_pad=0.12)  # inches: the longest label stays off the edge
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys), frameon=False, fontsize=SMALL)
    save_png(figure, path)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The requests per second of each round, and the place of their bar, in heights of a bar from the top."""

    label: str
    ours: bool
    per_s: Sequence[float]
    place: float


def bars(load: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """Lay out the bars of each phase with several clients, longest first, with a gap before the next phase."""
    rows: list[Bar] = []
    several = len(load) > 1
    for phase in next(iter(load.values())):
        if phase.endswith(", 1 client"):
            continue
        rates = {name: of[phase]["requests_per_s"] for name, of in load.items()}
        top = rows[-1].place + (1.5 if several else 1) if rows else 0
        for row, name in enumerate(sorted(rates, key=lambda name: -median(rates[name]))):
            label = f"{phase}, {name}" if several else phase
            ours = name in OURS if several else not phase.startswith(BASELINE)
            rows.append(Bar(label=label, ours=ours, per_s=rates[name], place=top + row))
    return rows
