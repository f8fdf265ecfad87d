"""Serve a model repository by a real Triton on this machine: `python -m deploy.local`. Ctrl-C stops it."""

import argparse
import signal
import sys
from pathlib import Path

from deploy.local.errors import ServerStartError
from deploy.local.server import ServerSettings, serve


def main() -> int:
    """Serve until SIGINT or SIGTERM; 0, or 1 with the reason on stderr."""
    arguments = _parser().parse_args()
    # Set outright: a shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with serve(_settings(arguments)) as server:
            print(f"ready: gRPC {server.grpc_url}, HTTP {server.http_url}, metrics {server.metrics_url}", flush=True)
            code = server.process.wait()
            raise ServerStartError(f"Triton ended by itself with exit code {code}")
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except ServerStartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _settings(arguments: argparse.Namespace) -> ServerSettings:
    return ServerSettings(
        repository=arguments.repository,
        host=arguments.host,
        grpc_port=0 if arguments.free_ports else arguments.grpc_port,
        http_port=0 if arguments.free_ports else arguments.http_port,
        metrics_port=0 if arguments.free_ports else arguments.metrics_port,
        cache_bytes=arguments.cache_bytes,
        start_timeout_s=arguments.start_timeout_s,
        strict=not arguments.auto_complete,
        log=arguments.log,
        extra_args=tuple(arguments.extra_args),
    )


def _parser() -> argparse.ArgumentParser:
    defaults = ServerSettings()
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repository", type=Path, default=defaults.repository, help="the Triton model repository")
    parser.add_argument("--host", default=defaults.host, help="the address to bind")
    parser.add_argument("--grpc-port", type=int, default=defaults.grpc_port, help="0: any free port")
    parser.add_argument("--http-port", type=int, default=defaults.http_port, help="0: any free port")
    parser.add_argument("--metrics-port", type=int, default=defaults.metrics_port, help="0: any free port")
    parser.add_argument("--free-ports", action="store_true", help="take any free ports; the ready line names them")
    parser.add_argument("--cache-bytes", type=int, default=defaults.cache_bytes, help="size of the response cache")
    parser.add_argument("--start-timeout-s", type=float, default=defaults.start_timeout_s, help="give up after this")
    parser.add_argument("--auto-complete", action="store_true", help="let Triton complete partial configs")
    parser.add_argument("--log", type=Path, help="write Triton's log to this file")
    parser.add_argument("extra_args", nargs="*", help="more options of tritonserver, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
