"""The contestants: how each is started, called and tuned."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import torch
from altreco_client import contract
from google.protobuf import text_format

from benchmark.peers.clients import Connect, ensemble, form_post, raw_post, three_calls
from benchmark.peers.environments import peer_packages, peer_python
from benchmark.peers.servers import PORT, ROOT, Served, http_server, peer_variables
from benchmark.peers.tuning import Tuning
from deploy.local import on_free_ports, serve
from deploy.local.process import piped
from export.config import CONFIG_FILE, read_config, vocabulary_size
from export.full_size import folded, random_model
from export.graph.split import split
from measure.callers import Load
from measure.requests import new_arrays

RAW, ENSEMBLE, THREE_CALLS = "raw ONNX Runtime", "ensemble", "three calls"
QUEUE_TIMEOUT = "ensemble with a queue timeout"
PEERS = ("fastapi_pytorch", "litserve", "bentoml")
"""Contestants with their own Python environment."""
BATCH = 8
"""Largest batch that is tried. On a CPU, larger batches gain nothing and wait longer."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """The models that all contestants serve, and folders to write to."""

    repository: Path
    modules: Path
    tags: int
    environments: Path
    folder: Path
    cache_size_bytes: int


Serve = Callable[[Files], AbstractContextManager[Served]]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A server and its client. `ways` maps labels to ways of running it; the fastest takes part."""

    name: str
    connect: Connect
    ways: Mapping[str, Serve]


def make_files(
    preset: str,
    configs: Path,
    environments: Path,
    folder: Path,
    cache_size_bytes: int,
    peers: Sequence[str] = PEERS,
) -> Files:
    """Make the repository, the PyTorch modules and the peers' environments. Raises ExportError."""
    tags = vocabulary_size(configs)
    modules = folder / "modules.pt"
    torch.save(split(random_model(preset, tags)), modules)
    for name in peers:
        peer_python(name, environments)
    return Files(
        repository=folded(preset, configs, folder),
        modules=modules,
        tags=tags,
        environments=environments,
        folder=folder,
        cache_size_bytes=cache_size_bytes,
    )


def raw_tunings(cores: int) -> list[Tuning]:
    """List the tunings of raw ONNX Runtime, where a worker is a thread that calls it."""
    alone = [Tuning(workers=1, threads=cores, batch=batch, spin=spin) for batch in (1, BATCH) for spin in (False, True)]
    return alone + [Tuning(workers=cores, threads=threads, batch=1) for threads in (1, cores)]


def contestants(cores: int) -> list[Contestant]:
    """List all contestants that have a server."""
    spread = Tuning(workers=cores, threads=1, batch=1)
    whole = Tuning(workers=1, threads=cores, batch=1)
    batching = [whole, Tuning(workers=1, threads=cores, batch=BATCH), spread]
    batching.append(Tuning(workers=cores, threads=cores, batch=1))
    ways = {"the committed configs": committed}
    return [
        Contestant(name=ENSEMBLE, connect=ensemble, ways=ways),
        Contestant(name=THREE_CALLS, connect=three_calls, ways=ways),
        Contestant(name="FastAPI + PyTorch", connect=raw_post, ways=_ways(_fastapi, [whole, spread])),
        Contestant(name="LitServe", connect=raw_post, ways=_ways(_litserve, batching)),
        Contestant(name="BentoML", connect=form_post, ways=_ways(_bentoml, batching)),
    ]


def _ways(
    serve_tuned: Callable[[Tuning, Files], AbstractContextManager[Served]], tunings: Sequence[Tuning]
) -> dict[str, Serve]:
    return {tuning.label(): partial(serve_tuned, tuning) for tuning in tunings}


@contextmanager
def committed(files: Files) -> Iterator[Served]:
    """Serve with the committed configs."""
    settings = on_free_ports(files.repository, strict=True, stop_timeout_s=0, cache_size_bytes=files.cache_size_bytes)
    with serve(settings) as server:
        yield Served(server.grpc_url, server.pid)


