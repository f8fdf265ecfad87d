"""Report of a sweep as Markdown: the recommendation and its gain, then every setting."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from loadtest.report.content import settings_lines
from loadtest.sweep.configs import Point, apply, label
from loadtest.sweep.load import METRICS
from loadtest.sweep.search import MARGIN, Candidate, Sweep, Trial
from measure.markdown import escaped, number, table

LOCAL_BACKEND = (
    "The local Triton runs ONNX Runtime in one Python process per instance, with threads that do not spin. The native "
    "backend of NVIDIA's container runs all instances in one process, with spinning threads. Sweep again there, and on "
    "a GPU."
)


def sweep_markdown(sweep: Sweep, conditions: Mapping[str, Any]) -> str:
    """Render the report."""
    lines = ["# Tuning sweep", "", sentence(sweep), ""]
    if sweep.changes:
        lines += ["```", *config_snippets(sweep.changes), "```", ""]
    if sweep.confirmation:
        lines += ["## The best settings against the committed ones", "", *_table(sweep.confirmation), ""]
    lines += ["## Setting by setting", "", _how_to_read(), ""]
    for trial in sweep.trials:
        lines += [f"### `{trial.setting}`", "", *_table(trial), ""]
    settings = [[name, value] for name, value in settings_lines(conditions)]
    return "\n".join([*lines, LOCAL_BACKEND, "", "## Conditions", "", *table(["", ""], settings), ""])


def sentence(sweep: Sweep) -> str:
    """Describe the result in words."""
    if not sweep.finished:
        return f"Not finished after {len(sweep.trials)} settings: no recommendation yet."
    if not sweep.changes:
        return "Keep the committed configs: nothing was better by more than noise."
    assert sweep.confirmation is not None
    gains = sweep.confirmation.gains(sweep.confirmation.winner)
    changes = ", ".join(f"`{key}` {label(value)}" for key, value in sweep.changes.items())
    gained = "; ".join(f"{METRICS.get(metric, metric)} {_gain(ratios)}" for metric, ratios in gains.items())
    return f"Recommended: {changes}. Gains over the committed configs (above 1 is better): {gained}."


def config_snippets(changes: Point) -> list[str]:
    """Format the changes as `config.pbtxt`, model by model."""
    lines = []
    for model in sorted({key.split(".")[0] for key in changes}):
        config = pb.ModelConfig()
        apply(config, model, changes)
        lines += [f"# {model}/config.pbtxt", text_format.MessageToString(config).strip() or "# (remove it)"]
    return lines


def _how_to_read() -> str:
    return (
        "The first line of each table is the best setting so far. The others are compared with it round by round "
        "(median and range). A difference counts if every round shows it and the median is "
        f"{100 * (MARGIN - 1):.0f} % or more. `better` is better in one metric and worse in none; `mixed` is for you "
        "to decide. Switching dynamic batching off is measured, but never recommended: batches matter most under "
        "more load than a sweep sends."
    )


def _table(trial: Trial) -> list[str]:
    metrics = list(trial.base.rounds[0]) if trial.base.rounds else []
    heads = ["", *(text for name in metrics for text in (METRICS.get(name, name), "gain")), ""]
    return table(heads, [_line(trial, candidate, metrics) for candidate in trial.candidates])


def _line(trial: Trial, candidate: Candidate, metrics: Sequence[str]) -> list[str]:
    if candidate.failed:
        reason = escaped(candidate.failed.splitlines()[0])
        return [candidate.label, *[""] * (2 * len(metrics)), f"failed: {reason}"]
    gains = trial.gains(candidate)
    cells = []
    for metric in metrics:
        values = [figures[metric] for figures in candidate.rounds]
        cells += [number(median(values)) if values else "-"]
        cells += ["" if candidate is trial.base or not gains else _gain(gains[metric])]
    return [candidate.label, *cells, "" if candidate is trial.base else trial.verdict(candidate)]


def _gain(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
