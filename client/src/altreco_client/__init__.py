"""Personalized image tag recommendation from an NVIDIA Triton server.

with TagRecommender("localhost:8001") as recommender:
    for tag in recommender.recommend("photo.jpg", {"sea": 3, "beach": 1}, k=5).tags:
        print(tag.name, tag.score)
"""

from .errors import (
    AltrecoError,
    ContractMismatch,
    DeadlineExceeded,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    ServerError,
    ServerRejected,
    Unavailable,
    UnknownTag,
)
from .history import Vocabulary, history_vector
from .images import PreparedImage, prepare
from .recommender import Recommendation, Tag, TagRecommender

__all__ = [
    "AltrecoError",
    "ContractMismatch",
    "DeadlineExceeded",
    "InvalidHistory",
    "InvalidImage",
    "InvalidRequest",
    "PreparedImage",
    "Recommendation",
    "ServerError",
    "ServerRejected",
    "Tag",
    "TagRecommender",
    "Unavailable",
    "UnknownTag",
    "Vocabulary",
    "history_vector",
    "prepare",
]
