"""Steady load for a long time, to see whether memory, files and threads of server and clients stay constant."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import psutil
from altreco_client import AltrecoError, PreparedImage, TagRecommender

from measure.callers import Caller, Calls, calling
from measure.markdown import ms
from measure.requests import new_pictures
from measure.server import Footprint, footprint
from reliability.memory import MIB, Course
from reliability.outcome import Check, Outcome
from reliability.questions import (
    QUESTIONS,
    WARM_UP_S,
    K,
    Question,
    good_checks,
    keep_asking,
    question,
    questions,
    wrong,
)
from reliability.servers import serving
from reliability.wording import kinds

CACHE_BYTES = 1024**2
"""Size of Triton's response cache, small enough for new pictures to fill it in the first quarter."""
SERVER_GROWTH_MIB, CLIENTS_GROWTH_MIB = 32.0, 16.0
"""Growth up to which memory counts as constant; allocators keep freed memory."""
MORE_FILES, MORE_THREADS = 8, 8
"""Files and threads that come and go with clients' connections and gRPC."""


def soak(
    repository: Path,
    *,
    seconds: float = 600.0,
    callers: int = 4,
    every_s: float = 1.0,
    new_every_s: float = 0.25,
    visit_every_s: float = 5.0,
    sample_s: float = 1.0,
    deadline_s: float = 30.0,
) -> Outcome:
    """Repeat pictures from `callers`, send new ones from another, and keep opening clients that ask once."""
    with serving(repository, cache_size_bytes=CACHE_BYTES) as server:
        asked, started_s = questions(server.grpc_url, QUESTIONS), time.monotonic()
        with TagRecommender(server.grpc_url, deadline_s=deadline_s) as recommender:

            def visit(question: Question) -> bool:
                with TagRecommender(server.grpc_url, deadline_s=deadline_s) as visitor:
                    return question.asked(visitor)

            new = Caller(lambda one: one.asked(recommender), _new_questions(recommender, asked))
            visitor = Caller(visit, cycle(asked))
            recommender.recommend(asked[0].image, asked[0].history, K, deadline_s=WARM_UP_S)
            with (
                keep_asking(recommender, asked, callers=callers, every_s=every_s) as calls,
                calling([new], every_s=new_every_s, failures=(AltrecoError,)) as news,
                calling([visitor], every_s=visit_every_s, failures=(AltrecoError,)) as visits,
            ):
                moments_s, held, clients_mib = _samples(lambda: footprint(server.pid), seconds, sample_s)
    calls = Calls(sorted([*calls.ended, *news.ended, *visits.ended], key=lambda call: call.started_s))
    at_server, at_clients = (
        Course(moments_s, [each.memory_bytes / MIB for each in held]),
        Course(moments_s, clients_mib),
    )
    first, last = held[len(held) // 4], held[-1]
    return Outcome(
        title="Steady load for a long time",
        did=f"{seconds:g} s of {callers} callers with repeated pictures, each with a call every {every_s:g} s; a new "
        f"picture every {new_every_s:g} s, sent twice; every {visit_every_s:g} s a new client that asks once and is "
        f"closed. Triton's cache holds {CACHE_BYTES / MIB:g} MiB.",
        figures={
            "calls": f"{len(calls.answered):,} answered, {len(wrong(calls)):,} of them wrong; failed: "
            f"{kinds(calls.errors())}",
            "clients opened and closed": f"{len(visits.ended):,}",
            "p99, first and last quarter": " and ".join(
                ms(calls.since(started_s + at, started_s + at + seconds / 4).percentile_ms(99))
                for at in (0, 0.75 * seconds)
            ),
            "memory of the server": str(at_server),
            "memory of the clients' process": str(at_clients),
            "server after the first quarter": str(first),
            "server at the end": str(last),
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check("new pictures and new clients were answered", bool(news.answered) and bool(visits.answered)),
            Check(
                f"the server's memory grew by less than {SERVER_GROWTH_MIB:g} MiB",
                at_server.growth() < SERVER_GROWTH_MIB,
            ),
            Check(
                f"the clients' memory grew by less than {CLIENTS_GROWTH_MIB:g} MiB",
                at_clients.growth() < CLIENTS_GROWTH_MIB,
            ),
            Check("no files are left open", last.files <= first.files + MORE_FILES),
            Check("no threads are left", last.threads <= first.threads + MORE_THREADS),
        ],
    )


def _new_questions(recommender: TagRecommender, asked: Sequence[Question]) -> Iterator[Question]:
    """Yield questions with new pictures."""
    for picture, known in zip(new_pictures(), cycle(asked), strict=False):
        yield question(recommender, PreparedImage(picture), known.history)


def _samples(
    look: Callable[[], Footprint], seconds: float, every_s: float
) -> tuple[list[float], list[Footprint], list[float]]:
    """Sample times in seconds, the server's footprint, and the MiB of this process, which runs the clients."""
    here, started_s = psutil.Process(), time.monotonic()
    moments_s, held, clients_mib = list[float](), list[Footprint](), list[float]()
    while (passed_s := time.monotonic() - started_s) < seconds:
        moments_s.append(passed_s)
        held.append(look())
        clients_mib.append(here.memory_full_info().pss / MIB)
        time.sleep(every_s)
    return moments_s, held, clients_mib
