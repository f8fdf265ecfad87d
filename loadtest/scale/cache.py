"""What share of requests finds its picture's encoding in a cache: simulated, and by formulas that it is held against.

Requests are for one picture each and independent of each other: new pictures, which take room in the cache and are
never asked for again, and pictures of a catalogue by Zipf's law, as in a workload's `pictures`. Every replica has a
cache of its own, which drops what was unused for longest.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.load.workload import Pictures, zipf_shares

Ids = NDArray[np.int64]

POINTS_A_REPLICA = 100
"""On the ring of consistent hashing: more would share the load more evenly."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Of one cluster; `busiest`: of the replica that has most of them, in even shares (1: all alike; 0: none)."""

    hit_rate: float
    busiest_requests: float
    busiest_misses: float


def draw(pictures: Pictures, count: int, rng: np.random.Generator) -> Ids:
    """Numbers of the pictures asked for [count]: below `catalogue`, the most popular first, or a new one's."""
    popularity = np.cumsum(zipf_shares(pictures.catalogue, pictures.exponent))
    known = np.searchsorted(popularity, rng.random(count), side="right").clip(max=pictures.catalogue - 1)
    return np.where(rng.random(count) < pictures.new_share, pictures.catalogue + np.arange(count), known)


def at_random(asked: Ids, replicas: int, rng: np.random.Generator) -> Ids:
    """The replica of each request [count], whatever it asks for."""
    return rng.integers(replicas, size=len(asked))


def hashed(asked: Ids, replicas: int, rng: np.random.Generator) -> Ids:
    """The replica of each request [count]: the next on a ring from where its picture lies (consistent hashing)."""
    ring = rng.random(replicas * POINTS_A_REPLICA)
    owners = np.argsort(ring) % replicas
    positions = rng.random(int(asked.max()) + 1)[asked]
    return owners[np.searchsorted(np.sort(ring), positions) % len(ring)]


def lru_hits(asked: Ids, replica: Ids, capacity: int) -> NDArray[np.bool_]:
    """Whether each request [count] finds its picture in its replica's cache of `capacity` encodings."""
    caches: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(int(replica.max()) + 1)]
    hits = np.zeros(len(asked), dtype=np.bool_)
    for i, (picture, number) in enumerate(zip(asked.tolist(), replica.tolist(), strict=True)):
        cache = caches[number]
        if picture in cache:
            cache.move_to_end(picture)
            hits[i] = True
        else:
            cache[picture] = None
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits


def simulate(asked: Ids, replica: Ids, capacity: int) -> Simulated:
    """Count the second half of the requests; the first fills the caches."""
    counted = slice(len(asked) // 2, None)
    missed, replicas = ~lru_hits(asked, replica, capacity)[counted], int(replica.max()) + 1
    requests = np.bincount(replica[counted], minlength=replicas)
    misses = np.bincount(replica[counted][missed], minlength=replicas)
    return Simulated(
        hit_rate=float(1 - missed.mean()),
        busiest_requests=_in_even_shares(requests),
        busiest_misses=_in_even_shares(misses),
    )


def expected_hit_rate(pictures: Pictures, capacity: float) -> float:
    """Of one cache of `capacity` encodings that is long in use, by Che's approximation.

    A picture stays for about the same time T after it was asked for last, in requests; T is where the expected number
    of pictures in the cache is `capacity` (Che, Tung, Wang: Hierarchical Web Caching Systems, IEEE JSAC 20(7), 2002).
    """
    rates = (1 - pictures.new_share) * zipf_shares(pictures.catalogue, pictures.exponent)
    if not pictures.new_share and capacity >= pictures.catalogue:
        return 1.0

    def held(requests: float) -> float:
        return float(-np.expm1(-rates * requests).sum() + pictures.new_share * requests)

    least, most = 0.0, 1.0
    while held(most) < capacity:
        least, most = most, 2 * most
    kept = bisect(lambda requests: held(requests) < capacity, least, most)
    return float((rates * -np.expm1(-rates * kept)).sum())


def bisect(holds: Callable[[float], bool], least: float, most: float) -> float:
    """Where it holds no longer, from `least`, where it does, to `most`; on the side where it holds."""
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (middle, most) if holds(middle) else (least, middle)
    return least


def repeated_hit_rate(views: int, replicas: int) -> float:
    """Where each picture is asked for `views` times at random replicas, and no cache is ever full.

    A replica misses once for each picture that it sees: replicas (1 - (1 - 1/replicas)^views) of `views`.
    """
    return 1 - replicas * (1 - (1 - 1 / replicas) ** views) / views


def _in_even_shares(counts: Ids) -> float:
    return float(counts.max() * len(counts) / max(counts.sum(), 1))
