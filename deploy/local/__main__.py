"""Serve a model repository with a real Triton on this machine: `python -m deploy.local`; Ctrl-C stops it."""

import argparse
import signal
import sys
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe
from altreco_client.text import printable_lines

from deploy.access import is_loopback
from deploy.local.errors import ServerError
from deploy.local.server import PORT_OPTIONS, Server, ServerSettings, serve

DEFAULTS = ServerSettings(repository=Path("model_repository"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    # SIGTERM ends the server as Ctrl-C does, even if a shell started this process with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with quiet_pipe():
            settings = _settings(arguments)
            with serve(settings) as server:
                print(_ready_line(server, settings), *_nothing_loaded(settings), sep="\n", flush=True)
                server.wait()
    except KeyboardInterrupt:
        return 0
    except (ServerError, ValueError, OSError) as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 1


def _ready_line(server: Server, settings: ServerSettings) -> str:
    return (
        f"Triton is ready after {server.start_s:.1f} s: gRPC {server.grpc_url}, HTTP {server.http_url}, "
        f"metrics {server.metrics_url}, process {server.pid}; {open_ports(settings)}Ctrl-C stops it"
    )


def open_ports(settings: ServerSettings) -> str:
    """The warning for ports without a key; empty where only this machine reaches them and models stay as they are."""
    if any(flag.startswith("--grpc-restricted-protocol") for flag in settings.extra_args):
        return ""
    controls = "load and unload models, " if settings.model_control == "explicit" else ""
    if not controls and is_loopback(f"{settings.host}:0"):
        return ""
    return f"whoever reaches its ports can {controls}register shared memory and change its log, without a key; "


def _nothing_loaded(settings: ServerSettings) -> list[str]:
    """Return the notice for a server under explicit control that was told to load no model."""
    if settings.model_control != "explicit" or any(flag.startswith("--load-model") for flag in settings.extra_args):
        return []
    return [
        "No model is loaded: start the server with -- '--load-model=*' to load all, or load a release with "
        "`.venv/bin/python -m export rollout`"
    ]


def _settings(arguments: list[str] | None) -> ServerSettings:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    option = parser.add_argument
    option("--repository", type=Path, default=DEFAULTS.repository, metavar="FOLDER", help="Triton model repository")
    option("--host", default=DEFAULTS.host, help="address to listen on; 0.0.0.0 opens it to the network")
    option("--grpc-port", type=int, default=DEFAULTS.grpc_port, metavar="PORT", help="port for gRPC")
    option("--http-port", type=int, default=DEFAULTS.http_port, metavar="PORT", help="port for HTTP")
    option("--metrics-port", type=int, default=DEFAULTS.metrics_port, metavar="PORT", help="port for the metrics")
    option("--free-ports", action="store_true", help="use unused ports for all three; for one, set its port to 0")
    option("--cache-size", type=int, default=DEFAULTS.cache_size_bytes, metavar="BYTES", help="cache; 0 turns it off")
    option("--model-control", choices=("none", "explicit", "poll"), default="none", help="Triton's model control mode")
    option("--strict", action="store_true", help="refuse incomplete config.pbtxt files")
    option("--start-timeout", type=float, default=DEFAULTS.start_timeout_s, metavar="S", help="wait for readiness")
    stop_help = "seconds that requests in flight have to end; 0 kills the server at once"
    option("--stop-timeout", type=float, default=DEFAULTS.stop_timeout_s, metavar="S", help=stop_help)
    option("--log-file", type=Path, metavar="FILE", help="write Triton's log to this file")
    option("--verbose", action="store_true", help="copy Triton's log to stderr")
    option("triton", nargs="*", metavar="-- FLAG", help="more flags for tritonserver, after --")
    given = vars(parser.parse_args(arguments))
    if given.pop("free_ports"):
        given |= dict.fromkeys(PORT_OPTIONS, 0)
    return ServerSettings(
        cache_size_bytes=given.pop("cache_size"),
        start_timeout_s=given.pop("start_timeout"),
        stop_timeout_s=given.pop("stop_timeout"),
        extra_args=tuple(given.pop("triton")),
        **given,
    )


if __name__ == "__main__":
    sys.exit(main())
