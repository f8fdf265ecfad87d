"""Run Triton as a context manager: ready on entry, and all of its processes ended on exit.

with serve(ServerSettings(repository=Path("model_repository"), grpc_port=0)) as server:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
"""

import contextlib
import errno
import http
import http.client
import logging
import math
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from altreco_client.checks import MAX_SECONDS

from deploy.local.diagnose import last_errors, port_in_use, start_error
from deploy.local.environment import Installation, find_installation, lay_out_backends, server_environment
from deploy.local.errors import (
    BackendAborted,
    PortInUse,
    RepositoryError,
    ServerDied,
    ServerStartError,
    StartTimeout,
)
from deploy.local.leftovers import own_folder, shared_memory
from deploy.local.process import EndedAtStart, NotReady, Running, running, wait_until_ready

LOG = logging.getLogger(__name__)
PORT_OPTIONS = {"grpc_port": "--grpc-port", "http_port": "--http-port", "metrics_port": "--metrics-port"}
MODELS = "models"  # in the server's own folder
KILL_AFTER_S = 5.0  # after Triton's own exit timeout
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")  # Triton's Python backend hands its paths to a shell, unquoted
VERSION = re.compile(r"[0-9]+")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of a local server."""

    repository: Path
    host: str = "127.0.0.1"
    grpc_port: int = 8001  # for each port: 0 chooses an unused one
    http_port: int = 8000
    metrics_port: int = 8002
    cache_size_bytes: int = 64 * 1024**2  # response cache; 0 turns it off
    strict: bool = False  # refuse incomplete config.pbtxt files
    model_control: Literal["none", "explicit", "poll"] = "none"
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 10.0  # for requests in flight; 0 kills at once
    log_file: Path | None = None  # kept; without it, the log is deleted with the server
    verbose: bool = False  # copy the log to stderr
    extra_args: tuple[str, ...] = ()  # more tritonserver flags; paths must be absolute, HTTP and metrics stay on

    def __post_init__(self) -> None:
        """Raise ValueError for settings that cannot work."""
        ports = [self.grpc_port, self.http_port, self.metrics_port]
        fixed = [port for port in ports if port != 0]
        if any(not 0 <= port < 65536 for port in ports) or len(set(fixed)) < len(fixed):
            raise ValueError(f"ports must be three different numbers from 1 to 65535, or 0 for a free one: {ports}")
        if self.cache_size_bytes < 0:
            raise ValueError(f"cache_size_bytes must not be negative, got {self.cache_size_bytes}")
        if not (0 < self.start_timeout_s <= MAX_SECONDS and 0 <= self.stop_timeout_s <= MAX_SECONDS):
            raise ValueError(
                f"timeouts must be seconds above 0, at most {MAX_SECONDS:,}, got {self.start_timeout_s:g} to start and "
                f"{self.stop_timeout_s:g} to stop; only the time to stop may be 0"
            )


def on_free_ports(repository: Path, **more: Any) -> ServerSettings:
    """Create settings for a server on unused ports; `more` as in ServerSettings."""
    return ServerSettings(**{"repository": repository, **dict.fromkeys(PORT_OPTIONS, 0), **more})


@dataclass(frozen=True, kw_only=True)
class Server:
    """A ready server; `grpc_url` is host:port without a scheme."""

    grpc_url: str
    http_url: str
    metrics_url: str
    pid: int
    log_path: Path
    start_s: float
    _process: Running = field(repr=False)

    def wait(self) -> NoReturn:
        """Block until the server ends by itself, then raise ServerDied."""
        code = self._process.wait()
        raise ServerDied(f"Triton ended by itself (exit code {code}):\n  {last_errors(self._process.log())}")


@contextlib.contextmanager
def serve(settings: ServerSettings) -> Iterator[Server]:
    """Run a server for the duration of the `with` block; raises ServerStartError if it does not start.

    The server also ends when the thread that entered the block ends, even if its process is killed.
    """
    _check_repository(settings)
    installation = find_installation()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(own_folder(_plain_folder()))
        lay_out_backends(installation, folder / "backends")
        _link_models(settings, folder / MODELS)

        def start() -> Server:
            return stack.enter_context(_running(installation, _with_ports(settings), folder))

        try:
            server = start()
        except PortInUse:
            if 0 not in _options(settings):
                raise
            # Another process took a free port between its choice and its use.
            server = start()
        except BackendAborted:
            # Triton does this rarely, whatever the models are (triton-inference-server/server#8882).
            LOG.warning("Triton's Python backend lost a lock while it started: starting once more")
            server = start()
        yield server


def _check_repository(settings: ServerSettings) -> None:
    repository = settings.repository.resolve()
    if not repository.is_dir():
        raise RepositoryError(f"there is no model repository {repository}: name its folder with --repository")
    if settings.model_control == "none" and not _models(repository):
        raise RepositoryError(f"the model repository {repository} has no models: it needs one folder for each model")


def _models(repository: Path) -> list[Path]:
    """Folders with a config or a version. Triton would take others for models too, such as a volume's lost+found."""
    return [
        folder
        for folder in sorted(repository.iterdir())
        if folder.is_dir()
        and not folder.name.startswith(".")
        and ((folder / "config.pbtxt").exists() or any(VERSION.fullmatch(path.name) for path in folder.iterdir()))
    ]


def _plain_folder() -> Path:
    """The folder for temporary files, or /tmp if the name of that one would not pass through a shell unchanged."""
    folder = Path(tempfile.gettempdir()).resolve()
    return folder if PLAIN_PATH.fullmatch(str(folder)) else Path("/tmp")


