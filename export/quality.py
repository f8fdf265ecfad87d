"""The pictures that a release is checked on, and the precision@5 of models on them."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ExportError
from export.golden import Inputs, Recommender
from measure.progress import progress_bar
from training.data.dataset import EvaluationPictures, evaluation_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.metrics import Ranked, merge, rank, summarize
from training.model import ALTReco

GOLDEN_PICTURES = 12
GOLDEN_COLD = 4


def golden_inputs(manifest: Manifest, histories: Histories) -> Inputs:
    """Collect test pictures with their users' tag counts, and some of them again without a history (cold start).

    The first picture comes three more times: with one tag, with all tags, and with a count as large as float32 holds.
    """
    pictures = tested_inputs(manifest, histories, GOLDEN_PICTURES)
    names, image, counts = pictures.names, pictures.image, pictures.counts
    cold = slice(0, GOLDEN_COLD)
    extremes = _extreme_counts(counts.shape[1])
    return Inputs(
        names=(*names, *(f"{name} (cold start)" for name in names[cold]), *(f"{names[0]} ({of})" for of in extremes)),
        image=np.concatenate([image, image[cold], image[:1].repeat(len(extremes), 0)]),
        counts=np.concatenate([counts, np.zeros_like(counts[cold]), *extremes.values()]),
    )


def tested_inputs(manifest: Manifest, histories: Histories, count: int) -> Inputs:
    """Collect at most `count` test pictures with their users' tag counts. Raises ExportError if there are none."""
    rows = spread(manifest.rows("test"), count)
    if len(rows) == 0:
        raise ExportError(f"{manifest.root} has no test pictures: mark some rows of its manifest with the split `test`")
    pictures = EvaluationPictures(manifest, histories, rows)
    items = [pictures[i] for i in range(len(rows))]
    return Inputs(
        names=tuple(manifest.images[int(row)] for row in rows),
        image=np.stack([item[0] for item in items]),
        counts=np.stack([item[1] for item in items]),
    )


def _extreme_counts(tags: int) -> dict[str, NDArray[np.float32]]:
    """Build counts [1, N] that would expose a wrong prior, by name."""
    one, every = np.zeros((1, tags), np.float32), np.ones((1, tags), np.float32)
    one[:, 0] = 1
    huge = every.copy()
    huge[:, 0] = np.finfo(np.float32).max
    return {"one tag": one, "all tags": every, "a huge count": huge}


def torch_recommender(model: ALTReco) -> Recommender:
    """Create a recommender that runs the checkpoint's model on the CPU."""

    @torch.inference_mode()
    def recommend(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        return model.recommend(torch.from_numpy(image), torch.from_numpy(counts)).numpy()

    return recommend


def precision_at_5(
    recommenders: Mapping[str, Recommender], manifest: Manifest, histories: Histories, *, pictures: int, quiet: bool
) -> dict[str, float]:
    """Measure precision@5 of each model on the same test pictures: at most `pictures`, spread over the split."""
    rows = spread(manifest.rows("test"), pictures)
    ranked: dict[str, list[Ranked]] = {name: [] for name in recommenders}
    batches = evaluation_batches(manifest, histories, rows, workers=0, batch_size=25)
    for batch in progress_bar(batches, "quality", total=-(-len(rows) // 25), unit="batch", disable=quiet):
        for name, recommend in recommenders.items():
            scores = torch.from_numpy(recommend(batch.image.numpy(), batch.counts.numpy()))
            ranked[name].append(rank(scores, batch.tags, batch.user, ks=(5,)))
    return {name: summarize(merge(parts))["precision@5"] for name, parts in ranked.items()}


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Select at most `count` rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64))] if len(rows) else rows
