"""Fine-tuning: start a network from a checkpoint, of another vocabulary or variant too, keeping what fits.

Table V's second row is that: trained on YFCC100M, then on NUS-WIDE.
"""

from dataclasses import dataclass

import torch
from altreco_client import Vocabulary
from torch import Tensor

from training.checkpoint import Checkpoint
from training.errors import CheckpointError
from training.model import ALTReco

TAGS_AS_ROWS = (
    *("classifier.fc2.weight", "classifier.fc2.bias"),
    *("generator.fc.weight", "generator.fc.bias"),
    *("preference_decoder.last.weight", "preference_decoder.last.bias"),
    *("history_path.a", "history_path.b", "history_path.population.decode.weight"),
)
TAGS_AS_COLUMNS = ("preference_encoder.layers.0.weight", "history_path.population.encode.weight")
"""Weights with one row or column per tag."""

FROM_DATA = ("history_path.shares", "history_path.users")
"""Tensors that describe the training data: the new data's are kept."""


@dataclass(frozen=True)
class Kept:
    """How many of the network's tensors were copied, and how many tags both vocabularies have."""

    tensors: int
    of_tensors: int
    shared_tags: int

    def __str__(self) -> str:
        """Return the counts as one line."""
        return f"{self.tensors} of {self.of_tensors} tensors, {self.shared_tags} shared tags"


@torch.no_grad()
def start_from_checkpoint(network: ALTReco, vocabulary: Vocabulary, source: Checkpoint) -> Kept:
    """Copy the weights of the same name and shape; rows or columns that belong to tags are matched by the tags' names.

    Other weights keep their values, as does what `start_from` took from the data. Raises CheckpointError when no part
    of the visual encoder fits.
    """
    shared = [tag for tag in vocabulary.tags if tag in source.vocabulary.index]
    here = torch.tensor([vocabulary.index[tag] for tag in shared], dtype=torch.long)
    there = torch.tensor([source.vocabulary.index[tag] for tag in shared], dtype=torch.long)
    weights, found = network.state_dict(), source.model.state_dict()
    for name in FROM_DATA:
        weights.pop(name, None)
    kept = [name for name in weights if name in found and _copy(name, weights[name], found[name], here, there)]
    if not any(name.startswith("visual_encoder.") and weights[name].ndim > 1 for name in kept):
        raise CheckpointError("the checkpoint's backbone is another one: nothing of the visual encoder fits")
    return Kept(len(kept), len(weights), len(shared))


def _copy(name: str, into: Tensor, value: Tensor, here: Tensor, there: Tensor) -> bool:
    """Copy `value` into the network's own tensor; return False if the shapes do not fit."""
    if name in TAGS_AS_ROWS and into.shape[1:] == value.shape[1:]:
        into[here] = value[there]
    elif name in TAGS_AS_COLUMNS and into.shape[0] == value.shape[0]:
        into[:, here] = value[:, there]
    elif name not in (*TAGS_AS_ROWS, *TAGS_AS_COLUMNS) and into.shape == value.shape:
        into.copy_(value)
    else:
        return False
    return True
