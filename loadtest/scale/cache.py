"""Hit rates of LRU caches, by formulas; tests simulate the caches.

Requests are independent and for one picture each, as in a workload's `pictures`: new pictures, never requested again,
and pictures of a catalogue by Zipf's law. Every replica has its own cache.
"""

from collections.abc import Callable

import numpy as np

from loadtest.load.workload import Pictures, zipf_shares


def expected_hit_rate(pictures: Pictures, capacity: float) -> float:
    """Compute the hit rate of one full cache of `capacity` encodings, by Che's approximation.

    A picture stays cached for about T requests after its last one. T is where the expected number of cached pictures is
    `capacity` (Che, Tung, Wang: Hierarchical Web Caching Systems, IEEE JSAC 20(7), 2002).
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
    """Find the largest value between `least` and `most` for which the condition holds."""
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (middle, most) if holds(middle) else (least, middle)
    return least


def repeated_hit_rate(views: int, replicas: int) -> float:
    """Compute the hit rate if each picture is requested `views` times from random replicas and no cache is full.

    A replica misses once for each picture it sees: replicas (1 - (1 - 1/replicas)^views) of `views` requests.
    """
    return 1 - replicas * (1 - (1 - 1 / replicas) ** views) / views
