"""CNN-RNN, after Wang et al. (CNN-RNN: A Unified Framework for Multi-label Image Classification, CVPR 2016).

A picture's tags are predicted one after the other, each from the picture and from the state of an LSTM over the tags so
far; training shows them from the most to the least frequent one. Picture, state and tags meet in one space:

    logits = relu(from_state(o) + from_image(x)) embedding^T + bias

Differs from the original: this project's backbone, Adam, and paths of one forced length, as precision@10 asks for ten
tags of every picture. A tag comes once in a path, and log-probabilities are not renormalized for it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.data.dataset import Batch
from training.errors import DataError
from training.methods.on_pictures import batches_of, train_on_pictures
from training.methods.task import Task

LENGTH = 20
"""At most so many of a picture's tags are shown in training."""
PATH = 10
"""Tags of a predicted path."""
WIDTH = 5
"""Paths that the search keeps."""
EMBEDDING, STATE, DROPOUT = 64, 512, 0.5
EPOCHS, BATCH, LEARNING_RATE, END_TO_END_RATE = 10, 50, 1e-3, 1e-4
CHUNK_NUMBERS = 2**24
"""Numbers held at once in the search, 64 MiB as float32."""

State = tuple[Tensor, Tensor]
"""Hidden state and cell of the LSTM, [1, paths, STATE] each."""


