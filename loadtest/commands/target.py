"""Against what a command sends its load: a server that runs, or Triton over a repository, started for the command."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from altreco_client import InvalidRequest, contract

from deploy.access import PLAIN, Access, access_of, add_access_options
from deploy.local import ServerError, on_free_ports, serve
from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT
from loadtest.run.one import Target


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """What every command has that makes a load: the server, the workload, the generators."""
    option = parser.add_argument_group("the load").add_argument
    option("--url", help="gRPC of a server that runs: host:port, or several as ipv4:H:P,H:P (default: starts Triton)")
    option(
        "--metrics-url",
        action="append",
        default=[],
        metavar="URL",
        help="its metrics, such as http://localhost:8002/metrics; again for each replica",
    )
    option("--repository", type=Path, default=Path("model_repository"), help="served without --url (%(default)s)")
    option("--model", default=contract.TAG_RECOMMENDER.name, help="the ensemble (%(default)s)")
    option("--workload", type=Path, default=DEFAULT, metavar="FILE", help=f"what is asked for ({DEFAULT.name})")
    option("--workers", type=int, default=1, metavar="N", help="processes that ask (%(default)s)")
    option("--no-calibration", action="store_true", help="do not measure what the generators can send at most")
    add_access_options(parser)


@contextmanager
def target_of(arguments: argparse.Namespace) -> Iterator[Target]:
    """The server of `add_load_options`; raises LoadtestError."""
    if arguments.workers < 1:
        raise LoadtestError(f"--workers is {arguments.workers}, expected 1 or more")
    access = _access(arguments)
    if arguments.url is not None:
        yield Target(url=arguments.url, access=access, metrics_urls=arguments.metrics_url, model=arguments.model)
        return
    if arguments.metrics_url:
        raise LoadtestError("--metrics-url is of a server that runs: give its --url too")
    if access != PLAIN:
        raise LoadtestError("TLS, headers and keys are of a server that runs: give its --url too")
    repository: Path = arguments.repository
    if not any(repository.glob(f"{contract.VISUAL_ENCODER.name}/*/model.onnx")):
        raise LoadtestError(
            f"{repository} has no release to serve: `make demo` makes one; or give the --url of a server"
        )
    try:
        with serve(on_free_ports(repository, stop_timeout_s=2)) as server:
            yield Target(url=server.grpc_url, metrics_urls=[server.metrics_url], pid=server.pid, model=arguments.model)
    except ServerError as error:
        raise LoadtestError(str(error)) from error


def _access(arguments: argparse.Namespace) -> Access:
    try:
        return access_of(arguments)
    except InvalidRequest as error:
        raise LoadtestError(str(error)) from error
