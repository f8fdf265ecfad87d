"""Files with weights, written atomically and read without running code from them."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training.errors import CheckpointError


def write_weights(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically, so that a crash or a full disk leaves an old file intact; raises CheckpointError."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        if partial.exists():
            partial.unlink()
        raise CheckpointError(f"cannot write checkpoint {path}: {error}") from error


def read_weights(path: Path, expected_format: str) -> dict[str, Any]:
    """Read what `write_weights` wrote, to the CPU; raises CheckpointError for a missing, damaged or foreign file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; `.venv/bin/python -m training.train` makes one") from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint: it is damaged, or belongs to another program"
        ) from error
    if not isinstance(content, dict) or content.get("format") != expected_format:
        raise CheckpointError(f"{path} is a PyTorch file, but not a checkpoint of this project ({expected_format})")
    return content
