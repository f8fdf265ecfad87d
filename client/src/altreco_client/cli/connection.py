"""Command line options for TLS and headers, the same for every command that connects to a server."""

from __future__ import annotations

import argparse

from ..channel import TLS, check_headers
from ..errors import InvalidRequest


def add_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options that `tls` and `headers` read."""
    parser.add_argument("--tls", action="store_true", help="use TLS with the default certificate authorities")
    parser.add_argument("--ca", metavar="PEM", help="use TLS with this certificate authority")
    parser.add_argument("--certificate", metavar="PEM", help="client certificate, for mutual TLS")
    parser.add_argument("--key", metavar="PEM", help="private key of --certificate")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="gRPC metadata to send with every request; may be repeated",
    )


def tls(arguments: argparse.Namespace) -> TLS | None:
    """The TLS files; None: no TLS. Raises InvalidRequest."""
    files = (arguments.ca, arguments.certificate, arguments.key)
    if "" in files:
        raise InvalidRequest("--ca, --certificate and --key: expected the name of a file, found an empty one")
    if not arguments.tls and files == (None, None, None):
        return None
    if (arguments.certificate is None) != (arguments.key is None):
        raise InvalidRequest("--certificate and --key belong together: give both or neither")
    return TLS(root_certificates=files[0], certificate=files[1], private_key=files[2])


def headers(arguments: argparse.Namespace) -> dict[str, str]:
    """The headers as gRPC metadata; raises InvalidRequest."""
    return check_headers(dict(_header(text) for text in arguments.header))


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest(f"--header {text!r}: expected NAME=VALUE")
    return name, value
