"""The gRPC client: an image and a history in, tags out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from . import contract
from .errors import ContractMismatch, InvalidRequest, from_triton
from .history import Vocabulary, history_vector
from .images import MAX_PIXELS, ImageLike, PreparedImage, prepare


@dataclass(frozen=True)
class Tag:
    """A recommended tag; `score` is the model's probability, 0 to 1."""

    name: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """The tags, best first, and the release that answered."""

    tags: tuple[Tag, ...]
    model_version: str


class TagRecommender:
    """Asks one Triton server. Threads may share it; it belongs to the process that made it (gRPC does not fork).

    `url` is host:port of Triton's gRPC endpoint; `deadline_s` (seconds) holds for every call. Every call raises
    Unavailable, DeadlineExceeded, ServerRejected or ContractMismatch, see `altreco_client.errors`.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        model_name: str = contract.TAG_RECOMMENDER.name,
        deadline_s: float = 5.0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Nothing is sent before the first call."""
        if "://" in url or "/" in url:
            raise InvalidRequest(f"url {url!r}: expected host:port of the gRPC endpoint, such as localhost:8001")
        if not deadline_s > 0:
            raise InvalidRequest(f"deadline_s {deadline_s!r}: expected seconds above zero")
        self._url, self._model, self._deadline_s, self._max_pixels = url, model_name, deadline_s, max_pixels
        self._client = triton.InferenceServerClient(url)
        self._vocabulary: Vocabulary | None = None
        self._lock = threading.Lock()

    def recommend(
        self,
        image: ImageLike | PreparedImage,
        history: Mapping[str, float] | None = None,
        k: int = 5,
        *,
        unknown_tags: Literal["error", "ignore"] = "error",
    ) -> Recommendation:
        """The k tags that the user with this history (tag -> count; None: no history) is likely to want.

        Raises InvalidImage, InvalidHistory, UnknownTag and InvalidRequest (k) before anything is sent.
        """
        vocabulary = self.vocabulary
        if not 1 <= k <= len(vocabulary):
            raise InvalidRequest(f"k is {k}: expected 1 to {len(vocabulary)}, the size of the vocabulary")
        vector = history_vector(history, vocabulary, unknown_tags=unknown_tags)
        result = self._infer(prepare(image, max_pixels=self._max_pixels).tensor, vector, k)
        ranked = _parse(result)
        return Recommendation(tuple(Tag(name, score) for score, _, name in ranked), result.get_response().model_version)

    @property
    def vocabulary(self) -> Vocabulary:
        """The server's tags, asked for once."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._learn_vocabulary()
            return self._vocabulary

    def ready(self) -> bool:
        """Whether the server answers and its ensemble is loaded; False while nothing answers."""
        try:
            return bool(self._client.is_model_ready(self._model, client_timeout=self._deadline_s))
        except InferenceServerException:
            return False

    def close(self) -> None:
        """Close the connection; the object cannot be used afterwards."""
        self._client.close()

    def __enter__(self) -> TagRecommender:
        """Enter: itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Leave: close."""
        self.close()

    def _infer(self, image: NDArray[np.uint8], history: NDArray[np.float32], k: int) -> triton.InferResult:
        """One request of batch size 1 that asks for the k best classes."""
        inputs = []
        for tensor, array in ((contract.IMAGE, image), (contract.USER_HISTORY, history)):
            entry = triton.InferInput(tensor.name, [1, *array.shape], tensor.dtype)
            entry.set_data_from_numpy(array[np.newaxis])
            inputs.append(entry)
        outputs = [triton.InferRequestedOutput(contract.TAGS.name, class_count=k)]
        with self._errors():
            return self._client.infer(self._model, inputs, outputs=outputs, client_timeout=self._deadline_s)

    def _learn_vocabulary(self) -> Vocabulary:
        """Rank all N classes of an empty request: the classification extension names each with its index."""
        with self._errors():
            metadata = self._client.get_model_metadata(self._model, client_timeout=self._deadline_s)
        n = _vocabulary_size(self._model, metadata)
        blank = np.zeros(contract.IMAGE.dims, dtype=np.uint8)
        ranked = _parse(self._infer(blank, np.zeros(n, dtype=np.float32), n))
        return Vocabulary(tuple(name for _, _, name in sorted(ranked, key=lambda entry: entry[1])))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            raise from_triton(error, self._url, self._deadline_s) from error


def _vocabulary_size(model: str, metadata: object) -> int:
    """N, from the ensemble's metadata; raises ContractMismatch unless its tensors are those of the contract."""
    served = {t.name: (t.datatype, list(t.shape)[1:]) for t in [*metadata.inputs, *metadata.outputs]}  # type: ignore[attr-defined]
    n = served.get(contract.TAGS.name, ("", [0]))[1][-1]
    for tensor in (*contract.TAG_RECOMMENDER.inputs, *contract.TAG_RECOMMENDER.outputs):
        expected = (tensor.dtype, [n if dim == -1 else dim for dim in tensor.dims])
        if served.get(tensor.name) != expected or n < 1:
            raise ContractMismatch(
                f"model {model!r} serves {served}, but this client speaks {tensor.name} {expected[0]} {expected[1]}; "
                "use the altreco-client that fits the server's release"
            )
    return int(n)


def _parse(result: triton.InferResult) -> list[tuple[float, int, str]]:
    """Entries `score:index:label` of Triton's classification extension, in the server's order."""
    ranked = []
    for entry in result.as_numpy(contract.TAGS.name).reshape(-1):
        score, index, *label = entry.decode().split(":", 2)
        if not label:
            raise ContractMismatch(
                f"the server's {contract.TAGS.name} has no label for class {index}: "
                f"its model repository lacks {contract.LABELS_FILE}, or the file is too short"
            )
        ranked.append((float(score), int(index), label[0]))
    return ranked
