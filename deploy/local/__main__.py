"""Serve a model repository with a real Triton on this machine: `python -m deploy.local`; Ctrl-C stops it."""

import argparse
import signal
import sys
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe

from deploy.local.errors import ServerError
from deploy.local.server import Server, ServerSettings, serve

DEFAULTS = ServerSettings(repository=Path("model_repository"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    # A supervisor's SIGTERM takes the same way out as Ctrl-C, also where a shell started us with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with quiet_pipe(), serve(_settings(arguments)) as server:
            print(_ready_line(server), flush=True)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except (ServerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _ready_line(server: Server) -> str:
    return (
        f"Triton is ready after {server.start_s:.1f} s: gRPC {server.grpc_url}, HTTP {server.http_url}, "
        f"metrics {server.metrics_url}, process {server.pid}; Ctrl-C stops it"
    )


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
    option("--free-ports", action="store_true", help="choose three unused ports instead; a port of 0 does so for one")
    option("--cache-size", type=int, default=DEFAULTS.cache_size_bytes, metavar="BYTES", help="response cache; 0: none")
    option("--model-control", choices=("none", "explicit", "poll"), default="none", help="Triton's control mode")
    option("--strict", action="store_true", help="refuse a config.pbtxt that leaves something out")
    option("--start-timeout", type=float, default=DEFAULTS.start_timeout_s, metavar="S", help="seconds to get ready")
    option(
        "--stop-timeout",
        type=float,
        default=DEFAULTS.stop_timeout_s,
        metavar="S",
        help="seconds to finish requests; 0: kill at once",
    )
    option("--log-file", type=Path, metavar="FILE", help="keep Triton's log here")
    option("--verbose", action="store_true", help="show Triton's log on stderr")
    option("triton", nargs="*", metavar="-- FLAG", help="further flags for tritonserver, after --")
    given = parser.parse_args(arguments)
    return ServerSettings(
        repository=given.repository,
        host=given.host,
        grpc_port=0 if given.free_ports else given.grpc_port,
        http_port=0 if given.free_ports else given.http_port,
        metrics_port=0 if given.free_ports else given.metrics_port,
        cache_size_bytes=given.cache_size,
        model_control=given.model_control,
        strict=given.strict,
        start_timeout_s=given.start_timeout,
        stop_timeout_s=given.stop_timeout,
        log_file=given.log_file,
        verbose=given.verbose,
        extra_args=tuple(given.triton),
    )


if __name__ == "__main__":
    sys.exit(main())
