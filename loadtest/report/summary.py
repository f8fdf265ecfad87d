"""A judged run as Markdown, for a pull request."""

from collections.abc import Sequence

from loadtest.judge.breakdown import rows
from loadtest.judge.verdict import METRICS
from loadtest.report.content import (
    NAMES,
    Content,
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
from measure.markdown import escaped, table


def to_markdown(content: Content) -> str:
    """Render the summary."""
    run, verdict = content.run, content.verdict
    lines = [f"# {verdict.word}: {escaped(title(run))}", "", escaped(subtitle(run)), ""]
    lines += [f"- {escaped(reason)}" for reason in verdict.reason.split("; ")] + [""]
    lines += table(["", *tiles(content)], [["**measured**", *tiles(content).values()]])
    lines += ["", f"## Objectives: `{verdict.slos.name}`", ""]
    lines += table(
        ["requests", "metric", "limit", "measured", "count", "result"],
        [
            [
                NAMES[objective.group],
                METRICS[objective.metric],
                objective.bound,
                measured_cell(objective),
                f"{objective.requests:,}",
                objective.outcome.value if objective.ok else f"**{objective.outcome.value}**",
            ]
            for objective in verdict.objectives
        ],
    )
    lines += ["", "## Latency by group of requests", "", *table(*group_rows(run))]
    heads, errors = error_rows(run)
    lines += ["", "## Errors", "", *(_outside(heads, errors) if errors else ["None."])]
    lines += ["", "## Where the time goes", ""]
    lines += [*_outside(*rows(content.breakdown)), ""] if content.breakdown else []
    lines += [escaped(content.breakdown_note)]
    if content.opinion:
        lines += ["", "## Second opinion: perf_analyzer", "", *table(*content.opinion.table), ""]
        lines += [f"- {sentence}" for sentence in content.opinion.explanations]
    if content.comparison:
        changes = [
            [
                of.name,
                interval_cell(of.before, of.before_interval),
                interval_cell(of.now, of.now_interval),
                of.statement,
            ]
            for of in content.comparison.changes
        ]
        lines += ["", "## Against the baseline", ""]
        lines += table(["metric", "baseline, mean (95 %)", "now, mean (95 %)", "result"], changes)
        lines += ["", comparison_note(content.comparison)]
        lines += [f"The environments differ: {escaped(of)}." for of in content.comparison.differences]
    for name, values in settings_of(run).items():
        lines += ["", f"## {name.capitalize()}", "", *_outside(["setting", "value"], values)]
    return "\n".join(lines) + "\n"


def _outside(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Format a table with text from a server or a file."""
    return table(heads, [[escaped(cell) for cell in line] for line in lines])
