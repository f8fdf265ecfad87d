"""Results as JSON, and the report rendered from them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import kept
from measure.markdown import table
from reliability.outcome import Outcome

COMMAND = "python -m reliability"
FORMAT = "altreco-reliability-1"


def results_file(report: Path) -> Path:
    """Return the path of the results, which are beside the report."""
    return report.with_suffix(".json")


def read_results(path: Path) -> dict[str, Any]:
    """Read the results by scenario, {} without a file; raises ResultsError for a damaged file."""
    return dict(kept.read_results(path, FORMAT).get("scenarios", {}))


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write the results, atomically."""
    kept.write_results(path, FORMAT, {"scenarios": results})


def result(outcome: Outcome, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Combine an outcome with its conditions: `machine`, `versions`, `date`, `command`, `took_s`."""
    return {
        "conditions": dict(conditions),
        "title": outcome.title,
        "did": outcome.did,
        "figures": dict(outcome.figures),
        "checks": [[check.what, check.held] for check in outcome.checks],
    }


def write_report(path: Path, results: Mapping[str, Any], order: Sequence[str], *, full: bool = False) -> None:
    """Write the scenarios in this order below the handwritten part; `full` adds the figures of each."""
    named = {name: results[name] for name in order if name in results}
    kept.write_below(path, "Reliability", COMMAND, list(_lines(named, full=full)))


def _lines(results: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    machines = {_machine(of["conditions"]) for of in results.values()}
    if len(machines) == 1:
        yield from (*machines, "")
    held = {name: len(of["checks"]) for name, of in results.items() if not _missed(of)}
    for name, of in results.items():
        if missed := _missed(of):
            met = f"{len(of['checks']) - len(missed)} of {len(of['checks'])} checks held"
            yield f"- **{of['title']}** (`{name}`): {met}. **Not: {'; '.join(missed)}.**"
    if held:
        names = ", ".join(f"`{name}` {checks}" for name, checks in held.items())
        yield f"- Every check held in these scenarios, with their number of checks: {names}."
    yield ""
    if not full and results:
        yield from (_measured(results, alike=len(machines) == 1), "")
    for name, of in results.items() if full else ():
        yield from _section(name, of, with_machine=len(machines) > 1)


def _measured(results: Mapping[str, Any], *, alike: bool) -> str:
    dates = sorted({of["conditions"]["date"] for of in results.values()})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"Measured {when}." if alike else f"Measured {when}, on several machines or versions, which the JSON names."


def _section(name: str, of: Mapping[str, Any], *, with_machine: bool) -> Iterator[str]:
    yield from (f'## <a id="{name}"></a>{of["title"]}', "", of["did"], "")
    yield from table(["figure", "value"], [list(figure) for figure in of["figures"].items()])
    yield ""
    yield from table(["must hold", "held"], [[what, "yes" if held else "**NO**"] for what, held in of["checks"]])
    yield from ("", f"    {of['conditions']['command']}", "")
    yield f"{of['conditions']['date']}, {of['conditions']['took_s']:.0f} s."
    yield from ("", _machine(of["conditions"])) if with_machine else ()
    yield ""


def _missed(of: Mapping[str, Any]) -> list[str]:
    return [what for what, held in of["checks"] if not held]


def _machine(conditions: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return f"Measured on {conditions['machine']}, with the callers on the same cores; {versions}."
