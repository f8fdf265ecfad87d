"""ConTagNet, after Rawat and Kankanhalli (ConTagNet: Exploiting User Context for Image Tag Recommendation, ACM MM
2016): one network of the picture and of when and where it was taken.

Differs from the original: this project's backbone and A1's classifier in place of AlexNet; the widths of the context's
part are ours; what is unknown is 0 with a flag, not today's date. `raw` has the six numbers of the original; `cyclic`
is ours: angles of time and a point on the globe, which have no jump at midnight or at the 180th meridian.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.data.columns import EPOCH
from training.data.dataset import Batch
from training.data.manifest import Manifest
from training.errors import DataError
from training.methods.on_pictures import batches_of, fresh_visual_net, train_as_a1
from training.methods.task import Task
from training.model import ALTReco
from training.model.classifier import HIDDEN

Encoding = Literal["raw", "cyclic"]
NUMBERS = {"raw": 6, "cyclic": 9}
"""Numbers in each encoding, without the flag."""
WIDTH = 128
VISUAL_WEIGHT = 0.5
"""Weight of the loss of the answer without context."""


def raw(minute: NDArray[np.int32], place: NDArray[np.float32]) -> NDArray[np.float64]:
    """Latitude, longitude, minute of the day, day of the month, month, weekday (Monday is 0), [pictures, 6].

    `minute` [pictures] from EPOCH; `place` [pictures, 2]: longitude and latitude in degrees, may be NaN.
    """
    time = np.datetime64(EPOCH, "m") + minute.astype("timedelta64[m]")
    day, month, year = (time.astype(f"datetime64[{unit}]") for unit in "DMY")
    columns = (
        place[:, 1],
        place[:, 0],
        minute % 1440,
        (day - month).astype(np.int64) + 1,
        (month - year).astype(np.int64) + 1,
        (day.astype(np.int64) + 3) % 7,
    )
    return np.stack(columns, 1).astype(np.float64)


def cyclic(minute: NDArray[np.int32], place: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sine and cosine of the time in the day, the week and the year, and the place on the unit sphere, [pictures, 9].

    Arguments as in `raw`.
    """
    time = np.datetime64(EPOCH, "m") + minute.astype("timedelta64[m]")
    of_year = (time - time.astype("datetime64[Y]")).astype(np.int64)
    angles = [2 * np.pi * part / whole for part, whole in ((minute % 1440, 1440), (minute % 10080, 10080))]
    angles.append(2 * np.pi * of_year / (366 * 1440))
    longitude, latitude = np.radians(place.astype(np.float64)).T
    columns = [f(angle) for angle in angles for f in (np.sin, np.cos)]
    columns += [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    return np.stack(columns, 1)


@dataclass(frozen=True)
class Contexts:
    """The context of each of the manifest's pictures, [rows, numbers + 1]; the last is a flag: 1 if any is unknown.

    What is unknown is 0, in `raw` the mean.
    """

    values: Tensor

    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the values of these rows."""
        return self.values[torch.from_numpy(rows)]

    def permuted(self, rows: NDArray[np.int64], seed: int = 0) -> "Contexts":
        """Give each of `rows` the context of another, random one of them."""
        values = self.values.clone()
        values[torch.from_numpy(rows)] = self[np.random.default_rng(seed).permutation(rows)]
        return Contexts(values)


def lacks(manifest: Manifest) -> str:
    """What the data set lacks for ConTagNet, or nothing."""
    context, train = manifest.context, manifest.rows("train")
    if context is not None and (context.has_time[train].any() or context.has_place[train].any()):
        return ""
    return (
        f"{manifest.root}: ConTagNet needs when or where training pictures were taken, expected it in the manifest's "
        "columns taken, longitude and latitude"
    )


def contexts(manifest: Manifest, encoding: Encoding) -> Contexts:
    """Encode the contexts; raw numbers are standardized by the training pictures'.

    Raises DataError if the manifest has no context, or no training picture has a time or a place.
    """
    if lacking := lacks(manifest):
        raise DataError(lacking)
    context, train = manifest.context, manifest.rows("train")
    assert context is not None
    numbers = (raw if encoding == "raw" else cyclic)(np.where(context.has_time, context.minute, 0), context.place)
    of_time = slice(2, 6) if encoding == "raw" else slice(0, 6)
    numbers[~context.has_time, of_time] = np.nan
    unknown = np.isnan(numbers)
    if encoding == "raw":
        known = np.ma.masked_array(numbers[train], unknown[train])
        deviation = known.std(0).filled(1)
        numbers = (numbers - known.mean(0).filled(0)) / np.where(deviation > 0, deviation, 1)
    values = np.column_stack([np.where(unknown, 0, numbers), unknown.any(1)])
    return Contexts(torch.from_numpy(values).float())


class ConTagNet(nn.Module):
    """The network; `visual` is an A1, whose backbone and classifier it takes."""

    def __init__(self, visual: ALTReco, numbers: int) -> None:
        """`numbers` of the context, the flag included."""
        super().__init__()
        self.visual_encoder, self.classifier = visual.visual_encoder, visual.classifier
        tags = self.classifier.fc2.out_features
        self.context = nn.Sequential(nn.Linear(numbers, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.fused = nn.Sequential(nn.Linear(HIDDEN + WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, tags))
        for layer in (*self.context, *self.fused):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.fused.get_parameter("2.bias").copy_(self.classifier.fc2.bias)

    def forward(self, image: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Logits with context and without, [batch, N], of images uint8 [batch, 224, 224, 3]."""
        return self.answers(self.visual_encoder(image), context)

    def answers(self, encoding: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The same from e [batch, channels, 7, 7]."""
        c = self.classifier
        convolved = torch.relu(c.conv2(torch.relu(c.conv1(encoding))))
        visual = torch.relu(c.fc1(convolved.flatten(1)))
        return self.fused(torch.cat([visual, self.context(context)], dim=1)), c.fc2(visual)


def loss(answers: tuple[Tensor, Tensor], tags: Tensor) -> Tensor:
    """BCE with context, and VISUAL_WEIGHT times that without; a scalar. `tags` 0/1 float [batch, N]."""
    with_context, without = (functional.binary_cross_entropy_with_logits(a.float(), tags) for a in answers)
    return with_context + VISUAL_WEIGHT * without


def fit(task: Task, of_rows: Contexts) -> ConTagNet:
    """Train as A1 was, from the same weights."""
    network = ConTagNet(fresh_visual_net(task), of_rows.values.shape[1]).to(task.device)

    def of_batch(batch: Batch, rows: NDArray[np.int64]) -> Tensor:
        return loss(network(batch.image, of_rows[rows].to(task.device)), batch.tags)

    train_as_a1(task, network, of_batch)
    return network


@torch.inference_mode()
def scores(task: Task, network: ConTagNet, of_rows: Contexts, rows: NDArray[np.int64]) -> Tensor:
    """Logits with context of these rows, [rows, N], on the CPU."""
    parts = [network(batch.image, of_rows[some].to(task.device))[0] for batch, some in batches_of(task, rows)]
    return torch.cat(parts).float().cpu()
