"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import tritonclient.grpc.aio as triton

from .call import methods
from .call.context import ClientState, internal_context, known_vocabulary, ready
from .call.flow import Call, Compute, Flow, Pause, Slot, Step, Usable
from .call.ranking import History
from .images import ImageLike, PreparedImage
from .results import Recommendation
from .settings import Settings
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import ClientSettings, Options

T = TypeVar("T")


class AsyncTagRecommender:
    """The asyncio client: TagRecommender's arguments, and its methods as coroutines.

    It belongs to one event loop: create it where that loop runs. Hundreds of calls may be in flight on one thread.
    Images are prepared in asyncio's thread pool, so they do not block the loop. A task that is cancelled cancels its
    request.

    >>> async def main():
    ...     async with AsyncTagRecommender(url) as recommender:
    ...         return await recommender.recommend(photo, {"tag-7": 3}, k=3)
    >>> len(asyncio.run(main()).tags)
    3
    """

    def __init__(self, url: str = "localhost:8001", **settings: Unpack[ClientSettings]) -> None:
        """Check the settings; nothing is sent before the first call. Raises InvalidRequest."""
        self._state = ClientState(Settings(url=url, **settings))
        self._usable = Usable()
        self._client = triton.InferenceServerClient(**self._state.settings.channel.client_arguments(url))
        self._lock = asyncio.Lock()

    async def recommend(
        self,
        image: ImageLike | PreparedImage,
        history: History = None,
        k: int = 5,
        **options: Unpack[Options],
    ) -> Recommendation:
        """See TagRecommender.recommend."""
        return await self._run(methods.recommend(self._state, image, history, k, options))

    async def recommend_batch(
        self,
        images: Sequence[ImageLike | PreparedImage],
        histories: Sequence[History] | None = None,
        k: int = 5,
        **options: Unpack[Options],
    ) -> tuple[Recommendation, ...]:
        """See TagRecommender.recommend_batch."""
        return await self._run(methods.recommend_batch(self._state, images, histories, k, options))

    async def recommend_for_users(
        self,
        image: ImageLike | PreparedImage,
        histories: Sequence[History],
        k: int = 5,
        **options: Unpack[Options],
    ) -> tuple[Recommendation, ...]:
        """See TagRecommender.recommend_for_users."""
        return await self._run(methods.recommend_for_users(self._state, image, histories, k, options))

    @property
    def vocabulary(self) -> Coroutine[Any, Any, Vocabulary]:
        """TagRecommender.vocabulary as a coroutine: `await recommender.vocabulary`."""
        return self._run(known_vocabulary(internal_context(self._state)))

    async def ready(self) -> bool:
        """See TagRecommender.ready."""
        return await self._run(ready(self._state))

    async def close(self) -> None:
        """Close the connection; the client cannot be used afterwards."""
        self._usable.close()
        await self._client.close()

    async def __aenter__(self) -> AsyncTagRecommender:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        self._usable.check()
        resume: Any = flow.send
        value: Any = None
        while True:
            try:
                step = resume(value)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                value, resume = await self._do(step), flow.send
            except BaseException as error:  # noqa: BLE001 - also a cancellation: the flow must see it, and raises it again
                value, resume = error, flow.throw

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Call):
            return await getattr(self._client, step.method)(**step.arguments)
        if isinstance(step, Compute):
            return await asyncio.to_thread(step.work)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Slot):
            # Not wait_for: it would cancel the future, which the limit still hands out.
            return bool((await asyncio.wait([asyncio.wrap_future(step.future)], timeout=step.seconds))[0])
        try:
            await asyncio.wait_for(self._lock.acquire(), step.deadline.left())
        except asyncio.TimeoutError:
            raise step.deadline.exceeded() from None
        try:
            done = step.done()
            return await self._run(step.flow()) if done is None else done
        finally:
            self._lock.release()
