"""The share of requests that find their picture's encoding in a cache, by formulas; tests simulate the caches.

Requests are for one picture each and independent of each other: new pictures, which take room in the cache and are
never asked for again, and pictures of a catalogue by Zipf's law, as in a workload's `pictures`. Every replica has a
cache of its own, which drops what was unused for longest.
"""

from collections.abc import Callable

import numpy as np

from loadtest.load.workload import Pictures, zipf_shares


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
