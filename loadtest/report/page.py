"""A judged run as one self-contained HTML page."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from loadtest.judge.breakdown import rows
from loadtest.judge.slo import BEYOND
from loadtest.judge.verdict import METRICS, Outcome
from loadtest.report import figures
from loadtest.report.content import (
    NAMES,
    Content,
    breakdown_caption,
    comparison_note,
    error_rows,
    group_rows,
    interval_cell,
    measured_cell,
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
"""CSS class of each verdict; any other one is `doubt`."""


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
        "over_time": f"Windows of {width_s:g} s, by when requests were due. Dashed verticals are the profile's stages.",
        "distribution": "Triangles are the objectives, in the colour of their group: the curve should pass below.",
        "against_throughput": f"A dot is a window of {width_s:g} s.",
        "breakdown": breakdown_caption(content.breakdown),
        "machine": "Above its limit, the generator measures itself: the latencies are not valid.",
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
        measured_cell=measured_cell,
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
    """Render a template; every value is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("loadtest.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)
