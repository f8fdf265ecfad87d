"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import tritonclient.grpc.aio as triton
from grpc.aio import UsageError
from tritonclient.utils import InferenceServerException

from .call import methods
from .call.context import ClientState, internal_context, known_vocabulary, ready, wait_ready
from .call.flow import Call, Compute, Flow, Pause, Slot, Step
from .call.ranking import History
from .errors import InvalidRequest
from .images import ImageLike, PreparedImage
from .results import Recommendation
from .settings import checked_settings
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import ClientSettings, Options

T = TypeVar("T")


class AsyncTagRecommender:
    """The asyncio client: TagRecommender's arguments, and its methods as coroutines.

    It belongs to the event loop of its first call, and may be created before that loop runs. Hundreds of calls may be
    in flight on one thread. Images are prepared in asyncio's thread pool, so they do not block the loop. A task that
    is cancelled cancels its request.

    >>> async def main():
    ...     async with AsyncTagRecommender(url) as recommender:
    ...         return await recommender.recommend(photo, {"tag-7": 3}, k=3)
    >>> len(asyncio.run(main()).tags)
    3
    """

    def __init__(self, url: str = "localhost:8001", **settings: Unpack[ClientSettings]) -> None:
        """Check the settings; nothing is sent before the first call. Raises InvalidRequest."""
        self._state = ClientState(checked_settings("AsyncTagRecommender", url, settings))
        self._arguments = self._state.settings.channel.client_arguments(url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: triton.InferenceServerClient | None = None
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

    async def wait_ready(self, timeout_s: float) -> None:
        """See TagRecommender.wait_ready."""
        await self._run(wait_ready(self._state, timeout_s))

    async def close(self) -> None:
        """Close the connection; the client cannot be used afterwards. Calls under way end with Unavailable."""
        self._state.usable.close()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    async def __aenter__(self) -> AsyncTagRecommender:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def _connect(self) -> None:
        """Make gRPC's channel in the loop of the first call; raises InvalidRequest in another one."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._client = loop, triton.InferenceServerClient(**self._arguments)
        elif loop is not self._loop:
            raise InvalidRequest(
                "this client was used in another event loop, to which its connection belongs: make one in each loop"
            )

    async def _run(self, flow: Flow[T]) -> T:
        self._state.usable.check()
        self._connect()
        return await self._finish(flow)

    async def _finish(self, flow: Flow[T]) -> T:
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
            return await self._call(step)
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
            return await self._finish(step.flow()) if done is None else done
        finally:
            self._lock.release()

    async def _call(self, step: Call) -> Any:
        usable = self._state.usable
        if usable.closed:
            raise usable.interrupted()
        try:
            return await getattr(self._client, step.method)(**step.arguments)
        except (InferenceServerException, UsageError, asyncio.CancelledError) as error:
            # A channel that is closed cancels its calls, which looks as if somebody had cancelled their tasks.
            if not usable.closed or (isinstance(error, asyncio.CancelledError) and _is_cancelled()):
                raise
            raise usable.interrupted() from None


def _is_cancelled() -> bool:
    """Tell whether somebody cancelled the current task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
