"""Start, end and inspect servers from outside, as a platform does."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import psutil
from altreco_client import contract

from deploy.access import PLAIN
from deploy.local import Server, on_free_ports, serve
from measure.server import connections, counters, footprint
from measure.waiting import wait_until

PROBE = Path(__file__).parents[1] / "deploy" / "container" / "probe.sh"
PROBE_S = 60.0
"""Timeout of the startup probe, as in base/deployment.yaml."""
CLOSED_S = 60.0
"""Time for the server to close a connection that its client ended."""
GROWTH_MIB = 64.0
"""Growth up to which a server's memory counts as constant; allocators keep freed memory."""
AGE_S, GRACE_S = 30, 10
"""Largest connection age, and its grace, in the manifests."""


def connection_age(age_s: float, grace_s: float) -> tuple[str, str]:
    """Return Triton's flags for the largest connection age and its grace."""
    return f"--grpc-max-connection-age={1000 * age_s:.0f}", f"--grpc-max-connection-age-grace={1000 * grace_s:.0f}"


def connections_back(server: Server, count: int) -> bool:
    """Tell whether clients are back to at most `count` connections within CLOSED_S."""
    return _in_time(lambda: connections(server.pid) <= count)


def files_back(server: Server, count: int) -> bool:
    """Tell whether the server is back to at most `count` open files within CLOSED_S; some outlive their connection."""
    return _in_time(lambda: footprint(server.pid).files <= count)


def _in_time(condition: Callable[[], bool]) -> bool:
    try:
        wait_until(condition, seconds=CLOSED_S)
    except TimeoutError:
        return False
    return True


def serving(repository: Path, **settings: Any) -> AbstractContextManager[Server]:
    """Run a server on free ports, killed at the end; without a cache, every picture is computed.

    `settings` as in ServerSettings.
    """
    return serve(on_free_ports(repository, **{"strict": True, "cache_size_bytes": 0, "stop_timeout_s": 0, **settings}))


def addresses(server: Server) -> dict[str, Any]:
    """Return the settings for a server with the addresses of this one."""
    host, _, grpc_port = server.grpc_url.rpartition(":")
    urls = {"http_port": server.http_url, "metrics_port": server.metrics_url.removesuffix("/metrics")}
    ports = {name: int(url.rpartition(":")[2]) for name, url in urls.items()}
    return {"host": host, "grpc_port": int(grpc_port), **ports}


def all_of(*servers: Server) -> str:
    """Return a gRPC address of all servers, over which a client balances."""
    return f"ipv4:{','.join(server.grpc_url for server in servers)}"


def kill(server: Server) -> None:
    """Kill a server with all of its processes at once, as the end of a container does."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def terminate(server: Server) -> None:
    """Send SIGTERM, as Kubernetes does to end a pod."""
    os.kill(server.pid, signal.SIGTERM)


def exit_code(server: Server, *, seconds: float = 60.0) -> int:
    """Wait for a server's end and return its exit code; -N for signal N. Raises TimeoutError."""

    def ended() -> Any:
        # Leave it a zombie: `serve` still needs its process id to end the group.
        return os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)

    wait_until(lambda: ended() is not None, f"the end of Triton, process {server.pid}", seconds=seconds)
    end = ended()
    return int(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)


def stubs(server: Server, model: str) -> list[psutil.Process]:
    """List the processes in which Triton's Python backend runs a model, one per instance."""
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if any(part.startswith(f"{model}_") for part in child.cmdline())]


def answered_by(server: Server) -> int:
    """Count the requests to the ensemble that a server has answered since its start."""
    with PLAIN.connect(server.grpc_url) as client:
        return int(counters(client).get(contract.TAG_RECOMMENDER.name, {}).get("requests", 0))


def probe(server: Server, kind: str, *, models: Path, release: int) -> bool:
    """Tell whether the container's probe (`live`, `ready` or `golden`) passes."""
    done = subprocess.run(
        [PROBE, kind],
        env={**os.environ, "PROBE_URL": server.http_url, "MODELS": str(models), "RELEASE": str(release)},
        capture_output=True,
        timeout=PROBE_S,
        check=False,
    )
    return done.returncode == 0
