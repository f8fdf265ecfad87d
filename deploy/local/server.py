"""Start, await and end one Triton server."""

import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local.diagnose import failure_message
from deploy.local.environment import Environment, prepare_environment
from deploy.local.errors import ServerStartError

EXIT_TIMEOUT_S = 10
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """One server. A port of 0 means: any free one."""

    repository: Path = Path("model_repository")
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    cache_bytes: int = 64 * 1024 * 1024
    start_timeout_s: float = 120.0
    strict: bool = True
    """Take configs as they are (`--disable-auto-complete-config`)."""
    log: Path | None = None
    """Where Triton's log goes; by default to a temporary file that is shown when the start fails."""
    extra_args: tuple[str, ...] = ()
    """More options of `tritonserver`."""


@dataclass(frozen=True)
class Server:
    """A running server's addresses (host:port), process and log."""

    grpc_url: str
    http_url: str
    metrics_url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serve(settings: ServerSettings) -> Iterator[Server]:
    """Run Triton until the block is left; raises ServerStartError when it does not become ready."""
    if not settings.repository.is_dir():
        raise ServerStartError(f"no model repository at {settings.repository}: expected a folder of models")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="altreco-triton-")))
        environment = prepare_environment(folder)
        ports = _ports(settings)
        log = settings.log or folder / "triton.log"
        process = _start(_command(settings, environment, ports), environment, log)
        stack.callback(_stop, process)
        grpc, http, metrics = (f"{settings.host}:{port}" for port in ports)
        server = Server(grpc, http, metrics, process, log)
        _await_ready(server, settings.start_timeout_s)
        yield server


def _command(settings: ServerSettings, environment: Environment, ports: list[int]) -> list[str]:
    grpc_port, http_port, metrics_port = ports
    return [
        str(environment.executable),
        f"--model-repository={settings.repository.resolve()}",
        f"--backend-directory={environment.backends}",
        f"--cache-directory={environment.caches}",
        f"--cache-config=local,size={settings.cache_bytes}",
        f"--grpc-address={settings.host}",
        f"--http-address={settings.host}",
        f"--metrics-address={settings.host}",
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        f"--metrics-port={metrics_port}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        *(["--disable-auto-complete-config"] if settings.strict else []),
        *settings.extra_args,
    ]


def _ports(settings: ServerSettings) -> list[int]:
    """gRPC, HTTP and metrics port; raises ServerStartError for one that is taken, before Triton loads any model."""
    ports = []
    with ExitStack() as sockets:
        for option in ("grpc_port", "http_port", "metrics_port"):
            port = getattr(settings, option)
            probe = sockets.enter_context(closing(socket.socket()))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise ServerStartError(
                    f"cannot listen on {settings.host}:{port} ({option.replace('_', ' ')}): {error.strerror}. "
                    f"Is a server running there? Choose another with --{option.replace('_', '-')}, or --free-ports"
                ) from error
            ports.append(probe.getsockname()[1])
    return ports


def _start(command: list[str], environment: Environment, log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C in the terminal reaches us alone, and we end the server in order."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command, env=environment.variables, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def _await_ready(server: Server, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _is_ready(server):
        if server.process.poll() is not None:
            raise ServerStartError(failure_message(server.log.read_text(errors="replace")))
        if time.monotonic() > deadline:
            log = failure_message(server.log.read_text(errors="replace"))
            raise ServerStartError(f"Triton was not ready within {timeout_s:g} s. {log}")
        time.sleep(POLL_S)


def _is_ready(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"http://{server.http_url}/v2/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its stubs: SIGTERM, and SIGKILL for whatever is left after the exit timeout."""
    family = []
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(EXIT_TIMEOUT_S + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=2)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=2)
