"""Results that are kept as JSON, and reports whose upper part is written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure.files import write_text


class ResultsError(ValueError):
    """Kept results cannot be read, or there are none; the message says what to do."""


def read_results(path: Path, expected_format: str) -> dict[str, Any]:
    """The results that `write_results` wrote, none at first; raises ResultsError for a damaged or foreign file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or (found := values.pop("format", None)) != expected_format:
            raise ValueError(f"its format is {found!r}" if isinstance(values, dict) else "it is no JSON object")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ResultsError(
            f"{path}: expected results with format {expected_format} ({error}): remove it, and measure again"
        ) from error
    return values


def write_results(path: Path, results_format: str, results: Mapping[str, Any]) -> None:
    """Write the results as JSON, whole or not at all."""
    write_text(path, json.dumps({"format": results_format, **results}, indent=1) + "\n")


def mark(command: str) -> str:
    """The line of a report above which everything is written by hand."""
    return f"<!-- Above: written by hand, and kept. Below: written by `{command}`. -->"


def write_below(path: Path, title: str, command: str, lines: Sequence[str]) -> Path:
    """Write the lines below the mark of `command`, and return the path; what stands above it in the file is kept."""
    by_hand = path.read_text(encoding="utf-8").split(mark(command))[0] if path.exists() else f"# {title}\n\n"
    write_text(path, by_hand + "\n".join([mark(command), "", *lines]))
    return path
