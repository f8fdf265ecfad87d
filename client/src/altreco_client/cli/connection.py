"""How a command line is told to connect: TLS and headers, by the same options wherever a server is asked."""

from __future__ import annotations

import argparse

from ..channel import TLS, check_headers
from ..errors import InvalidRequest


def add_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """The options that `tls` and `headers` read."""
    parser.add_argument("--tls", action="store_true", help="encrypt, and trust the system's certificate authorities")
    parser.add_argument("--ca", metavar="PEM", help="encrypt, and trust this certificate authority")
    parser.add_argument("--certificate", metavar="PEM", help="the client's own certificate, for mutual TLS")
    parser.add_argument("--key", metavar="PEM", help="the private key of --certificate")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="gRPC metadata to send")


def tls(arguments: argparse.Namespace) -> TLS | None:
    """None: not encrypted."""
    files = (arguments.ca, arguments.certificate, arguments.key)
    if not arguments.tls and not any(files):
        return None
    return TLS(root_certificates=files[0], certificate=files[1], private_key=files[2])


def headers(arguments: argparse.Namespace) -> dict[str, str]:
    """As gRPC takes them; raises InvalidRequest."""
    return check_headers(dict(_header(text) for text in arguments.header))


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest(f"--header {text!r}: expected NAME=VALUE")
    return name, value
