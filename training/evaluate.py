"""Evaluate a model on the test split: `python -m training.evaluate CHECKPOINT --data DIR`."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from training.checkpoint import load_checkpoint
from training.data.dataset import evaluation_batches
from training.data.histories import Histories, build_histories
from training.data.manifest import Manifest, read_manifest
from training.errors import CheckpointError, TrainingError
from training.metrics import tagging_metrics
from training.model import ALTReco

Metrics = Mapping[str, Mapping[str, float]]


@torch.inference_mode()
def evaluate(model: ALTReco, manifest: Manifest, histories: Histories, *, workers: int, quiet: bool = False) -> Metrics:
    """Metrics with each user's history, without, and of the most frequent tags (the baseline of Table IV)."""
    model.eval()
    with_history: list[Tensor] = []
    without_history: list[Tensor] = []
    truth: list[Tensor] = []
    for batch in tqdm(evaluation_batches(manifest, histories, workers), "evaluate", unit="batch", disable=quiet):
        encoding = model.visual_encoder(batch.image)
        for history, scores in ((batch.history, with_history), (torch.zeros_like(batch.history), without_history)):
            scores.append(model.classifier(encoding, model.preference_encoder(history)))
        truth.append(batch.tags)
    tags = torch.cat(truth)
    return {
        "with history": tagging_metrics(torch.cat(with_history), tags),
        "without history": tagging_metrics(torch.cat(without_history), tags),
        "most frequent tags": tagging_metrics(histories.total().expand_as(tags), tags),
    }


def format_metrics(metrics: Metrics) -> str:
    """A table, a method a row."""
    names = list(next(iter(metrics.values())))
    rows = [f"{'':20}" + "".join(f"{name:>14}" for name in names)]
    rows += [f"{method:20}" + "".join(f"{values[name]:14.3f}" for name in names) for method, values in metrics.items()]
    return "\n".join(rows)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="data set folder with manifest.parquet")
    parser.add_argument("--workers", type=int, default=2, help="processes that read pictures (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        checkpoint = load_checkpoint(arguments.checkpoint)
        manifest = read_manifest(arguments.data)
        if manifest.vocabulary != checkpoint.vocabulary:
            raise CheckpointError(f"{arguments.checkpoint} was trained on another vocabulary than {arguments.data}")
        metrics = evaluate(checkpoint.model, manifest, build_histories(manifest), workers=arguments.workers)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_metrics(metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
