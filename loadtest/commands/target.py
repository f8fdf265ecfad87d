"""The server under test: a running one, or a Triton started for this command."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from altreco_client import InvalidRequest, contract

from deploy.access import PLAIN, Access, access_of, add_access_options
from deploy.local import ServerError, on_free_ports, serve
from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, Workload
from loadtest.run.limit import CALIBRATION_S, measure_limit
from loadtest.run.one import Target, vocabulary_size


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that sends load: server, workload, generators."""
    option = parser.add_argument_group("the load").add_argument
    option("--url", help="gRPC of a running server, host:port, or several as ipv4:H:P,H:P (default: starts one)")
    metrics = "metrics of that server, such as http://localhost:8002/metrics; repeat for each replica"
    option("--metrics-url", action="append", default=[], metavar="URL", help=metrics)
    option("--repository", type=Path, default=Path("model_repository"), help="to serve without a --url (%(default)s)")
    option("--model", default=contract.TAG_RECOMMENDER.name, help="name of the ensemble (%(default)s)")
    option("--workload", type=Path, default=DEFAULT, metavar="FILE", help=f"requests to send, TOML ({DEFAULT.name})")
    option("--workers", type=int, default=1, metavar="N", help="processes that send the load (%(default)s)")
    option("--no-calibration", action="store_true", help="do not measure the highest rate that the generator can send")
    add_access_options(parser)


def host_and_port(text: str) -> str:
    """Check the value of an option, HOST:PORT; raises ArgumentTypeError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 10.0.0.1:5557")
    return text


@contextmanager
def target_of(arguments: argparse.Namespace) -> Iterator[Target]:
    """Give the server that the options name, started if there is no --url; raises LoadtestError."""
    if arguments.workers < 1:
        raise LoadtestError(f"--workers is {arguments.workers}, expected 1 or more")
    access = _access(arguments)
    if arguments.url is not None:
        yield Target(url=arguments.url, access=access, metrics_urls=arguments.metrics_url, model=arguments.model)
        return
    if arguments.metrics_url:
        raise LoadtestError("--metrics-url is for a running server: give its --url too")
    if access != PLAIN:
        raise LoadtestError("TLS, headers and keys are for a running server: give its --url too")
    repository: Path = arguments.repository
    if not any(repository.glob(f"{contract.VISUAL_ENCODER.name}/*/model.onnx")):
        raise LoadtestError(
            f"{repository} has no release to serve: make one with `make demo` (model_repository) or "
            "`make build/full_size`, or give the --url of a running server"
        )
    _say(f"starting Triton over {repository}")
    try:
        with serve(on_free_ports(repository, stop_timeout_s=2)) as server:
            yield Target(url=server.grpc_url, metrics_urls=[server.metrics_url], pid=server.pid, model=arguments.model)
    except ServerError as error:
        raise LoadtestError(str(error)) from error


def generator_limit(arguments: argparse.Namespace, target: Target, workload: Workload) -> float | None:
    """Measure the generator's highest rate, requests per second; None with `--no-calibration`.

    Raises LoadtestError if the server does not answer.
    """
    tags = vocabulary_size(target)
    if arguments.no_calibration:
        return None
    _say(f"measuring the highest rate that the generator can send: payloads, then {CALIBRATION_S:g} s of load")
    return measure_limit(workload, tags=tags, workers=arguments.workers)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _access(arguments: argparse.Namespace) -> Access:
    try:
        return access_of(arguments)
    except InvalidRequest as error:
        raise LoadtestError(str(error)) from error
