"""The synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from .call import methods
from .call.context import ClientState, internal_context, known_vocabulary, ready, wait_ready
from .call.flow import Call, Compute, Flow, Pause, Slot, Step
from .call.ranking import History
from .images import ImageLike, PreparedImage
from .results import Recommendation
from .settings import checked_settings
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import ClientSettings, Options

T = TypeVar("T")


class TagRecommender:
    """A client for the tag recommender on Triton.

    Threads may share a client. Processes may not, because gRPC does not survive a fork.

    - `url`: host:port of Triton's gRPC endpoint. For several replicas, used in turn: dns:///name:8001 or
      ipv4:10.0.0.1:8001,10.0.0.2:8001.
    - `settings`: the keyword arguments in `altreco_client.ClientSettings`, such as deadline_s, channel and headers.

    Every call raises InvalidRequest or one of its subclasses for the caller's mistakes, and a subclass of ServerError
    if the server cannot answer; see `altreco_client.errors`.

    >>> with TagRecommender(url) as recommender:
    ...     answer = recommender.recommend(photo, {"tag-7": 3, "tag-8": 1}, k=3)
    >>> len(answer.tags), answer.model_version
    (3, '1')
    """

    def __init__(self, url: str = "localhost:8001", **settings: Unpack[ClientSettings]) -> None:
        """Check the settings; nothing is sent before the first call. Raises InvalidRequest."""
        self._state = ClientState(checked_settings("TagRecommender", url, settings))
        self._client = triton.InferenceServerClient(**self._state.settings.channel.client_arguments(url))
        self._lock = threading.Lock()

    def recommend(
        self,
        image: ImageLike | PreparedImage,
        history: History = None,
        k: int = 5,
        **options: Unpack[Options],
    ) -> Recommendation:
        """Recommend k tags for an image to the user with this history (tag -> count; None: no history).

        Pass `prepare(image)` if the image is used again, for another user or while its tags are edited. The options
        are described in `altreco_client.Options`.

        >>> with TagRecommender(url) as recommender:
        ...     answer = recommender.recommend(photo, TagHistory({"tag-7": 1, "zeppelin": 2}), fallback="history")
        >>> answer.unknown_tags
        ('zeppelin',)
        """
        return self._run(methods.recommend(self._state, image, history, k, options))

    def recommend_batch(
        self,
        images: Sequence[ImageLike | PreparedImage],
        histories: Sequence[History] | None = None,
        k: int = 5,
        **options: Unpack[Options],
    ) -> tuple[Recommendation, ...]:
        """Recommend for images and their users' histories, two lists in the same order, all within one deadline.

        Without `histories`, no user has one.

        >>> with TagRecommender(url) as recommender:
        ...     answers = recommender.recommend_batch([photo, photo], [{"tag-7": 1}, None])
        >>> [len(answer.tags) for answer in answers]
        [5, 5]
        """
        return self._run(methods.recommend_batch(self._state, images, histories, k, options))

    def recommend_for_users(
        self,
        image: ImageLike | PreparedImage,
        histories: Sequence[History],
        k: int = 5,
        **options: Unpack[Options],
    ) -> tuple[Recommendation, ...]:
        """Recommend for one image to many users, in the order of their histories. The image is sent and encoded once.

        >>> with TagRecommender(url) as recommender:
        ...     first, second = recommender.recommend_for_users(photo, [{"tag-7": 1}, {"tag-8": 1}])
        >>> first.model_version == second.model_version
        True
        """
        return self._run(methods.recommend_for_users(self._state, image, histories, k, options))

    @property
    def vocabulary(self) -> Vocabulary:
        """The server's tags. The client asks for them once, and again when a release with other tags answers."""
        return self._run(known_vocabulary(internal_context(self._state)))

    def ready(self) -> bool:
        """Whether the server answers and its ensemble is loaded; False if no server answers."""
        return self._run(ready(self._state))

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the server's ensemble is loaded. Raises the last ServerError if it is not after `timeout_s`."""
        self._run(wait_ready(self._state, timeout_s))

    def close(self) -> None:
        """Close the connection; the client cannot be used afterwards. Calls under way end with Unavailable."""
        self._state.usable.close()
        self._client.close()

    def __enter__(self) -> TagRecommender:
        """Return the client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close the client."""
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        """Run a flow; `altreco doctor` uses it too."""
        self._state.usable.check()
        return self._finish(flow)

    def _finish(self, flow: Flow[T]) -> T:
        resume: Any = flow.send
        value: Any = None
        while True:
            try:
                step = resume(value)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                value, resume = self._do(step), flow.send
            except BaseException as error:  # noqa: BLE001 - also Ctrl-C: the flow must see the error, and raises it again
                value, resume = error, flow.throw

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            try:
                return getattr(self._client, step.method)(**step.arguments)
            except (InferenceServerException, ValueError):  # ValueError: the channel is closed
                if self._state.usable.closed:
                    raise self._state.usable.interrupted() from None
                raise
        if isinstance(step, Compute):
            return step.work()
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Slot):
            return bool(wait([step.future], step.seconds).done)
        if not self._lock.acquire(timeout=step.deadline.left()):
            raise step.deadline.exceeded()
        try:
            done = step.done()
            return self._finish(step.flow()) if done is None else done
        finally:
            self._lock.release()
