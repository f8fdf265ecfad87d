"""A closed load on Triton's gRPC: every user asks for tags, again as soon as it has them.

    locust -f loadtest/locustfile.py --headless --host localhost:8001 --users 4 --run-time 30s

The exit code is 1 when a request failed. Pictures and histories are random; every other user has no history.
"""

import itertools
import os
import sys

from locust import User, constant, events, task  # first: Locust patches the standard library for gevent

from grpc.experimental import gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()  # after the patching: before it, the run hangs

import numpy as np  # noqa: E402
from altreco_client import PreparedImage, TagRecommender  # noqa: E402
from altreco_client.contract import IMAGE  # noqa: E402

TAGS_IN_HISTORY = 20
_serial = itertools.count()


class Uploader(User):
    """Uploads one new picture after the other: none is in the server's response cache."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Prepare the payloads, so that the run measures the server and not this process."""
        serial = next(_serial)
        self.rng = np.random.default_rng(serial)
        self.recommender = TagRecommender(self.host or "localhost:8001")
        tags = self.recommender.vocabulary.tags
        chosen = self.rng.choice(len(tags), min(TAGS_IN_HISTORY, len(tags)), replace=False)
        self.history = {tags[i]: 1.0 for i in chosen} if serial % 2 else {}
        self.picture = self.rng.integers(0, 256, IMAGE.dims, dtype=np.uint8)

    @task
    def recommend(self) -> None:
        """One request; Locust notes its time, or its error."""
        self.picture[0] = self.rng.integers(0, 256, self.picture[0].shape, dtype=np.uint8)
        with self.environment.events.request.measure("grpc", "recommend"):
            self.recommender.recommend(PreparedImage(self.picture), self.history)


@events.quit.add_listener
def _end(exit_code: int, **_: object) -> None:
    """End at once: gRPC's gevent threads would keep the process alive for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
