"""The synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import tritonclient.grpc as triton

from .call import methods
from .call.context import ClientState, internal_context, known_vocabulary, ready
from .call.flow import Call, Compute, Flow, Pause, Step, Usable
from .call.ranking import History
from .images import ImageLike, PreparedImage
from .results import Recommendation
from .settings import Settings
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import ClientSettings, Options

T = TypeVar("T")


class TagRecommender:
    """Asks Triton for tags. Threads may share it. It belongs to the process that made it: gRPC does not survive a fork.

    url: host:port of Triton's gRPC, or several: dns:///name:8001, ipv4:10.0.0.1:8001,10.0.0.2:8001 (round robin).
    settings: the keywords of `altreco_client.ClientSettings`: deadline_s, channel, headers, ...

    Every call raises InvalidRequest or its children for what the caller did, and ServerError's children for what the
    server did; see `altreco_client.errors`.

    >>> with TagRecommender(url) as recommender:
    ...     answer = recommender.recommend(photo, {"tag-7": 3, "tag-8": 1}, k=3)
    >>> len(answer.tags), answer.model_version
    (3, '1')
    """

    def __init__(self, url: str = "localhost:8001", **settings: Unpack[ClientSettings]) -> None:
        """Nothing is sent before the first call. Raises InvalidRequest."""
        self._state = ClientState(Settings(url=url, **settings))
        self._usable = Usable()
        self._client = triton.InferenceServerClient(**self._state.settings.channel.client_arguments(url))
        self._lock = threading.Lock()

    def recommend(
        self,
        image: ImageLike | PreparedImage,
        history: History = None,
        k: int = 5,
        **options: Unpack[Options],
    ) -> Recommendation:
        """The k tags that the user with this history (tag -> count; None: no history) is likely to want.

        A picture that is asked for again, for another user or while its tags are edited, is better given as
        `prepare(image)`. The options are those of `altreco_client.Options`.

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
        """For each image with its history, in order, all within one deadline.

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
        """One image for many users, in the order of their histories: it is sent and encoded once.

        >>> with TagRecommender(url) as recommender:
        ...     first, second = recommender.recommend_for_users(photo, [{"tag-7": 1}, {"tag-8": 1}])
        >>> first.model_version == second.model_version
        True
        """
        return self._run(methods.recommend_for_users(self._state, image, histories, k, options))

    @property
    def vocabulary(self) -> Vocabulary:
        """The server's tags: asked for once, and again when a release with others answers."""
        return self._run(known_vocabulary(internal_context(self._state)))

    def ready(self) -> bool:
        """Whether the server answers and its ensemble is loaded; False while nothing answers."""
        return self._run(ready(self._state))

    def close(self) -> None:
        """Close the connection; the object cannot be used afterwards."""
        self._usable.close()
        self._client.close()

    def __enter__(self) -> TagRecommender:
        """Enter: itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Leave: close."""
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        """Used by `altreco doctor`, too."""
        self._usable.check()
        resume: Any = flow.send
        value: Any = None
        while True:
            try:
                step = resume(value)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                value, resume = self._do(step), flow.send
            except BaseException as error:  # noqa: BLE001 - Ctrl-C too: the flow must see how it ends, and raises it again
                value, resume = error, flow.throw

    def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return getattr(self._client, step.method)(**step.arguments)
        if isinstance(step, Compute):
            return step.work()
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if not self._lock.acquire(timeout=step.deadline.left()):
            raise step.deadline.exceeded()
        try:
            done = step.done()
            return self._run(step.flow()) if done is None else done
        finally:
            self._lock.release()
