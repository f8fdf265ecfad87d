"""Requests for a dashboard to show: pictures asked for again and again, and bursts in which some wait too long."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from tritonclient.utils import InferenceServerException

HISTORY_SIZE = 1540
SHORT_US = 20_000
"""How long a request of a burst may wait in a queue."""
BURST_CALLERS = 32


def ask(client: triton.InferenceServerClient, picture: int, *, rows: int = 1, timeout_us: int | None = None) -> str:
    """`answered`, or the status of Triton's refusal; `picture` is the seed of its noise."""
    rng = np.random.default_rng(picture)
    image = triton.InferInput(contract.IMAGE.name, [rows, *contract.IMAGE.dims], "UINT8")
    image.set_data_from_numpy(rng.integers(0, 256, (rows, *contract.IMAGE.dims), dtype=np.uint8))
    history = triton.InferInput(contract.USER_HISTORY.name, [rows, HISTORY_SIZE], "FP32")
    history.set_data_from_numpy(np.zeros((rows, HISTORY_SIZE), dtype=np.float32))
    try:
        client.infer(contract.TAG_RECOMMENDER.name, [image, history], timeout=timeout_us)
    except InferenceServerException as error:
        return str(error.status())
    return "answered"


def burst(url: str, requests: int, first_picture: int) -> Counter[str]:
    """Albums of eight from many callers at once, with little patience; what became of them."""
    with triton.InferenceServerClient(url) as client, ThreadPoolExecutor(BURST_CALLERS) as callers:
        pictures = range(first_picture, first_picture + requests)
        return Counter(callers.map(lambda picture: ask(client, picture, rows=8, timeout_us=SHORT_US), pictures))


@contextmanager
def asking(url: str, *, callers: int, pictures: int) -> Iterator[Counter[str]]:
    """Callers that ask without pause, half of the time for one of `pictures`; what became of their requests so far."""
    stop, ended = threading.Event(), Counter[str]()
    lock = threading.Lock()

    def call() -> None:
        # Other pictures each time: those of an earlier load are in the cache.
        rng = np.random.default_rng()
        with triton.InferenceServerClient(url) as client:
            while not stop.is_set():
                picture = rng.integers(pictures) if rng.random() < 0.5 else rng.integers(pictures, 2**40)
                outcome = ask(client, int(picture))
                with lock:
                    ended[outcome] += 1

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
        try:
            yield ended
        finally:
            stop.set()
    for one in calls:
        one.result()
