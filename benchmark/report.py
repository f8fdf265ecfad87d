"""Renders `benchmarks.json` to `benchmarks.md` and its picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.sections.arrivals import render_arrivals
from benchmark.sections.cache import render_cache
from benchmark.sections.client import render_client
from benchmark.sections.images import render_images
from benchmark.sections.peers import render_peers
from benchmark.sections.precision import render_precision
from benchmark.sections.quality import render_quality
from benchmark.sections.split import render_split
from benchmark.settings import SECTIONS
from measure.kept import ResultsError, write_below
from measure.kept import read_results as read
from measure.kept import write_results as write
from measure.markdown import number
from measure.pictures import GREEN, GREY, INK, MEDIUM, SMALL, new_figure, save_png

RESULTS, REPORT, PICTURE = "benchmarks.json", "benchmarks.md", "benchmarks.png"
COMMAND = "python -m benchmark"
CAPTION = "*Requests a second of each contestant, with several clients: the median, and a dot for each round.*"
BASELINES = ("unfolded", "fp32")
FORMAT = "altreco-benchmarks-1"

Results = Mapping[str, Mapping[str, Any]]
"""The results of each section, with its conditions."""


def read_results(folder: Path) -> dict[str, Any]:
    """Read the existing results; empty if there are none. Raises ResultsError for a damaged file."""
    return read(folder / RESULTS, FORMAT)


def write_results(folder: Path, results: Results) -> None:
    """Write the results as JSON, completely or not at all."""
    write(folder / RESULTS, FORMAT, results)


def write_report(folder: Path) -> Path:
    """Render the results in `folder`, below the hand-written part. Raises ResultsError if there are none."""
    results = read_results(folder)
    if not results:
        raise ResultsError(f"no results in {folder / RESULTS}: measure first, with `{COMMAND}`")
    _draw(results, folder / PICTURE)
    measured = {section: results[section] for section in SECTIONS if section in results}
    lines = [*_machine_lines(measured), "", f"![Requests a second]({PICTURE})", "", CAPTION, ""]
    for section, of in measured.items():
        lines += [f"## {SECTIONS[section]}", "", f"    {of['conditions']['command']}", "", *RENDERERS[section](of)]
    return write_below(folder / REPORT, "Benchmarks", COMMAND, lines)


def _machine_lines(results: Results) -> list[str]:
    """List the machines and what was measured on each."""
    sections: dict[str, list[str]] = {}
    for section, of in results.items():
        sections.setdefault(of["conditions"]["machine"], []).append(f"`{section}`")
    return [f"- {', '.join(names)}: {machine}" for machine, names in sections.items()]


RENDERERS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "split": render_split,
    "precision": render_precision,
    "quality": render_quality,
    "cache": render_cache,
    "images": render_images,
    "client": render_client,
    "arrivals": render_arrivals,
    "peers": render_peers,
}


def _draw(results: Results, path: Path) -> None:
    """Draw requests a second with several clients: one panel per section, one dot per round."""
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
