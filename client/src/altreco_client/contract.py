"""The serving contract between client, training and export: models, tensors and sizes."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 2
"""Version of this contract. It rises whenever a tensor changes its name, dtype, shape or meaning."""

HISTORY_INPUTS = {"USER_HISTORY": 1, "USER_TAG_COUNTS": 2}
"""Name of the ensemble's history input -> version of the contract. The name changes with the meaning, so that a client
and a server of different versions refuse each other and misread nothing."""

IMAGE_SIZE = 224
"""Height and width of the server's input image, in pixels."""

RESIZE_SHORT_SIDE = 256
"""Length of the short side before the centre crop, in pixels (paper, section IV-B)."""

PREFERENCE_DIM = 128
"""Length of the latent user preference u_p (paper, section IV a)."""

ENCODING_SHAPE = (64, 7, 7)
"""Shape of the visual encoding, channels first: the output of the classifier's first convolution."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model. `dtype` is Triton's; `dims` leaves out the batch dimension; -1 is the vocabulary size N."""

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A model of the repository."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


IMAGE = Tensor("IMAGE", "UINT8", (IMAGE_SIZE, IMAGE_SIZE, 3))
USER_TAG_COUNTS = Tensor("USER_TAG_COUNTS", "FP32", (-1,))
"""How often the user used each tag: raw counts, all zeros for a user without history."""
VISUAL_ENCODING = Tensor("VISUAL_ENCODING", "FP32", ENCODING_SHAPE)
USER_PREFERENCE = Tensor("USER_PREFERENCE", "FP32", (PREFERENCE_DIM,))
USER_PRIOR = Tensor("USER_PRIOR", "FP32", (-1,))
"""The part of the logits that comes from the history alone. All zeros without a history, and for a model without the
history path."""
TAGS = Tensor("TAGS", "FP32", (-1,))

VISUAL_ENCODER = Model("visual_encoder", (IMAGE,), (VISUAL_ENCODING,))
PREFERENCE_ENCODER = Model("preference_encoder", (USER_TAG_COUNTS,), (USER_PREFERENCE, USER_PRIOR))
CLASSIFIER = Model("classifier", (VISUAL_ENCODING, USER_PREFERENCE, USER_PRIOR), (TAGS,))
TAG_RECOMMENDER = Model("tag_recommender", (IMAGE, USER_TAG_COUNTS), (TAGS,))
CANDIDATE = Model("tag_recommender_candidate", (IMAGE, USER_TAG_COUNTS), (TAGS,))
"""The ensemble of a candidate release, while one is tried beside the served one."""

COMPONENTS = (VISUAL_ENCODER, PREFERENCE_ENCODER, CLASSIFIER)
"""The models with weights, in the order in which the ensemble runs them."""

MAX_BATCH_SIZE = 32
"""Most rows in one request, as in the committed model configs."""

LABELS_FILE = "tags.txt"
"""Name of the vocabulary file next to the classifier's config: one tag per line, in the order of the TAGS tensor."""
