"""Personalized image tag recommendation from an NVIDIA Triton server.

    with TagRecommender("localhost:8001") as recommender:
        for tag in recommender.recommend("photo.jpg", {"sea": 3, "beach": 1}, k=5).tags:
            print(tag.name, tag.score)

`AsyncTagRecommender` is the same for asyncio. `altreco_client.errors` shows what can be raised.
"""

from .aio import AsyncTagRecommender
from .call.observe import CallReport, accepted
from .channel import TLS, Channel
from .errors import (
    AltrecoError,
    ContractMismatch,
    DeadlineExceeded,
    HistoriesUnavailable,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    Overloaded,
    ServerError,
    ServerFailed,
    ServerRejected,
    TLSFailed,
    Unavailable,
    UnknownTag,
)
from .history import TagHistory
from .images import PreparedImage, prepare
from .reasons import Reason, explain
from .results import Recommendation, Tag
from .settings import ClientSettings, Options
from .sync import TagRecommender
from .vector import tag_counts
from .vocabulary import Vocabulary

__all__ = [
    "TLS",
    "AltrecoError",
    "AsyncTagRecommender",
    "CallReport",
    "Channel",
    "ClientSettings",
    "ContractMismatch",
    "DeadlineExceeded",
    "HistoriesUnavailable",
    "InvalidHistory",
    "InvalidImage",
    "InvalidRequest",
    "Options",
    "Overloaded",
    "PreparedImage",
    "Reason",
    "Recommendation",
    "ServerError",
    "ServerFailed",
    "ServerRejected",
    "TLSFailed",
    "Tag",
    "TagHistory",
    "TagRecommender",
    "Unavailable",
    "UnknownTag",
    "Vocabulary",
    "accepted",
    "explain",
    "prepare",
    "tag_counts",
]
