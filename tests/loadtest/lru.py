"""Simulated caches, which drop what was unused for longest: the oracle of the formulas in loadtest/scale/cache.py."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.load.workload import Pictures, zipf_shares

Ids = NDArray[np.int64]

POINTS_A_REPLICA = 100
"""On the ring of consistent hashing: more would share the load more evenly."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Results of one cluster; `busiest` is the share of the busiest replica, in even shares (1: all alike; 0: none)."""

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


def _in_even_shares(counts: Ids) -> float:
    return float(counts.max() * len(counts) / max(counts.sum(), 1))
