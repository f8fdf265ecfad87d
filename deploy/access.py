"""How this repository's tools reach a server that wants TLS, a client's certificate, or the operators' key."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
from altreco_client import TLS, Channel, InvalidRequest, TagRecommender
from altreco_client.channel import check_headers
from altreco_client.cli import connection

ADMIN_KEY = "triton-grpc-protocol-admin-key"
"""The header that the manifests' --grpc-restricted-protocol asks for."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """TLS, and headers for every call. They may be secret, so nothing shows them."""

    tls: TLS | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def connect(self, url: str) -> triton.InferenceServerClient:
        """NVIDIA's client of host:port, which sends the headers by itself; raises InvalidRequest."""
        client = triton.InferenceServerClient(url, creds=self.tls.credentials() if self.tls else None)
        client.register_plugin(self._add_headers)
        return client

    def recommender(self, url: str, **settings: Any) -> TagRecommender:
        """Our client; raises InvalidRequest."""
        return TagRecommender(url, channel=Channel(tls=self.tls), headers=dict(self.headers), **settings)

    def _add_headers(self, request: Any) -> None:
        request.headers = {**request.headers, **dict(self.headers)}


PLAIN = Access()


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """The options that `access_of` reads: those of `altreco`, and the key's."""
    group = parser.add_argument_group("the server's security")
    connection.add_options(group)
    group.add_argument(
        "--admin-key-file",
        type=Path,
        metavar="FILE",
        help=f"with what is sent as {ADMIN_KEY}: in a file, as everybody on the machine can read a command line",
    )


def access_of(arguments: argparse.Namespace) -> Access:
    """What was given of `add_access_options`; raises InvalidRequest."""
    tls, headers = connection.tls(arguments), connection.headers(arguments)
    if tls is not None:
        # A load's processes run in another folder.
        files = (tls.root_certificates, tls.certificate, tls.private_key)
        ca, certificate, key = (str(Path(file).absolute()) if file else None for file in files)
        tls = TLS(root_certificates=ca, certificate=certificate, private_key=key)
    if arguments.admin_key_file is not None:
        headers |= {ADMIN_KEY: _read_key(arguments.admin_key_file)}
    return Access(tls=tls, headers=tuple(headers.items()))


def advice(message: str) -> str:
    """What to do about Triton's or gRPC's words to a call that security refused; empty if it was something else."""
    if "This protocol is restricted" in message:
        return f"give the key with --admin-key-file ({ADMIN_KEY})"
    if "Socket closed" in message:
        return "does it want TLS, or a client's certificate (--ca, --certificate, --key)? Is this its gRPC port?"
    if "WRONG_VERSION_NUMBER" in message:
        return "it does not speak TLS: leave out --tls, --ca, --certificate and --key, or ask its gRPC port"
    if "CERTIFICATE_VERIFY_FAILED" in message or "Hostname Verification Check failed" in message:
        return "look at the server's certificate (dates, names): is --ca its authority?"
    return ""


def _read_key(file: Path) -> str:
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read --admin-key-file {file}: expected a file with one line of ASCII") from error
    if not key:
        raise InvalidRequest(f"--admin-key-file {file} is empty: expected the key")
    return check_headers({ADMIN_KEY: key})[ADMIN_KEY]
