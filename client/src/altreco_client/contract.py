"""The serving contract: what crosses the wire, written down once for client, training, export and server tests."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_SIZE = 224
"""Height and width of the image that the server takes, pixels."""

RESIZE_SHORT_SIDE = 256
"""Length of the short side before the centre crop, pixels (paper, section IV-B)."""

PREFERENCE_DIM = 128
"""Length of the latent user preference u_p (paper, section IV a)."""

ENCODING_SHAPE = (64, 7, 7)
"""Shape of the folded visual encoding: the first classifier convolution's output, channels first."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model: its name, Triton dtype, and dims without the batch dimension (-1: vocabulary size N)."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A model of the repository with its tensors."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


IMAGE = Tensor("IMAGE", "UINT8", (IMAGE_SIZE, IMAGE_SIZE, 3))
USER_HISTORY = Tensor("USER_HISTORY", "FP32", (-1,))
VISUAL_ENCODING = Tensor("VISUAL_ENCODING", "FP32", ENCODING_SHAPE)
USER_PREFERENCE = Tensor("USER_PREFERENCE", "FP32", (PREFERENCE_DIM,))
TAGS = Tensor("TAGS", "FP32", (-1,))

VISUAL_ENCODER = Model("visual_encoder", (IMAGE,), (VISUAL_ENCODING,))
PREFERENCE_ENCODER = Model("preference_encoder", (USER_HISTORY,), (USER_PREFERENCE,))
CLASSIFIER = Model("classifier", (VISUAL_ENCODING, USER_PREFERENCE), (TAGS,))
TAG_RECOMMENDER = Model("tag_recommender", (IMAGE, USER_HISTORY), (TAGS,))

COMPONENTS = (VISUAL_ENCODER, PREFERENCE_ENCODER, CLASSIFIER)
"""The models that hold weights, in the order in which the ensemble runs them."""

MAX_BATCH_SIZE = 32
"""Rows of one request, as the committed configs have it."""

LABELS_FILE = "tags.txt"
"""The vocabulary beside the classifier's config: one tag a line, in the order of the TAGS tensor."""
