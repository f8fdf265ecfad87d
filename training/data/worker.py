"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from multiprocessing import connection


def end_with_parent(_worker: int = 0) -> None:
    """Let this worker process end as soon as the process that started it is gone, even if that was killed.

    Without it, a worker waits forever for work from a pipe that the other workers keep open. It is an initializer of
    `multiprocessing` and `concurrent.futures`, and a `worker_init_fn` of torch's DataLoader.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker process has a parent"
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
