"""Servers that fail in the way that a test asks for, callers that keep asking them, and certificates of all kinds."""

import asyncio
import datetime
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import trustme
from altreco_client import AsyncTagRecommender, PreparedImage, Recommendation, ServerError, TagRecommender

from deploy.local import Server
from measure.callers import Caller, Calls, calling
from measure.requests import new_pictures
from tests.servers import listens, own_ports

WAIT_S = 30.0
"""After which a condition that does not come true fails a test."""
SLACK_S = 0.5
"""How much later than its deadline a call may return where two cores run its servers, all callers, and nothing else."""
SHARED_SLACK_S = 10.0
"""The same where other tests run beside; what does not keep its deadline takes WAIT_S or longer."""
CALLERS = 8
HISTORY = {"tag-1": 2, "tag-2": 1}
Ask = Callable[..., Recommendation]
Load = Calls[Recommendation]
PAST = datetime.datetime(2020, 1, 1)


def port(server: Server) -> int:
    return int(server.grpc_url.rpartition(":")[2])


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Its connections stay, and nothing answers."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def gone(server: Server) -> bool:
    """Whether nothing listens on its port any more."""
    return not listens(port(server))


def closed_port() -> str:
    return f"127.0.0.1:{next(own_ports())}"


def picture(seed: int = 0) -> PreparedImage:
    """Noise, ready for the wire."""
    return PreparedImage(next(new_pictures(seed)))


@contextmanager
def within(seconds: float, slack_s: float = SHARED_SLACK_S) -> Iterator[None]:
    """What is inside ends in time, however it ends."""
    started = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - started
        assert took < seconds + slack_s, f"took {took:.2f} s, expected {seconds:g} s at most"


@contextmanager
def asking(kind: str, url: str, **settings: Any) -> Iterator[Ask]:
    """The `recommend` of a "sync" client, or of an "asyncio" one whose loop runs in a thread beside the callers'."""
    if kind == "sync":
        with TagRecommender(url, **settings) as recommender:
            yield recommender.recommend
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT_S)

    async def make() -> AsyncTagRecommender:
        return AsyncTagRecommender(url, **settings)

    client = run(make())
    try:
        yield lambda *arguments, **options: run(client.recommend(*arguments, **options))
    finally:
        run(client.close())
        run(loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def under_load(kind: str, url: str, **settings: Any) -> Iterator[Load]:
    """Callers that share a client and ask without pause, a picture each."""
    with asking(kind, url, **settings) as ask:
        callers = [Caller(lambda image: ask(image, HISTORY), repeat(picture(seed))) for seed in range(CALLERS)]
        with calling(callers, failures=(ServerError,)) as load:
            yield load


def messages(load: Load) -> Counter[str]:
    """The failures by class and message."""
    return Counter(f"{type(call.error).__name__}: {call.error}" for call in load.failed)


@dataclass(frozen=True)
class Certificates:
    """PEM files NAME.pem and NAME.key, and the two authorities' own: see `make_certificates`."""

    folder: Path

    def server_flags(self, name: str = "server", *, mutual: bool = False) -> tuple[str, ...]:
        """Flags of tritonserver for TLS with this certificate."""
        return (
            "--grpc-use-ssl=1",
            f"--grpc-server-cert={self.pem(name)}",
            f"--grpc-server-key={self.key(name)}",
            f"--grpc-root-cert={self.pem('ca')}",
            f"--grpc-use-ssl-mutual={int(mutual)}",
        )

    def pem(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def make_certificates(folder: Path) -> Certificates:
    certificates = Certificates(folder)
    ca, other = trustme.CA(), trustme.CA()
    for name, authority in (("ca", ca), ("other-ca", other)):
        authority.cert_pem.write_to_path(str(certificates.pem(name)))
    for name, leaf in (
        ("server", ca.issue_cert("127.0.0.1")),
        ("other-host", ca.issue_cert("triton.example.org")),
        ("expired", ca.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST + datetime.timedelta(days=1))),
        ("client", ca.issue_cert("client@example.org")),
        ("stranger", other.issue_cert("client@example.org")),
    ):
        leaf.private_key_pem.write_to_path(str(certificates.key(name)))
        certificates.key(name).chmod(0o600)
        certificates.pem(name).write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    return certificates
