"""Results stored as JSON, and reports whose upper part is written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure.files import write_text


class ResultsError(ValueError):
    """Stored results are missing or cannot be read; the message says what to do."""


def read_results(path: Path, expected_format: str) -> dict[str, Any]:
    """Read what `write_results` wrote, {} without a file; raises ResultsError for a damaged or foreign file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or (found := values.pop("format", None)) != expected_format:
            raise ValueError(f"its format is {found!r}" if isinstance(values, dict) else "it is not a JSON object")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ResultsError(
            f"{path}: expected results with format {expected_format} ({error}): delete it and measure again"
        ) from error
    return values


def write_results(path: Path, results_format: str, results: Mapping[str, Any]) -> None:
    """Write the results as JSON, atomically."""
    write_text(path, json.dumps({"format": results_format, **results}, indent=1) + "\n")


def mark(command: str) -> str:
    """Return the line that separates a report's handwritten part from its generated part."""
    return f"<!-- Above: written by hand, and kept. Below: written by `{command}`. -->"


def write_below(path: Path, title: str, command: str, lines: Sequence[str]) -> Path:
    """Replace what is below the mark of `command` in the file by the lines, keep what is above it; return the path."""
    by_hand = path.read_text(encoding="utf-8").split(mark(command))[0] if path.exists() else f"# {title}\n\n"
    write_text(path, by_hand + "\n".join([mark(command), "", *lines]))
    return path
