"""Evaluate a model on the test split: `python -m training.evaluate CHECKPOINT --data DIR`."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from altreco_client.cli.pipe import quiet_pipe
from numpy.typing import NDArray
from torch import Tensor

from measure.files import write_text
from measure.progress import progress_bar
from training.checkpoint import load_with_data
from training.data.dataset import Batch, Unreadable, evaluation_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.past import PastPictures, past_pictures
from training.errors import DataError, TrainingError
from training.methods.late_fusion import BAYES, fuse
from training.methods.popularity import most_frequent
from training.metrics import Ranked, merge, rank, summarize
from training.model import ALTReco

Metrics = Mapping[str, Mapping[str, float]]
"""Method to metric to value. A method is a history or a comparison, and for new users it begins with NEW."""

WITH, WITHOUT, ANOTHER, FREQUENT = "with history", "without history", "another's history", "most frequent tags"
SHORT = {"1 picture": 1, "2 pictures": 2, "5 pictures": 5, "10 pictures": 10}
"""Short histories: name to number of the user's past pictures."""
HISTORIES = (WITH, WITHOUT, *SHORT, ANOTHER)
FUSION = "late fusion"
NEW = "new users, "

SHOWN = ("precision@3", "precision@5", "precision@10", "recall@5", "accuracy@5", "nDCG@10", "MAP", "MRR", "C-F1@10")
"""Metrics of the printed table."""


def fused(history: str) -> str:
    """Name the method that fuses the answer without a history with the prior of this one of HISTORIES."""
    return FUSION if history == WITH else f"{FUSION}, {history}"


def groups(metrics: Metrics) -> tuple[str, ...]:
    """The prefixes of the methods' names in these metrics: "" for known users, NEW for new ones."""
    return tuple(group for group in ("", NEW) if f"{group}{WITH}" in metrics)


def evaluate(
    model: ALTReco,
    manifest: Manifest,
    histories: Histories,
    *,
    workers: int,
    quiet: bool = False,
    fusion_weight: float = BAYES,
    min_tags: int = 1,
    unreadable: Unreadable | None = None,
) -> Metrics:
    """Metrics on the test split, known and new users apart: for each of HISTORIES, for late fusion of the model's
    answer without a history with each history, and for the most frequent tags (the baseline of Table IV).

    A new user has a history, but no training picture. The methods of a group without test pictures are left out, and
    pictures with fewer than `min_tags` tags of the vocabulary. Raises DataError without test pictures, or with more
    unreadable pictures than `unreadable` allows, at first none.
    """
    rows = manifest.rows("test")
    if len(rows) == 0:
        raise DataError(f"{manifest.root} has no test pictures: give some rows of the manifest the split test")
    rows = rows[manifest.tags.lengths[rows] >= min_tags]
    if min_tags > 1 and len(rows) == 0:
        raise DataError(
            f"no test picture of {manifest.root} has {min_tags} tags of the vocabulary: expected a lower limit"
        )
    total, past, others = histories.total(), past_pictures(manifest), _another_user(histories)
    ranked: dict[str, Ranked] = {}
    done = 0
    batches = encoded_batches(model, manifest, histories, rows, workers, unreadable)
    for encoding, batch in progress_bar(batches, "evaluate", unit="batch", disable=quiet):
        users = batch.user.cpu()
        given = _histories(batch, rows[done : done + len(users)], histories, past, others)
        done += len(users)
        scores = _scores(model, encoding, given)
        for history in HISTORIES:
            if history != WITHOUT:
                scores[fused(history)] = fuse(scores[WITHOUT], given[history], total, fusion_weight)
        scores[FREQUENT] = most_frequent(total, len(users))
        of_group = rank_by_group(scores, batch.tags.cpu(), users, histories)
        for method, of_batch in of_group.items():
            ranked[method] = merge([ranked[method], of_batch]) if method in ranked else of_batch
    metrics = summarize_all(ranked)
    if not metrics:
        raise DataError(f"no test picture of {manifest.root} has a tag of the vocabulary: there is nothing to measure")
    return metrics


def summarize_all(ranked: Mapping[str, Ranked]) -> Metrics:
    """The metrics of each method that has a picture with a tag."""
    return {method: summarize(of_method) for method, of_method in ranked.items() if len(of_method.relevant)}


