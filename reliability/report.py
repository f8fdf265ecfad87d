"""Results as JSON, and the report that is rendered from them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.files import write_text
from reliability.outcome import Outcome

MARK = "<!-- Above: written by hand, and kept. Below: written by `python -m reliability`. -->"
FORMAT = "altreco-reliability-1"


class ReportError(Exception):
    """The results cannot be read; the message says what to do."""


def results_file(report: Path) -> Path:
    """Beside the report."""
    return report.with_suffix(".json")


def read_results(path: Path) -> dict[str, Any]:
    """Name of a scenario to what came of it, none at first; raises ReportError for a damaged file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return dict(content["scenarios"])
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path}: expected results with format {FORMAT} ({error}): remove it, and run again"
        ) from error


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write them, whole or not at all."""
    write_text(path, json.dumps({"format": FORMAT, "scenarios": results}, indent=1) + "\n")


def result(outcome: Outcome, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Of a scenario, with what it was measured on: `machine`, `versions`, `date`, `command`, `took_s`."""
    return {
        "conditions": dict(conditions),
        "title": outcome.title,
        "did": outcome.did,
        "figures": dict(outcome.figures),
        "checks": [[check.what, check.held] for check in outcome.checks],
    }


def write_report(path: Path, results: Mapping[str, Any], order: Sequence[str]) -> None:
    """Render the scenarios in this order; what stands above MARK is kept."""
    by_hand = path.read_text(encoding="utf-8").split(MARK)[0] if path.exists() else "# Reliability\n\n"
    named = {name: results[name] for name in order if name in results}
    write_text(path, by_hand + "\n".join([MARK, "", *_lines(named)]))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    machines = {_machine(of["conditions"]) for of in results.values()}
    if len(machines) == 1:
        yield from (*machines, "")
    yield from ("| fault | what held |", "|---|---|")
    for name, of in results.items():
        yield f"| [{of['title']}](#{name}) | {_verdict(of['checks'])} |"
    yield ""
    for name, of in results.items():
        yield from _section(name, of, with_machine=len(machines) > 1)


def _section(name: str, of: Mapping[str, Any], *, with_machine: bool) -> Iterator[str]:
    yield from (f'## <a id="{name}"></a>{of["title"]}', "", of["did"], "")
    yield from ("| figure | value |", "|---|---|")
    yield from (f"| {_cell(what)} | {_cell(value)} |" for what, value in of["figures"].items())
    yield from ("", "| must hold | held |", "|---|---|")
    yield from (f"| {_cell(what)} | {'yes' if held else '**NO**'} |" for what, held in of["checks"])
    yield from ("", f"    {of['conditions']['command']}", "")
    yield f"{of['conditions']['date']}, {of['conditions']['took_s']:.0f} s."
    yield from ("", _machine(of["conditions"])) if with_machine else ()
    yield ""


def _verdict(checks: Sequence[Sequence[Any]]) -> str:
    missed = [what for what, held in checks if not held]
    held = f"{len(checks) - len(missed)} of {len(checks)}"
    return f"{held}; **not: {_cell('; '.join(missed))}**" if missed else f"all {len(checks)}"


def _machine(conditions: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return f"Measured on {conditions['machine']}, with the callers on the same cores; {versions}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
