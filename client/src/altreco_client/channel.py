"""Connection settings of gRPC: addresses, TLS, load balancing, keepalive and limits."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grpc

from .checks import checked_seconds, checked_whole
from .errors import InvalidRequest
from .text import shown

ADDRESS = re.compile(r"([^\s/:,\[\]]+|\[[^\s/,\[\]]+\]):([0-9]{1,5})")
MOST_PORT = 65535
CONNECT_S = 3.0
"""Longest time for one attempt to connect, TLS included: enough for a slow network, and less than most deadlines."""
MOST = 2**31 - 1
"""Largest whole number that gRPC takes."""
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables that gRPC reads, in this order."""

SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
"""Spread the requests over all addresses; by default gRPC sends them all to the first one that answers.

gRPC's own retries are off. They go by the status, and Triton has the same status for a server that is gone and for a
request that waited too long."""

Limit: TypeAlias = int | Literal["adaptive"] | None
"""Most requests in flight: a number, one that follows the server's latency, or None for no limit."""

HEADER_NAME, HEADER_VALUE = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)"), re.compile(r"[ -~]*")


@dataclass(frozen=True, kw_only=True)
class TLS:
    """PEM files for TLS.

    Without `root_certificates` the client trusts gRPC's own. `certificate` and `private_key` are for mutual TLS.
    """

    root_certificates: str | Path | None = None
    certificate: str | Path | None = None
    private_key: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files; raises InvalidRequest."""
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidRequest("certificate and private_key belong together: give both or neither")
        return grpc.ssl_channel_credentials(
            _read(self.root_certificates), _read(self.private_key), _read(self.certificate)
        )


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Settings of the connection. The defaults are for several replicas in one data centre.

    - `tls`: TLS files (default: not encrypted).
    - `max_attempts`: most attempts for a request that finds no server, or one that is shutting down. All of them share
      the call's deadline.
    - `backoff_s`, `max_backoff_s`: wait before the second attempt, and longest wait. Waits double and have jitter.
    - `max_reconnect_s`: longest time between two attempts to restore a lost connection. It is short, so that a server
      that comes back is found while a request is still being retried.
    - `keepalive_s`: time without an answer after which a connection with waiting calls is pinged.
    - `keepalive_timeout_s`: time without a reply to the ping after which the connection is closed.
    - `max_message_bytes`: largest request and largest answer.
    - `use_proxy`: connect through the HTTP proxy in the environment variable grpc_proxy, https_proxy or http_proxy, as
      gRPC does by itself, even to loopback and in-cluster addresses (default: connect directly).
    - `max_in_flight`: most requests of this client that the server has at once. "adaptive" finds it: it starts at 16,
      grows while it is used, and shrinks when requests take more than half of their deadline. A request over the limit
      waits for up to a quarter of its deadline, and then raises Overloaded. A whole number is a fixed limit. None is no
      limit: an overloaded server then computes answers for callers that have given up.
    """

    tls: TLS | None = None
    max_attempts: int = 6
    backoff_s: float = 0.05
    max_backoff_s: float = 0.5
    max_reconnect_s: float = 0.5
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    max_message_bytes: int = 64 * 1024**2
    use_proxy: bool = False
    max_in_flight: Limit = "adaptive"

    def __post_init__(self) -> None:
        """Raise InvalidRequest for values that gRPC would refuse or silently change."""
        for name in ("max_attempts", "max_message_bytes"):
            checked_whole(name, getattr(self, name), f"a whole number from 1 to {MOST:,}", most=MOST)
        for name in ("backoff_s", "max_backoff_s", "max_reconnect_s", "keepalive_s", "keepalive_timeout_s"):
            checked_seconds(name, getattr(self, name))
        limit = self.max_in_flight
        if limit is not None and limit != "adaptive":
            checked_whole("max_in_flight", limit, f'"adaptive", a whole number from 1 to {MOST:,}, or None', most=MOST)

    def client_arguments(self, url: str) -> dict[str, Any]:
        """Arguments for tritonclient's InferenceServerClient; raises InvalidRequest."""
        credentials = self.tls.credentials() if self.tls else None
        return {"url": check_target(url), "creds": credentials, "channel_args": self._channel_args()}

    def proxy_hint(self) -> str:
        """Advice for an address where no server answers; empty without a proxy variable in the environment."""
        name = next((name for name in PROXY_VARIABLES if os.environ.get(name)), None)
        if name is None:
            return ""
        return (
            f" It is asked through the proxy in {name}."
            if self.use_proxy
            else f" The proxy in {name} is not used; if it is needed, pass use_proxy=True in Channel."
        )

    def _channel_args(self) -> list[tuple[str, int | str]]:
        """gRPC's arguments. They replace tritonclient's own, so the message sizes are among them."""
        return [
            ("grpc.service_config", SERVICE_CONFIG),
            ("grpc.enable_http_proxy", int(self.use_proxy)),
            ("grpc.max_send_message_length", int(self.max_message_bytes)),
            ("grpc.max_receive_message_length", int(self.max_message_bytes)),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            ("grpc.initial_reconnect_backoff_ms", round(min(0.1, self.max_reconnect_s) * 1000)),
            ("grpc.min_reconnect_backoff_ms", round(CONNECT_S * 1000)),  # in gRPC's core, the time to connect
            ("grpc.max_reconnect_backoff_ms", round(self.max_reconnect_s * 1000)),
        ]


def check_target(url: str) -> str:
    """Return the address unchanged; raises InvalidRequest if gRPC could never reach it."""
    if isinstance(url, str) and _is_target(url):
        return url
    raise InvalidRequest(
        f"url {shown(url)}: expected host:port of Triton's gRPC endpoint, such as localhost:8001 or [::1]:8001, with a "
        f"port from 1 to {MOST_PORT}; or, for several replicas, dns:///name:8001 or ipv4:10.0.0.1:8001,10.0.0.2:8001"
    )


def _is_target(url: str) -> bool:
    scheme, _, rest = url.partition(":")
    if scheme == "unix":
        return re.fullmatch(r"[^/].*|/[^/].*|///.+", rest) is not None
    if scheme == "dns":
        return _is_address(re.sub(r"^//[^/\s]*/", "", rest))
    if scheme in ("ipv4", "ipv6"):
        return all(_is_address(each, int(scheme[-1])) for each in rest.split(","))
    return _is_address(url)


def _is_address(address: str, version: int | None = None) -> bool:
    """Whether it is host:port; with a version, whether the host is an IP address of that version."""
    found = ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found[2]) <= MOST_PORT:
        return False
    host = found[1]
    if not host.startswith("[") and version is None:
        return True
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return ip.version == (version or 6) and (ip.version == 6) == host.startswith("[")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers as gRPC metadata, with names in lower case; raises InvalidRequest."""
    if not isinstance(headers, Mapping):
        raise InvalidRequest(f"headers is {type(headers).__name__}: expected a dict of names to values")
    checked = {str(name).lower(): value for name, value in headers.items()}
    for name, value in checked.items():
        if not HEADER_NAME.fullmatch(name) or not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
            raise InvalidRequest(
                f"header {name!r}: expected a name of letters, digits, '-', '_' and '.' (not grpc-..., not ...-bin), "
                "and a value of printable ASCII"
            )
    return checked


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}; expected a PEM file") from error
    if b"-----BEGIN " not in content:  # gRPC would accept it, and then fail as if there were no server
        raise InvalidRequest(f"{path} is not a PEM file: expected one with -----BEGIN ...-----")
    return content
