"""The report of a judged run: four files in its folder."""

import json
from pathlib import Path

from loadtest.judge.baseline import Comparison
from loadtest.judge.verdict import Verdict, to_json
from loadtest.records import JUNIT, REPORT, SUMMARY, VERDICT, Run
from loadtest.report.content import content_of
from loadtest.report.junit import to_junit
from loadtest.report.page import to_page
from loadtest.report.summary import to_markdown
from loadtest.second_opinion.compare import SecondOpinion
from measure.files import write_text


def write_report(
    run: Run, verdict: Verdict, comparison: Comparison | None = None, opinion: SecondOpinion | None = None
) -> Path:
    """Write the four files of a report, without reading any, and return the path of the page."""
    content, folder = content_of(run, verdict, comparison, opinion), run.folder
    write_text(folder / VERDICT, json.dumps(to_json(verdict), indent=1) + "\n")
    write_text(folder / JUNIT, to_junit(verdict, duration_s=run.settings.duration_s))
    write_text(folder / SUMMARY, to_markdown(content))
    write_text(folder / REPORT, to_page(content))
    return folder / REPORT
