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

TAGS_AS_ROWS = tuple(
    f"{layer}.{kind}"
    for layer in ("classifier.fc2", "generator.fc", "preference_decoder.last")
    for kind in ("weight", "bias")
)
TAGS_AS_COLUMNS = ("preference_encoder.layers.0.weight",)
"""Weights that have one row or column a tag."""


@dataclass(frozen=True)
class Kept:
    """What was taken over: tensors, of how many in the network, and the tags that both vocabularies know."""

    tensors: int
    of_tensors: int
    shared_tags: int

    def __str__(self) -> str:
        """For the terminal."""
        return f"{self.tensors} of {self.of_tensors} tensors, {self.shared_tags} shared tags"


@torch.no_grad()
def start_from_checkpoint(network: ALTReco, vocabulary: Vocabulary, source: Checkpoint) -> Kept:
    """Copy the weights of the same name and shape; those with a row or column a tag are matched by the tag's name.

    What has no counterpart keeps its value. Raises CheckpointError when no part of the visual encoder fits.
    """
    shared = [tag for tag in vocabulary.tags if tag in source.vocabulary.index]
    here = torch.tensor([vocabulary.index[tag] for tag in shared], dtype=torch.long)
    there = torch.tensor([source.vocabulary.index[tag] for tag in shared], dtype=torch.long)
    weights, found = network.state_dict(), source.model.state_dict()
    kept = [name for name in weights if name in found and _copy(name, weights[name], found[name], here, there)]
    if not any(name.startswith("visual_encoder.") and weights[name].ndim > 1 for name in kept):
        raise CheckpointError("the checkpoint's backbone is another one: nothing of the visual encoder fits")
    return Kept(len(kept), len(weights), len(shared))


def _copy(name: str, into: Tensor, value: Tensor, here: Tensor, there: Tensor) -> bool:
    """Into the network's own tensor; False where the shapes do not fit."""
    if name in TAGS_AS_ROWS and into.shape[1:] == value.shape[1:]:
        into[here] = value[there]
    elif name in TAGS_AS_COLUMNS and into.shape[0] == value.shape[0]:
        into[:, here] = value[:, there]
    elif name not in (*TAGS_AS_ROWS, *TAGS_AS_COLUMNS) and into.shape == value.shape:
        into.copy_(value)
    else:
        return False
    return True
