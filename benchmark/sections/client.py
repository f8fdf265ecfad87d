"""The client: its overhead over bare tritonclient, its methods for many users, and its import time."""

import asyncio
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
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
    tag_counts,
)
from altreco_client.call.wire import inputs, ranked

from benchmark.loads import served
from benchmark.settings import Settings
from export.full_size import folded
from measure.markdown import cell, number, ratios, table
from measure.progress import progress_bar
from measure.requests import TAGS_IN_HISTORY, history, known, new_pictures
from measure.turns import by_turns

DEADLINE_S = 30.0
K = 5
USERS = 32
IN_FLIGHT = 256
IMPORTS = ("pass", "import tritonclient.grpc", "import altreco_client")

Ask = Callable[[], object]


def measure_client(settings: Settings, configs: Path, folder: Path) -> dict[str, Any]:
    """Measure on one server whose cache holds the pictures. Raises ExportError, ServerError."""
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
    """Measure the median ms per call for one cached picture, per round. The two clients alternate call by call."""
    picture, counts = next(_pictures()), history(recommender.vocabulary.tags, 0)
    with triton.InferenceServerClient(**Channel().client_arguments(url)) as client:
        bare = _bare(client, picture, tag_counts(counts, recommender.vocabulary))
        asks = {"tritonclient": bare, "altreco_client": lambda: recommender.recommend(picture, counts, K)}
        figures: dict[str, list[float]] = {name: [] for name in asks}
        for _ in progress_bar(range(settings.rounds), "client", unit="round"):
            for name, times in _in_turn(asks, settings.client_calls).items():
                figures[name].append(statistics.median(times))
    return figures


def _bare(client: triton.InferenceServerClient, picture: PreparedImage, row: np.ndarray) -> Ask:
    """Make a call of tritonclient with the same channel, deadline, timeout and kind of id, and ready-made counts."""
    image, counts = picture.tensor[np.newaxis], row[np.newaxis]

    def ask() -> np.ndarray:
        result = client.infer(
            contract.TAG_RECOMMENDER.name,
            inputs((contract.IMAGE, image), (contract.USER_TAG_COUNTS, counts)),
            outputs=ranked(K),
            request_id=uuid.uuid4().hex,
            client_timeout=DEADLINE_S,
            timeout=int(0.9e6 * DEADLINE_S),
        )
        return result.as_numpy(contract.TAGS.name)

    return ask


def _many_users(recommender: TagRecommender, settings: Settings) -> dict[str, list[float]]:
    """Measure the ms per round for one new picture and USERS users, with three methods of the client."""
    histories = [history(recommender.vocabulary.tags, user) for user in range(USERS)]
    pictures = _pictures()

    def one_by_one() -> object:
        picture = next(pictures)
        return [recommender.recommend(picture, of_user, K) for of_user in histories]

    asks: dict[str, Ask] = {
        "recommend, one by one": one_by_one,
        "recommend_batch": lambda: recommender.recommend_batch([next(pictures)] * USERS, histories, K),
        "recommend_for_users": lambda: recommender.recommend_for_users(next(pictures), histories, K),
    }
    return _in_turn(asks, settings.rounds)


async def _in_flight(url: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """Send IN_FLIGHT requests at once from one event loop, a quarter of them for new pictures."""
    pictures = _pictures()
    again = known(pictures)
    asked = [next(pictures) if i % 4 == 0 else again[i % len(again)] for i in range(IN_FLIGHT)]
    async with AsyncTagRecommender(url, deadline_s=DEADLINE_S) as recommender:
        await asyncio.gather(*(recommender.recommend(picture) for picture in again))
        threads, started = threading.active_count(), time.perf_counter()
        calls = [
            asyncio.ensure_future(recommender.recommend(picture, history(vocabulary.tags, i), K))
            for i, picture in enumerate(asked)
        ]
        await asyncio.sleep(0)
        during = threading.active_count()
        answers = await asyncio.gather(*calls)
        seconds = time.perf_counter() - started
    return {"requests": len(answers), "seconds": seconds, "threads_more": during - threads}


def _import_times(rounds: int) -> dict[str, list[float]]:
    """Measure the seconds per round that a new Python process takes for each import."""

    def run(program: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        return time.perf_counter() - started

    return by_turns({program: partial(run, program) for program in IMPORTS}, rounds)


def _in_turn(asks: Mapping[str, Ask], times: int) -> dict[str, list[float]]:
    """Measure the milliseconds of each call; a first call is not counted."""
    for ask in asks.values():
        ask()
    return by_turns({name: partial(_ms, ask) for name, ask in asks.items()}, times)


def _ms(ask: Ask) -> float:
    started = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - started)


def _pictures() -> Iterator[PreparedImage]:
    return map(PreparedImage, new_pictures())


def render_client(section: Mapping[str, Any]) -> list[str]:
    """Render the section as lines of Markdown."""
    of, flight = section["conditions"], section["in_flight"]
    bare, ours = section["ms"]["tritonclient"], section["ms"]["altreco_client"]
    over = [100 * (ratio - 1) for ratio in ratios(bare, ours)]
    imports = {name: f"{number(1000 * statistics.median(seconds))} ms" for name, seconds in section["import_s"].items()}
    return [
        f"Both ask for {K} tags for a cached picture and a history of {TAGS_IN_HISTORY} tags: {section['calls']} calls "
        f"in each of {of['rounds']} rounds. The bare call has ready-made counts. Ours takes {cell(over)} % longer.",
        "",
        *table(
            ["", "ms"],
            [
                *_lines("a call: ", section["ms"]),
                *_lines(f"a new picture for {USERS} users: ", section["users_ms"]),
            ],
        ),
        "",
        f"`recommend_batch` encodes the picture for every user. With asyncio, {flight['requests']} requests in flight "
        f"at once, a quarter of them for new pictures, were all answered in {flight['seconds']:.1f} s, with "
        f"{flight['threads_more']} additional threads. A new Python process takes "
        f"{', '.join(f'{time_ms} to run `{program}`' for program, time_ms in imports.items())}.",
        "",
    ]


def _lines(label: str, figures: Mapping[str, list[float]]) -> list[list[str]]:
    return [[f"{label}`{name}`", cell(values)] for name, values in figures.items()]
