"""The second stage of training: fit the population prior g of the history path, with everything else frozen.

g needs about a thousand steps, far more than the network. They are cheap, because each picture is encoded only once.
What is kept of a picture gives exactly the logits of the whole network. Without U_E it is the logits. With U_E they
depend on the history too, so e's part of the classifier's first convolution is kept: the convolution is linear, u_p's
part is added for each history, and the layers that follow run on the sum.
"""

from dataclasses import dataclass

import numpy as np
import torch
from altreco_client.contract import ENCODING_SHAPE
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from measure.progress import progress_bar
from training.data.dataset import Unreadable, evaluation_batches
from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.ragged import Ragged
from training.losses import personalized_loss
from training.metrics_log import MetricsLog
from training.model import ALTReco
from training.settings import TrainSettings

NAME = "population prior"
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
HIDDEN = 0.15
"""Share of pictures shown without a history."""

WHOLE = 0.3
"""Share of the others that are shown with all of their user's history; the rest see a random part of it."""

MAX_KEPT = 2**28
"""Floats kept of all pictures together: 1 GiB. With more training pictures, a random part of them is used."""

LOG_EVERY = 10


@torch.no_grad()
def keep(network: ALTReco, encoding: Tensor) -> Tensor:
    """What to keep of pictures with the encoding e: logits [batch, N], or for a network with U_E [batch, 64, 7, 7]."""
    if network.preference_encoder is None:
        return network.classifier(encoding, None)
    return network.classifier.image_part(encoding)


@torch.no_grad()
def logits(network: ALTReco, kept: Tensor, counts: Tensor, preference_map: Tensor | None) -> Tensor:
    """Return C's logits, float [batch, N], without the prior; `preference_map`: the classifier's, if there is a U_E."""
    if network.preference_encoder is None or preference_map is None:
        return kept
    from_preference = network.preference_encoder(counts) @ preference_map
    return network.classifier.tail(kept + from_preference.reshape(-1, *ENCODING_SHAPE))


@dataclass(frozen=True)
class Pictures:
    """Training pictures after the visual encoder: `rows` of the manifest, int64; the `image` of each, int64, an index
    into `kept`, float [images, ...]. Rows with the same image share one entry.
    """

    rows: NDArray[np.int64]
    image: NDArray[np.int64]
    kept: Tensor


def fit_population_prior(
    network: ALTReco,
    manifest: Manifest,
    histories: Histories,
    settings: TrainSettings,
    log: MetricsLog,
    *,
    first_step: int,
    workers: int,
    quiet: bool,
    unreadable: Unreadable | None = None,
) -> None:
    """Train g for `settings.second_stage_steps` steps; leaves the network in evaluation mode, with only g trainable.

    The log counts the steps from `first_step`. The result depends on nothing but settings, data and weights. Raises
    DataError for more pictures than `unreadable` allows, at first none; the others are grey.
    """
    path, device = network.history_path, next(network.parameters()).device
    assert path is not None
    assert path.population is not None
    network.eval().requires_grad_(False)
    path.population.requires_grad_(True)
    rng = np.random.default_rng([settings.seed, 2])
    pictures = _encode(network, manifest, histories, rng, workers, quiet, unreadable)
    preference_map = None if network.preference_encoder is None else network.classifier.preference_map()
    of_users = rows_of_users(manifest)
    optimizer = torch.optim.AdamW(path.population.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=settings.second_stage_steps)
    steps = progress_bar(range(1, settings.second_stage_steps + 1), NAME, unit="step", disable=quiet)
    for step in steps:
        chosen = rng.integers(len(pictures.rows), size=BATCH_SIZE)
        rows = pictures.rows[chosen].tolist()
        counts = _tensor([part_of_history(manifest, of_users, row, rng) for row in rows], device)
        tags = _tensor([manifest.multi_hot(row) for row in rows], device)
        kept = pictures.kept[torch.from_numpy(pictures.image[chosen]).to(device)]
        loss = personalized_loss(logits(network, kept, counts, preference_map) + path(counts), tags, settings.loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % LOG_EVERY == 0:
            steps.set_postfix({"personalized": f"{loss.item():.4f}"})
            log.add(NAME, {"personalized": loss.item()}, first_step + step)


def rows_of_users(manifest: Manifest) -> Ragged:
    """Return the training rows of each user."""
    rows = manifest.rows("train")
    rows = rows[np.argsort(manifest.users[rows], kind="stable")]
    offsets = np.searchsorted(manifest.users[rows], np.arange(len(manifest.user_names) + 1))
    return Ragged(offsets.astype(np.int64), rows)


def part_of_history(manifest: Manifest, of_users: Ragged, row: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Count the tags, float32 [N], of none, all or some of the user's other training pictures.

    How many is drawn on a logarithmic scale, so that short histories are as frequent as long ones.
    """
    others = of_users[manifest.users[row]]
    others = others[others != row]
    hidden, whole, size = rng.random(3)
    if hidden < HIDDEN:
        others = others[:0]
    elif whole >= WHOLE and len(others):
        others = rng.choice(others, round(len(others) ** size), replace=False)
    counts = np.zeros(len(manifest.vocabulary), dtype=np.float32)
    for other in others:
        counts[manifest.tags[other]] += 1
    return counts


@torch.no_grad()
def _encode(
    network: ALTReco,
    manifest: Manifest,
    histories: Histories,
    rng: np.random.Generator,
    workers: int,
    quiet: bool,
    unreadable: Unreadable | None = None,
) -> Pictures:
    """Encode each image once, centre crop; as many rows as MAX_KEPT allows."""
    device = next(network.parameters()).device
    one = keep(network, torch.zeros(1, network.visual_encoder.channels, *ENCODING_SHAPE[1:], device=device))
    rows = rng.permutation(manifest.rows("train"))[: max(1, MAX_KEPT // one.numel())]
    names = np.array([manifest.images[row] for row in rows])
    _, first, image = np.unique(names, return_index=True, return_inverse=True)
    batches = evaluation_batches(manifest, histories, rows[first], workers, unreadable=unreadable)
    kept = [
        keep(network, network.visual_encoder(batch.image.to(device)))
        for batch in progress_bar(batches, f"{NAME}: encode", unit="batch", disable=quiet)
    ]
    return Pictures(rows, image, torch.cat(kept))


def _tensor(rows: list[NDArray[np.float32]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(rows)).to(device)