def arriving(cores: int) -> dict[str, tuple[Connect, Serve]]:
    """List the contestants of the section `arrivals`: LitServe with its best tuning, the ensemble with two configs."""
    return {
        ENSEMBLE: (ensemble, committed),
        QUEUE_TIMEOUT: (ensemble, _with_queue_timeout),
        "LitServe": (raw_post, partial(_litserve, Tuning(workers=cores, threads=1, batch=1))),
    }


def add_queue_timeout(repository: Path) -> None:
    """Add a timeout that a request may shorten to the queue in every component's `config.pbtxt`."""
    for model in contract.COMPONENTS:
        config = read_config(repository, model.name)
        policy = config.dynamic_batching.default_queue_policy
        policy.default_timeout_microseconds, policy.allow_timeout_override = 30_000_000, True
        (repository / model.name / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")


@contextmanager
def _with_queue_timeout(files: Files) -> Iterator[Served]:
    """Serve with a timeout in every queue.

    A queue policy turns Triton's prefetching off (`PriorityQueue` in its core's scheduler_utils.cc). Its batcher then
    waits for an idle instance on a condition variable that nobody notifies (`WaitForPayloadSlotAvailable` in
    dynamic_batch_scheduler.cc), until the next arrival or for 500 ms.
    """
    with TemporaryDirectory(dir=files.folder) as folder:
        repository = Path(folder, "repository")
        copytree(files.repository, repository)
        add_queue_timeout(repository)
        with committed(replace(files, repository=repository)) as served:
            yield served


def _fastapi(tuning: Tuning, files: Files) -> AbstractContextManager[Served]:
    app = ["benchmark.peers.fastapi_pytorch.server:app", "--no-access-log", "--workers", str(tuning.workers)]
    command = [sys.executable, "-m", "uvicorn", *app, "--port", PORT]
    # PyTorch is in this environment, uvicorn's extras in the peer's: without uvloop, several workers answer 40 ms late.
    extras = peer_packages("fastapi_pytorch", files.environments)
    variables = {"PEER_MODULES": str(files.modules), "PYTHONPATH": f"{ROOT}{os.pathsep}{extras}"}
    return _http("fastapi", raw_post, command, files, tuning, variables)


def _litserve(tuning: Tuning, files: Files) -> AbstractContextManager[Served]:
    server = ["-m", "benchmark.peers.litserve.server", PORT]
    command = [str(peer_python("litserve", files.environments)), *server]
    return _http("litserve", raw_post, command, files, tuning, {})


def _bentoml(tuning: Tuning, files: Files) -> AbstractContextManager[Served]:
    service: list[str | Path] = [
        "benchmark.peers.bentoml.service:Tags",
        "--host",
        "127.0.0.1",
        "--port",
        PORT,
        "--working-dir",
        ROOT,
    ]
    command: list[str | Path] = [peer_python("bentoml", files.environments), "-m", "bentoml", "serve", *service]
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(files.folder / "bentoml")}
    return _http("bentoml", form_post, command, files, tuning, quiet)


def _http(
    name: str, connect: Connect, command: Sequence[str | Path], files: Files, tuning: Tuning, more: dict[str, str]
) -> AbstractContextManager[Served]:
    variables = peer_variables(files.repository, tuning) | more
    return http_server(name, command, variables, files.folder, connect, next(new_arrays(files.tags)))


class RawProcess:
    """ONNX Runtime in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Wrap the process started by `raw`."""
        self._process = process
        self.pid = process.pid

    def load(self, tuning: Tuning, seconds: float) -> Load:
        """Call ONNX Runtime for `seconds`."""
        asked = {"streams": tuning.workers, "threads": tuning.threads, "batch": tuning.batch, "spin": tuning.spin}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asked, "seconds": seconds}).encode() + b"\n")
        self._process.stdin.flush()
        return Load(**json.loads(self._process.stdout.readline()))


@contextmanager
def raw(files: Files) -> Iterator[RawProcess]:
    """Run the process inside the context."""
    command = [sys.executable, "-m", "benchmark.peers.raw", str(files.tags)]
    variables = peer_variables(files.repository, Tuning(workers=1, threads=1, batch=1))
    with piped(command, env=variables, cwd=ROOT) as process:
        yield RawProcess(process)
