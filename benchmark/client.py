"""What the client costs over bare tritonclient, how its ways to ask compare, and how long its import takes."""

import asyncio
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from altreco_client import (
    AsyncTagRecommender,
    Channel,
    PreparedImage,
    TagRecommender,
    Vocabulary,
    contract,
    history_vector,
)
from tqdm import tqdm

from benchmark.measure import served
from benchmark.settings import Settings
from benchmark.tables import cell, header, ratios
from export.full_size import folded

DEADLINE_S = 30.0
TAGS_IN_HISTORY = 20
K = 5
USERS = 32
IN_FLIGHT = 256
IMPORTS = ("pass", "import tritonclient.grpc", "import altreco_client")

Ask = Callable[[], object]


def measure_client(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """On one served model, whose cache has the pictures; raises ExportError, ServerError."""
    repository = folded(settings.preset, configs, folder)
    with served({"": repository}, settings.cache_size_bytes) as servers:
        url = servers[""].grpc_url
        with TagRecommender(url, deadline_s=DEADLINE_S) as recommender:
            vocabulary = recommender.vocabulary
            overhead = _overhead(recommender, url, settings)
            users = _many_users(recommender, settings)
        in_flight = asyncio.run(_in_flight(url, vocabulary))
    return {
        "calls": settings.client_calls,
        "ms": overhead,
        "users_ms": users,
        "in_flight": in_flight,
        "import_s": _import_times(settings.rounds),
    }


def _overhead(recommender: TagRecommender, url: str, settings: Settings) -> dict[str, list[float]]:
    """Median ms a call, a value a round, of one cached picture; the two take turns call by call."""
    picture, history = next(_pictures()), _history(recommender.vocabulary, 0)
    with triton.InferenceServerClient(**Channel().client_arguments(url)) as client:
        bare = _bare(client, picture, history_vector(history, recommender.vocabulary))
        asks = {"tritonclient": bare, "altreco_client": lambda: recommender.recommend(picture, history, K)}
        figures: dict[str, list[float]] = {name: [] for name in asks}
        for _ in tqdm(range(settings.rounds), desc="client", unit="round"):
            for name, times in _in_turn(asks, settings.client_calls).items():
                figures[name].append(statistics.median(times))
    return figures


def _bare(client: triton.InferenceServerClient, picture: PreparedImage, vector: np.ndarray) -> Ask:
    """The same request: same channel, deadline, timeout and kind of id; the history is a vector already."""
    image, history = picture.tensor[np.newaxis], vector[np.newaxis]

    def ask() -> np.ndarray:
        inputs = [
            triton.InferInput(contract.IMAGE.name, image.shape, contract.IMAGE.dtype),
            triton.InferInput(contract.USER_HISTORY.name, history.shape, contract.USER_HISTORY.dtype),
        ]
        inputs[0].set_data_from_numpy(image)
        inputs[1].set_data_from_numpy(history)
        result = client.infer(
            contract.TAG_RECOMMENDER.name,
            inputs,
            outputs=[triton.InferRequestedOutput(contract.TAGS.name, class_count=K)],
            request_id=uuid.uuid4().hex,
            client_timeout=DEADLINE_S,
            timeout=int(0.9e6 * DEADLINE_S),
        )
        return result.as_numpy(contract.TAGS.name)

    return ask


def _many_users(recommender: TagRecommender, settings: Settings) -> dict[str, list[float]]:
    """ms for one new picture and USERS users, asked for in three ways; a value a round."""
    histories = [_history(recommender.vocabulary, user) for user in range(USERS)]
    pictures = _pictures()

    def one_by_one() -> object:
        picture = next(pictures)
        return [recommender.recommend(picture, history, K) for history in histories]

    asks: dict[str, Ask] = {
        "recommend, one by one": one_by_one,
        "recommend_batch": lambda: recommender.recommend_batch([next(pictures)] * USERS, histories, K),
        "recommend_for_users": lambda: recommender.recommend_for_users(next(pictures), histories, K),
    }
    return _in_turn(asks, settings.rounds)


async def _in_flight(url: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """IN_FLIGHT requests at once on one event loop, a quarter of them for new pictures."""
    pictures = _pictures()
    known = [next(pictures) for _ in range(8)]
    asked = [next(pictures) if i % 4 == 0 else known[i % 8] for i in range(IN_FLIGHT)]
    async with AsyncTagRecommender(url, deadline_s=DEADLINE_S) as recommender:
        await asyncio.gather(*(recommender.recommend(picture) for picture in known))
        threads, started = threading.active_count(), time.perf_counter()
        calls = [
            asyncio.ensure_future(recommender.recommend(picture, _history(vocabulary, i), K))
            for i, picture in enumerate(asked)
        ]
        await asyncio.sleep(0)
        during = threading.active_count()
        answers = await asyncio.gather(*calls)
        seconds = time.perf_counter() - started
    return {"requests": len(answers), "seconds": seconds, "threads_more": during - threads}


def _import_times(rounds: int) -> dict[str, list[float]]:
    """Seconds of a fresh Python, a value a round."""
    times: dict[str, list[float]] = {program: [] for program in IMPORTS}
    for _ in range(rounds):
        for program, of in times.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            of.append(time.perf_counter() - started)
    return times


def _in_turn(asks: Mapping[str, Ask], times: int) -> dict[str, list[float]]:
    """ms of each call, in changing order."""
    figures: dict[str, list[float]] = {name: [] for name in asks}
    for ask in asks.values():
        ask()
    for number in range(times):
        for name in list(asks)[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            asks[name]()
            figures[name].append(1000 * (time.perf_counter() - started))
    return figures


def _pictures() -> Iterator[PreparedImage]:
    """Without end, none like another."""
    rng = np.random.default_rng()
    while True:
        yield PreparedImage(rng.integers(0, 256, contract.IMAGE.dims, dtype=np.uint8))


def _history(vocabulary: Vocabulary, user: int) -> dict[str, float]:
    chosen = np.random.default_rng(user).choice(len(vocabulary), TAGS_IN_HISTORY, replace=False)
    return {vocabulary.tags[i]: float(count) for count, i in enumerate(chosen, start=1)}


def render_client(section: Mapping[str, Any]) -> list[str]:
    """The section's lines of Markdown."""
    of, flight = section["conditions"], section["in_flight"]
    bare, ours = section["ms"]["tritonclient"], section["ms"]["altreco_client"]
    over = [100 * (ratio - 1) for ratio in ratios(bare, ours)]
    return [
        f"Preset `{of['preset']}` with random weights, served by Triton. One client asks for a picture that is cached, "
        f"with a history of {TAGS_IN_HISTORY} tags, for {K} tags; the two in turn, call by call. Each cell is the "
        f"median over {of['rounds']} rounds of the median of {section['calls']} calls, and the range of the rounds. "
        "The bare call sends the same request, and has the history's vector ready-made.",
        "",
        *header("", ["tritonclient", "altreco_client", "more, %"]),
        f"| ms a call | {cell(bare)} | {cell(ours)} | {cell(over)} |",
        "",
        *header(f"one new picture for {USERS} users", ["ms"]),
        *(f"| `{name}` | {cell(values)} |" for name, values in section["users_ms"].items()),
        "",
        f"With asyncio, {flight['requests']} requests were in flight on one thread ({flight['threads_more']} more than "
        f"before them), a quarter of them for new pictures; all were answered, in {flight['seconds']:.1f} s.",
        "",
        *header("a fresh Python", ["s"]),
        *(f"| `{program}` | {cell(values)} |" for program, values in section["import_s"].items()),
        "",
    ]
