"""How the client connects: addresses, TLS, load balancing, keepalive and limits, all of them gRPC's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from .errors import InvalidRequest

ADDRESS = re.compile(r"([^\s/:,\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:")
SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
"""gRPC's default sends everything to the first address that answers. Its retries are not used: it tells statuses apart,
and Triton has the same one for a server that is gone and for a request that waited too long."""

HEADER_NAME, HEADER_VALUE = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)"), re.compile(r"[ -~]*")


@dataclass(frozen=True, kw_only=True)
class TLS:
    """Files in PEM. Without `root_certificates`, gRPC's own; `certificate` and `private_key` are for mutual TLS."""

    root_certificates: str | Path | None = None
    certificate: str | Path | None = None
    private_key: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files; raises InvalidRequest."""
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidRequest("certificate and private_key belong together: give both, or none")
        return grpc.ssl_channel_credentials(
            _read(self.root_certificates), _read(self.private_key), _read(self.certificate)
        )


@dataclass(frozen=True, kw_only=True)
class Channel:
    """The connection's settings; the defaults are for several replicas in one data centre.

    A request that finds no server, or one that shuts down, goes out `max_attempts` times at most, within its deadline,
    after jittered waits that double from `backoff_s` to `max_backoff_s`; see `retry.py`. A lost connection is tried
    again at least every `max_reconnect_s`, so that a server that is back is found while a request is still tried. A
    connection that says nothing for `keepalive_s` while calls wait is asked, and given up after `keepalive_timeout_s`
    more.
    """

    tls: TLS | None = None
    max_attempts: int = 6
    backoff_s: float = 0.05
    max_backoff_s: float = 0.5
    max_reconnect_s: float = 0.5
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    max_message_bytes: int = 64 * 1024**2

    def __post_init__(self) -> None:
        """Raise InvalidRequest for what gRPC would not take, or would silently change."""
        for name in ("max_attempts", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)!r}: expected 1 or more")
        for name in ("backoff_s", "max_backoff_s", "max_reconnect_s", "keepalive_s", "keepalive_timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name} is {getattr(self, name)!r}: expected seconds above zero")

    def client_arguments(self, url: str) -> dict[str, Any]:
        """Of tritonclient's InferenceServerClient; raises InvalidRequest."""
        credentials = self.tls.credentials() if self.tls else None
        return {"url": check_target(url), "creds": credentials, "channel_args": self._channel_args()}

    def _channel_args(self) -> list[tuple[str, int | str]]:
        """All that matters, as they replace tritonclient's own, message sizes included."""
        return [
            ("grpc.service_config", SERVICE_CONFIG),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            ("grpc.initial_reconnect_backoff_ms", round(min(0.1, self.max_reconnect_s) * 1000)),
            ("grpc.min_reconnect_backoff_ms", round(min(0.1, self.max_reconnect_s) * 1000)),
            ("grpc.max_reconnect_backoff_ms", round(self.max_reconnect_s * 1000)),
        ]


def check_target(url: str) -> str:
    """The address, as gRPC takes it; raises InvalidRequest."""
    if url.startswith(SCHEMES) or ADDRESS.fullmatch(url):
        return url
    raise InvalidRequest(
        f"url {url!r}: expected host:port of Triton's gRPC endpoint, such as localhost:8001; or, for several replicas, "
        "dns:///name:8001 or ipv4:10.0.0.1:8001,10.0.0.2:8001"
    )


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """As gRPC metadata, names in lower case; raises InvalidRequest."""
    checked = {name.lower(): value for name, value in headers.items()}
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
    if b"-----BEGIN " not in content:  # gRPC would take it, and then fail as if the server were not there
        raise InvalidRequest(f"{path} is no PEM file: expected one with -----BEGIN ...-----")
    return content
