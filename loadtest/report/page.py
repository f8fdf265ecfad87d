"""A judged run as one HTML page that needs no network."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from loadtest.judge.breakdown import rows
from loadtest.judge.slo import BEYOND
from loadtest.judge.verdict import METRICS, Outcome, in_units
from loadtest.report import figures
from loadtest.report.content import (
    NAMES,
    Content,
    comparison_note,
    error_rows,
    group_rows,
    interval_cell,
    settings_of,
    subtitle,
    tiles,
    title,
)
from measure.pictures import to_svg

MARKS = {
    Outcome.HELD: "good",
    Outcome.MISSED: "bad",
    Outcome.TOO_FEW: "doubt",
    Outcome.NOT_MEASURED: "doubt",
}
WORDS = {"PASSED": "good", "FAILED": "bad"}
"""Word of a verdict to the class of its colour; any other word is in doubt."""


def to_page(content: Content) -> str:
    """Render the page."""
    run, verdict = content.run, content.verdict
    width_s = figures.window_s(run)
    pictures: dict[str, Figure | None] = {
        "over_time": figures.over_time(run, verdict.slos),
        "distribution": figures.distribution(run, verdict.slos),
        "against_throughput": figures.against_throughput(run),
        "breakdown": figures.where_the_time_goes(content.breakdown) if content.breakdown else None,
        "machine": figures.machine_load(run, verdict.slos.generator.cpu_share),
    }
    captions = {
        "over_time": f"In windows of {width_s:g} s, by when requests should have left; of one with fewer than 100, p99 "
        "is its slowest. Dashed verticals: the profile's stages.",
        "distribution": "Triangles are the objectives, in their requests' colour: a curve should pass below.",
        "against_throughput": f"A dot is a window of {width_s:g} s.",
        "breakdown": "Means. The upper bar is what the clients waited for, in the order in which it happened.",
        "machine": "The generator's latencies are not valid above its limit.",
    }
    return render(
        "report.html",
        title=title(run),
        subtitle=subtitle(run),
        word=verdict.word,
        mark=WORDS.get(verdict.word, "doubt"),
        reasons=[reason[:1].upper() + reason[1:] for reason in verdict.reason.split("; ")],
        tiles=tiles(content),
        verdict=verdict,
        groups=NAMES,
        metrics=METRICS,
        marks={outcome.name: mark for outcome, mark in MARKS.items()},
        in_units=in_units,
        beyond=BEYOND,
        pictures={name: to_svg(figure) if figure else "" for name, figure in pictures.items()},
        captions=captions,
        group_rows=group_rows(run),
        error_rows=error_rows(run),
        breakdown_rows=rows(content.breakdown) if content.breakdown else ((), ()),
        breakdown_note=content.breakdown_note,
        opinion=content.opinion,
        comparison=content.comparison,
        comparison_note=comparison_note(content.comparison) if content.comparison else "",
        cell=interval_cell,
        settings=settings_of(run),
    )


def render(template: str, **values: Any) -> str:
    """A page of the templates' folder; every value is escaped, and a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("loadtest.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)