def _link_models(settings: ServerSettings, link: Path) -> None:
    """Link the repository, or each of its models, to a place whose path passes through a shell unchanged.

    Under explicit control and in poll mode, models that come later have to be found.
    """
    repository = settings.repository.resolve()
    if settings.model_control != "none":
        link.symlink_to(repository)
        return
    link.mkdir()
    for model in _models(repository):
        (link / model.name).symlink_to(model)


def _with_ports(settings: ServerSettings) -> ServerSettings:
    """Resolve the host name, and replace each port of 0 by an unused one."""
    try:
        settings = replace(settings, host=socket.gethostbyname(settings.host))
    except OSError as error:
        raise ServerStartError(
            f"--host {settings.host} is not an address: {error.strerror}; expected a name or address of IPv4, which is "
            "all that the local server listens on"
        ) from error
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_listen(settings, getattr(settings, name))) for name in PORT_OPTIONS]
        ports = [sock.getsockname()[1] for sock in sockets]
    return replace(settings, **dict(zip(PORT_OPTIONS, ports, strict=True)))


def _listen(settings: ServerSettings, port: int) -> socket.socket:
    try:
        return socket.create_server((settings.host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_in_use(settings.host, port, _options(settings)) from error
        raise ServerStartError(f"cannot listen on {settings.host}:{port}: {error.strerror}") from error


def _options(settings: ServerSettings) -> dict[int, str]:
    """Map each port to its option."""
    return {getattr(settings, name): option for name, option in PORT_OPTIONS.items()}


@contextlib.contextmanager
def _running(installation: Installation, settings: ServerSettings, folder: Path) -> Iterator[Server]:
    server_id = f"altreco-{uuid.uuid4().hex}"
    started = time.monotonic()
    with (
        shared_memory(server_id),
        running(
            _arguments(installation, settings, folder, server_id=server_id),
            log_path=(settings.log_file or folder / "triton.log").resolve(),
            stop_timeout_s=settings.stop_timeout_s + KILL_AFTER_S if settings.stop_timeout_s else 0,
            env=server_environment(installation),
            cwd=folder,  # where the stubs look for modules first
            echo=settings.verbose,
        ) as process,
    ):
        _wait_until_ready(process, settings, folder, server_id=server_id)
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        yield Server(
            grpc_url=f"{host}:{settings.grpc_port}",
            http_url=f"http://{host}:{settings.http_port}",
            metrics_url=f"http://{host}:{settings.metrics_port}/metrics",
            pid=process.pid,
            log_path=process.log_path,
            start_s=time.monotonic() - started,
            _process=process,
        )


def _arguments(installation: Installation, settings: ServerSettings, folder: Path, *, server_id: str) -> list[str]:
    host = settings.host
    cache = ["--cache-config", f"local,size={settings.cache_size_bytes}"] if settings.cache_size_bytes else []
    return [
        *(str(installation.executable), "--id", server_id),
        *("--model-repository", str(folder / MODELS)),
        *("--model-control-mode", settings.model_control),
        *("--grpc-address", host, "--grpc-port", str(settings.grpc_port)),
        *("--http-address", host, "--http-port", str(settings.http_port)),
        *("--metrics-address", host, "--metrics-port", str(settings.metrics_port)),
        *("--backend-directory", str(folder / "backends")),
        *("--backend-config", f"python,shm-region-prefix-name={server_id}"),
        *("--cache-directory", str(installation.caches), *cache),
        *("--exit-timeout-secs", str(math.ceil(settings.stop_timeout_s) or 1)),
        *(["--disable-auto-complete-config"] if settings.strict else []),
        *(flag for given in settings.extra_args for flag in _load_flags(given, settings)),
    ]


def _load_flags(flag: str, settings: ServerSettings) -> list[str]:
    """The flag itself; for all models, one flag for each, since Triton would count foreign folders as models."""
    if flag != "--load-model=*":
        return [flag]
    return [f"--load-model={model.name}" for model in _models(settings.repository.resolve())]


def _log(process: Running, settings: ServerSettings, folder: Path) -> str:
    """The log, with the repository's own path."""
    return process.log().replace(str(folder / MODELS), str(settings.repository.resolve()))


def _wait_until_ready(process: Running, settings: ServerSettings, folder: Path, *, server_id: str) -> None:
    try:
        wait_until_ready(
            process, lambda: None if _is_ready(settings, server_id) else "not ready", settings.start_timeout_s
        )
    except EndedAtStart as error:
        raise start_error(
            _log(process, settings, folder),
            options=_options(settings),
            repository=str(settings.repository),
            exit_code=error.exit_code,
        ) from error
    except NotReady as error:
        raise StartTimeout(
            f"Triton was not ready after {settings.start_timeout_s:g} s (--start-timeout); "
            f"the end of its log:\n  {last_errors(_log(process, settings, folder))}"
        ) from error


def _is_ready(settings: ServerSettings, server_id: str) -> bool:
    def get(port: int, path: str) -> str | None:
        with contextlib.closing(http.client.HTTPConnection(settings.host, port, timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode(errors="replace") if answer.status == http.HTTPStatus.OK else None

    try:
        # The id tells this server from another one on the same port. Metrics come up last.
        return (
            server_id in (get(settings.http_port, "/v2") or "")
            and get(settings.http_port, "/v2/health/ready") is not None
            and get(settings.metrics_port, "/metrics") is not None
        )
    except (OSError, http.client.HTTPException):
        return False