def _histories(
    batch: Batch, rows: NDArray[np.int64], histories: Histories, past: PastPictures, others: NDArray[np.int64]
) -> Mapping[str, Tensor]:
    """HISTORIES as counts, float [batch, N] on the CPU, of the pictures in these rows."""
    some = zip(*(past.some(row, tuple(SHORT.values())) for row in rows.tolist()), strict=True)
    another = [histories.tag_counts(others[user]) for user in batch.user.tolist()]
    counts = batch.counts.cpu()
    short = {name: torch.from_numpy(np.stack(of_rows)) for name, of_rows in zip(SHORT, some, strict=True)}
    return {WITH: counts, WITHOUT: torch.zeros_like(counts), **short, ANOTHER: torch.from_numpy(np.stack(another))}


def _scores(model: ALTReco, encoding: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not model.personalized:
        return dict.fromkeys(given, recommend(model, encoding, given[WITHOUT].to(encoding.device)))
    return {name: recommend(model, encoding, counts.to(encoding.device)) for name, counts in given.items()}


def rank_by_group(scores: Mapping[str, Tensor], tags: Tensor, users: Tensor, histories: Histories) -> dict[str, Ranked]:
    """Rank each method's scores, float [pictures, N], for the known users and, under NEW, for the new ones."""
    new = torch.from_numpy(histories.is_new)[users]
    return {
        f"{group}{method}": rank(of_method[members], tags[members], users[members])
        for group, members in (("", ~new), (NEW, new))
        if members.any()
        for method, of_method in scores.items()
    }


def precision_at_5(
    model: ALTReco,
    manifest: Manifest,
    histories: Histories,
    rows: NDArray[np.int64],
    *,
    workers: int,
    cold: bool,
    unreadable: Unreadable | None = None,
) -> tuple[float, int]:
    """Precision@5 on these rows, for early stopping, as a sum over the pictures with a tag, and how many these are.

    `cold`: without histories.
    """
    total, pictures = 0.0, 0
    for encoding, batch in encoded_batches(model, manifest, histories, rows, workers, unreadable):
        counts = torch.zeros_like(batch.counts) if cold else batch.counts
        ranked = rank(recommend(model, encoding, counts), batch.tags.cpu(), batch.user.cpu(), ks=(5,))
        total, pictures = total + ranked.hits.sum().item() / 5, pictures + len(ranked.hits)
    return total, pictures


@torch.inference_mode()
def encoded_batches(
    model: ALTReco,
    manifest: Manifest,
    histories: Histories,
    rows: NDArray[np.int64],
    workers: int,
    unreadable: Unreadable | None = None,
) -> Iterator[tuple[Tensor, Batch]]:
    """e, float [batch, channels, 7, 7], and the batch, both on the model's device; the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    for batch in evaluation_batches(manifest, histories, rows, workers, unreadable=unreadable):
        moved = batch.to(device)
        yield model.visual_encoder(moved.image), moved


@torch.inference_mode()
def recommend(model: ALTReco, encoding: Tensor, counts: Tensor) -> Tensor:
    """Return T_p as probabilities, float [batch, N], on the CPU."""
    return model.recommend_encoded(encoding, counts).float().cpu()


def _another_user(histories: Histories) -> NDArray[np.int64]:
    """For each user, another one with a history: the next in a shuffled circle of all who have one."""
    circle = np.random.default_rng(0).permutation(np.flatnonzero(np.diff(histories.offsets)))
    others = np.full(len(histories), circle[0])
    others[circle] = np.roll(circle, 1)
    return others


def format_metrics(metrics: Metrics) -> str:
    """A table of the metrics SHOWN, with one row per method."""
    width = max(map(len, metrics))
    rows = [" " * width + "".join(f"{name:>14}" for name in SHOWN)]
    rows += [
        f"{method:{width}}" + "".join(f"{values[name]:14.3f}" for name in SHOWN) for method, values in metrics.items()
    ]
    return "\n".join(rows)


def _write(path: Path, metrics: Metrics) -> None:
    try:
        write_text(path, json.dumps(metrics, indent=1) + "\n")
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error}") from error


@quiet_pipe()
def main() -> int:
    """Print the table; return 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what `python -m training.train` wrote")
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: %(default)s)")
    parser.add_argument(
        "--min-tags", type=int, default=1, metavar="N", help="leave out pictures with fewer tags (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write every metric to this file")
    arguments = parser.parse_args()
    try:
        checkpoint, manifest, histories = load_with_data(arguments.checkpoint, arguments.data)
        metrics = evaluate(
            checkpoint.model, manifest, histories, workers=arguments.workers, min_tags=arguments.min_tags
        )
        if arguments.json is not None:
            _write(arguments.json, metrics)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_metrics(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
