"""Evaluate a model on the test split: `python -m training.evaluate CHECKPOINT --data DIR`."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.checkpoint import load_with_data
from training.data.dataset import Batch, evaluation_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.errors import DataError, TrainingError
from training.methods.popularity import most_frequent
from training.metrics import Ranked, merge, rank, summarize
from training.model import ALTReco

Metrics = Mapping[str, Mapping[str, float]]

WITH, WITHOUT, ANOTHER, FREQUENT = "with history", "without history", "another's history", "most frequent tags"


def evaluate(model: ALTReco, manifest: Manifest, histories: Histories, *, workers: int, quiet: bool = False) -> Metrics:
    """Metrics on the test split with each user's history; with none and with another user's, two controls; and of the
    most frequent tags (the baseline of Table IV). Raises DataError without test pictures.
    """
    rows = manifest.rows("test")
    if len(rows) == 0:
        raise DataError(f"{manifest.root} has no test pictures: give some rows of the manifest the split test")
    total, others = histories.total(), _another_user(histories)
    ranked: dict[str, Ranked] = {}
    batches = encoded_batches(model, manifest, histories, rows, workers)
    for encoding, batch in tqdm(batches, "evaluate", unit="batch", disable=quiet):
        another = np.stack([histories.tag_counts(others[user]) for user in batch.user.tolist()])
        given = {WITH: batch.counts, WITHOUT: torch.zeros_like(batch.counts)}
        given[ANOTHER] = torch.from_numpy(another).to(batch.counts.device)
        scores = {method: recommend(model, encoding, history) for method, history in given.items()}
        scores[FREQUENT] = most_frequent(total, len(batch.user))
        for method, of_method in scores.items():
            of_batch = rank(of_method, batch.tags.cpu(), batch.user.cpu())
            ranked[method] = merge([ranked[method], of_batch]) if method in ranked else of_batch
    return {method: summarize(of_method) for method, of_method in ranked.items()}


def precision_at_5(
    model: ALTReco, manifest: Manifest, histories: Histories, rows: NDArray[np.int64], *, workers: int, cold: bool
) -> float:
    """The figure that early stopping goes by, on the rows given; `cold`: without history."""
    ranked = []
    for encoding, batch in encoded_batches(model, manifest, histories, rows, workers):
        counts = torch.zeros_like(batch.counts) if cold else batch.counts
        ranked.append(rank(recommend(model, encoding, counts), batch.tags.cpu(), batch.user.cpu(), ks=(5,)))
    return summarize(merge(ranked))["precision@5"]


@torch.inference_mode()
def encoded_batches(
    model: ALTReco, manifest: Manifest, histories: Histories, rows: NDArray[np.int64], workers: int
) -> Iterator[tuple[Tensor, Batch]]:
    """e, float [batch, channels, 7, 7], and the batch, both on the model's device; the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    for batch in evaluation_batches(manifest, histories, rows, workers):
        moved = batch.to(device)
        yield model.visual_encoder(moved.image), moved


@torch.inference_mode()
def recommend(model: ALTReco, encoding: Tensor, counts: Tensor) -> Tensor:
    """T_p as probabilities, float [batch, N], on the CPU."""
    return model.recommend_encoded(encoding, counts).float().cpu()


def _another_user(histories: Histories) -> NDArray[np.int64]:
    """For each user a random other one that has a history: the next in a shuffled circle of them."""
    circle = np.random.default_rng(0).permutation(np.flatnonzero(np.diff(histories.offsets)))
    others = np.full(len(histories), circle[0])
    others[circle] = np.roll(circle, 1)
    return others


def format_metrics(metrics: Metrics) -> str:
    """A table, a metric a row, a method a column."""
    width = max(map(len, metrics)) + 2
    names = list(next(iter(metrics.values())))
    rows = [f"{'':20}" + "".join(f"{method:>{width}}" for method in metrics)]
    rows += [f"{name:20}" + "".join(f"{values[name]:{width}.3f}" for values in metrics.values()) for name in names]
    return "\n".join(rows)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what `python -m training.train` wrote")
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        checkpoint, manifest, histories = load_with_data(arguments.checkpoint, arguments.data)
        metrics = evaluate(checkpoint.model, manifest, histories, workers=arguments.workers)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_metrics(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
