"""Samples of Triton's counters and resource use during a run."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import tritonclient.grpc as triton
from altreco_client.text import message
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access, advice
from loadtest.errors import LoadtestError
from measure.files import write_text
from measure.server import DEADLINE_S, counters, metrics, processes, replicas

CPU_INTERVAL_S = 0.25
"""Shortest interval for a CPU share: Linux counts the time of a process in steps of 10 ms."""

Sample = dict[str, Any]


class _Gone(Exception):
    """The server no longer answers; the message says why."""


class _Late(Exception):
    """The server did not answer within DEADLINE_S."""


@contextmanager
def sampling(
    grpc_url: str, metrics_urls: Sequence[str], pid: int | None, *, access: Access = PLAIN, every_s: float = 1.0
) -> Iterator[list[Sample]]:
    """Sample a server during the block, and once before and after it; `pid` is its process on this machine.

    Counters of several replicas (`ipv4:HOST:PORT,HOST:PORT`) are added up; sampling ends if one of them dies.

    A sample has `t_s` since the first sample; `models` as in `counters`; from the metrics, `pending` requests by model
    and one `gpu` entry for each GPU; and for the process and its children, `cpu_share` since the previous sample (1 is
    one core, None if unknown) and `memory_bytes`. A slow server leaves a gap. If the server dies, the last sample has
    `ended`. Raises LoadtestError if the first sample fails.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(access.connect(url)) for url in replicas(grpc_url)]
        source = _Source(clients, metrics_urls, pid)
        try:
            samples = [source.sample()]
        except (_Gone, _Late) as error:
            otherwise = "is Triton running, and do gRPC port, metrics URL and process belong to it?"
            raise LoadtestError(
                f"{grpc_url} returns no statistics ({error}): {advice(str(error)) or otherwise}"
            ) from error
        stop = threading.Event()
        thread = threading.Thread(target=_collect, args=(source, samples, stop, every_s), daemon=True)
        thread.start()
        try:
            yield samples
        finally:
            stop.set()
            thread.join()


def save_samples(path: Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """Write server.json atomically."""
    write_text(path, json.dumps({"samples": samples}) + "\n")


def _collect(source: "_Source", samples: list[Sample], stop: threading.Event, every_s: float) -> None:
    stopped = False
    while not stopped:
        stopped = stop.wait(every_s)
        try:
            samples.append(source.sample())
        except _Gone as error:
            samples[-1]["ended"] = str(error)
            return
        except _Late as error:
            if stopped:
                samples[-1]["ended"] = str(error)


class _Source:
    """Source of the samples; the first one is at 0 s."""

    def __init__(
        self, clients: Sequence[triton.InferenceServerClient], metrics_urls: Sequence[str], pid: int | None
    ) -> None:
        self._clients, self._metrics_urls, self._pid = clients, metrics_urls, pid
        self._started = time.monotonic()
        self._used: tuple[float, dict[psutil.Process, float]] | None = None

    def sample(self) -> Sample:
        """Take one sample; raises _Gone or _Late."""
        try:
            t_s = time.monotonic() - self._started
            return {"t_s": t_s, "models": counters(*self._clients), **metrics(self._metrics_urls), **self._process()}
        except InferenceServerException as error:
            kind = _Late if error.status() == "StatusCode.DEADLINE_EXCEEDED" else _Gone
            raise kind(message(str(error.message()))) from error
        except TimeoutError as error:
            raise _Late(f"{self._metrics_named()}: no answer within {DEADLINE_S:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Gone(f"{self._metrics_named()}: {error}") from error
        except psutil.NoSuchProcess as error:
            raise _Gone(f"there is no process {error.pid}") from error

    def _metrics_named(self) -> str:
        return " or ".join(self._metrics_urls)

    def _process(self) -> Sample:
        if self._pid is None:
            return {"cpu_share": None, "memory_bytes": None}
        now, used, memory = time.monotonic(), {}, 0
        for process in processes(self._pid):
            with suppress(psutil.NoSuchProcess):  # a child process that has ended
                times = process.cpu_times()
                used[process] = times.user + times.system
                # Not the resident size, which counts memory shared by Triton and its stubs several times.
                memory += process.memory_full_info().pss
        share = None
        if self._used is None:
            self._used = now, used
        elif now - self._used[0] >= CPU_INTERVAL_S:
            then, before = self._used
            share = sum(seconds - before.get(process, 0) for process, seconds in used.items()) / (now - then)
            self._used = now, used
        return {"cpu_share": share, "memory_bytes": memory}