class CnnRnn(nn.Module):
    """The network after the features x [pictures, D]. Outputs are N + 1 log-probabilities, END last."""

    def __init__(self, channels: int, total: Tensor, pictures: int) -> None:
        """`channels`: D. `total` [N]: how many of the training pictures have each tag; the bias starts there."""
        super().__init__()
        self.tags = len(total)
        self.start, self.end = self.tags, self.tags + 1
        self.embedding = nn.Embedding(self.tags + 2, EMBEDDING)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING**-0.5)
        self.lstm = nn.LSTM(EMBEDDING, STATE, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.from_state, self.from_image = nn.Linear(STATE, EMBEDDING), nn.Linear(channels, EMBEDDING)
        counts = torch.cat([total + 1, torch.tensor([float(pictures)])])
        self.bias = nn.Parameter((counts / counts.sum()).log())

    def forward(self, features: Tensor, given: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Log-probabilities [pictures, steps, N + 1] after each of `given` [pictures, steps], START or tags."""
        output, state = self.lstm(self.embedding(given), state)
        joint = self.from_state(self.dropout(output)) + self.from_image(self.dropout(features))[:, None]
        outputs = torch.cat([self.embedding.weight[: self.tags], self.embedding.weight[self.end :]])
        return functional.log_softmax(functional.linear(joint.relu(), outputs, self.bias), dim=2), state


def sequences(tags: Tensor, total: Tensor) -> Tensor:
    """Each picture's tags from the most frequent one on, then ends, int64 [pictures, at most LENGTH + 1].

    `tags` 0/1 [pictures, N]; `total` [N]: how many training pictures have each tag; of equals, the smaller index first.
    Padding after the first end is -1. An end is the number N.
    """
    order = total.argsort(descending=True, stable=True)
    picture, place = tags[:, order].nonzero(as_tuple=True)
    counts = torch.bincount(picture, minlength=len(tags))
    position = torch.arange(len(picture)) - (counts.cumsum(0) - counts)[picture]
    steps = min(LENGTH, int(counts.max()) if len(counts) else 0) + 1
    kept = position < LENGTH
    result = torch.full((len(tags), steps), -1, dtype=torch.int64)
    result[picture[kept], position[kept]] = order[place[kept]]
    result[torch.arange(len(tags)), counts.clamp(max=LENGTH)] = tags.shape[1]
    return result


def sequence_loss(network: CnnRnn, features: Tensor, following: Tensor) -> Tensor:
    """Cross-entropy of `sequences`, the mean over each picture's steps, then over pictures; a scalar."""
    first = torch.full_like(following[:, :1], network.start)
    # Nothing after an end is counted: any tag may stand there.
    logs, _ = network(features, torch.cat([first, following[:, :-1]], dim=1).clamp(min=0))
    counted = following >= 0
    taken = logs.gather(2, following.clamp(min=0)[:, :, None])[:, :, 0] * counted
    return -(taken.sum(1) / counted.sum(1)).mean()


@dataclass(frozen=True)
class Paths:
    """The best path of each picture: `tags` int64 [pictures, K] and their `logs` [pictures, K], given those before;
    `first` [pictures, N]: probability of each tag as the first one.
    """

    tags: Tensor
    logs: Tensor
    first: Tensor

    def scores(self, *, by_probability: bool = False) -> Tensor:
        """[pictures, N]: the path's tags in order, or the likeliest first, then all others by `first`."""
        size = self.first.shape[1]
        order = self.logs.argsort(dim=1, descending=True, stable=True) if by_probability else None
        tags = self.tags if order is None else self.tags.gather(1, order)
        places = torch.arange(size, size - tags.shape[1], -1, dtype=self.first.dtype) + 1
        return self.first.scatter(1, tags, places.expand(len(tags), -1))


@torch.no_grad()
def search(network: CnnRnn, features: Tensor, width: int = WIDTH, length: int = PATH) -> Paths:
    """Beam search: at each step, keep the `width` most probable paths of different tags; of equals, the smaller index.

    Raises DataError with fewer than `length` tags.
    """
    if network.tags < length:
        raise DataError(f"CNN-RNN predicts {length} tags for each picture, the vocabulary has only {network.tags}")
    network.eval()
    chunk = max(1, CHUNK_NUMBERS // (width * network.tags))
    found = [_search(network, part, width, length) for part in features.split(chunk)]
    return Paths(*(torch.cat([getattr(part, name) for part in found]) for name in ("tags", "logs", "first")))


def _search(network: CnnRnn, features: Tensor, width: int, length: int) -> Paths:
    pictures, size = len(features), network.tags
    given = features.new_full((pictures, 1), network.start, dtype=torch.int64)
    paths = given.new_zeros(pictures, 1, 0)  # [pictures, paths, steps]
    logs = features.new_zeros(pictures, 1, 0)
    state: State | None = None
    first = None
    for step in range(length):
        beams = paths.shape[1]
        following, state = network(features.repeat_interleave(beams, 0), given, state)
        following = following[:, 0, :size].view(pictures, beams, size)
        if first is None:
            first = following[:, 0].exp()
        total = (logs.sum(2, keepdim=True) + following).scatter(2, paths, -torch.inf)
        best = total.flatten(1).sort(dim=1, descending=True, stable=True)
        kept = best.indices[:, : min(width, beams * (size - step))]
        parent, tag = kept // size, kept % size
        taken = following.flatten(1).gather(1, kept)
        paths, logs = (
            torch.cat([old.gather(1, parent[:, :, None].expand(-1, -1, old.shape[2])), new[:, :, None]], dim=2)
            for old, new in ((paths, tag), (logs, taken))
        )
        rows = (torch.arange(pictures)[:, None] * beams + parent).flatten()
        state = (state[0][:, rows], state[1][:, rows])
        given = tag.flatten()[:, None]
    assert first is not None
    return Paths(paths[:, 0], logs[:, 0], first)


def fit(
    features: Tensor, tags: Tensor, validate: Callable[[CnnRnn], float] | None, *, seed: int, epochs: int = EPOCHS
) -> CnnRnn:
    """Train on `features` [M, D] of training pictures with `tags` 0/1 [M, N]; keep the epoch with the best figure."""
    torch.manual_seed(seed)
    total = tags.sum(0)
    network = CnnRnn(features.shape[1], total, len(tags))
    following = sequences(tags, total)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    best, best_weights = -1.0, network.state_dict()
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(features)).split(BATCH):
            loss = sequence_loss(network, features[rows], following[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if validate is not None and (figure := validate(network)) > best:
            best, best_weights = figure, copy.deepcopy(network.state_dict())
    if validate is not None:
        network.load_state_dict(best_weights)
    return network.eval()


def fit_end_to_end(task: Task, network: CnnRnn) -> Tensor:
    """Train A1's backbone and `network`, which was trained on its features, together; return the test features."""
    total = task.train.tags.sum(0)
    visual = copy.deepcopy(task.visual_net.visual_encoder)
    whole = nn.ModuleList([visual, network]).to(task.device)

    def features_of(image: Tensor) -> Tensor:
        return visual(image).float().mean((2, 3))

    def loss(batch: Batch, _: NDArray[np.int64]) -> Tensor:
        following, features = sequences(batch.tags.cpu(), total).to(task.device), features_of(batch.image)
        with torch.autocast(task.device.type, enabled=False):
            return sequence_loss(network, features, following)

    optimizer = torch.optim.Adam(whole.parameters(), lr=END_TO_END_RATE)
    train_on_pictures(task, whole, loss, optimizer)
    with torch.inference_mode():
        test = batches_of(task, task.manifest.rows("test"))
        features = torch.cat([features_of(batch.image).cpu() for batch, _ in test])
    network.cpu()
    return features
