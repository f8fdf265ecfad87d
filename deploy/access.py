"""Connections to servers that require TLS, a client certificate or the admin key."""

import argparse
import ipaddress
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
from altreco_client import TLS, Channel, InvalidRequest, TagRecommender
from altreco_client.channel import check_headers
from altreco_client.cli import connection

ADMIN_KEY = "triton-grpc-protocol-admin-key"
"""Header that carries the admin key; the manifests set it with --grpc-restricted-protocol."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """TLS settings and headers for every call. Headers may be secret, so the repr leaves them out."""

    tls: TLS | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def connect(self, url: str) -> triton.InferenceServerClient:
        """Create NVIDIA's client for host:port; it sends the headers with every call. Raises InvalidRequest."""
        self._check_secrets(url)
        client = triton.InferenceServerClient(**Channel(tls=self.tls).client_arguments(url))
        client.register_plugin(self._add_headers)
        return client

    def recommender(self, url: str, **settings: Any) -> TagRecommender:
        """Create a TagRecommender with these `settings`; raises InvalidRequest."""
        self._check_secrets(url)
        return TagRecommender(url, channel=Channel(tls=self.tls), headers=dict(self.headers), **settings)

    def _check_secrets(self, url: str) -> None:
        """Raise InvalidRequest if the admin key would leave this machine without TLS."""
        if self.tls is None and ADMIN_KEY in dict(self.headers) and not is_loopback(url):
            raise InvalidRequest(
                f"the admin key would go to {url} unencrypted: give --tls or --ca, or forward the port to localhost"
            )

    def _add_headers(self, request: Any) -> None:
        request.headers = {**request.headers, **dict(self.headers)}


PLAIN = Access()


def is_loopback(url: str) -> bool:
    """Whether host:port, or every address of a gRPC target, is this machine."""
    scheme, _, rest = url.rpartition("/") if url.startswith("dns:") else url.partition(":")
    if scheme == "unix":
        return True
    addresses = rest.split(",") if scheme in ("ipv4", "ipv6") or scheme.startswith("dns") else [url]
    return all(_is_loopback_host(address.rpartition(":")[0].strip("[]")) for address in addresses)


def _is_loopback_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `access_of` reads: the connection options of `altreco`, and --admin-key-file."""
    group = parser.add_argument_group("server security")
    connection.add_options(group)
    group.add_argument(
        "--admin-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the admin key ({ADMIN_KEY}); a file, because every user of the machine can see command lines",
    )


def access_of(arguments: argparse.Namespace) -> Access:
    """Read the options of `add_access_options`; raises InvalidRequest."""
    tls, headers = connection.tls(arguments), connection.headers(arguments)
    if tls is not None:
        # The processes of a load test run in another folder.
        files = (tls.root_certificates, tls.certificate, tls.private_key)
        ca, certificate, key = (str(Path(file).absolute()) if file else None for file in files)
        tls = TLS(root_certificates=ca, certificate=certificate, private_key=key)
    if arguments.admin_key_file is not None:
        headers |= {ADMIN_KEY: _read_key(arguments.admin_key_file)}
    if arguments.key:
        check_secret_file(Path(arguments.key), "--key")
    return Access(tls=tls, headers=tuple(headers.items()))


def advice(message: str) -> str:
    """Say what to do about an error message of Triton or gRPC when security refused a call; empty for other errors."""
    if "This protocol is restricted" in message:
        return f"give the key with --admin-key-file ({ADMIN_KEY})"
    if "Socket closed" in message:
        return "does it want TLS or a client certificate (--ca, --certificate, --key)? Is this its gRPC port?"
    if "WRONG_VERSION_NUMBER" in message:
        return "this port does not use TLS: leave out --tls, --ca, --certificate and --key, or give the gRPC port"
    if "CERTIFICATE_VERIFY_FAILED" in message or "Hostname Verification Check failed" in message:
        return "check the dates and names in the server's certificate; is --ca the CA that signed it?"
    return ""


def check_secret_file(file: Path, option: str) -> None:
    """Raise InvalidRequest if other users of this machine may read or write the file. The file's group may."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return  # whoever reads it says that it is missing
    if mode & stat.S_IRWXO:
        raise InvalidRequest(f"{option} {file} has mode {mode:04o}, open to other users: run `chmod 600 {file}`")


def _read_key(file: Path) -> str:
    check_secret_file(file, "--admin-key-file")
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read --admin-key-file {file}: expected a file with one line of ASCII") from error
    if not key:
        raise InvalidRequest(f"--admin-key-file {file} is empty: expected the key")
    return check_headers({ADMIN_KEY: key})[ADMIN_KEY]
