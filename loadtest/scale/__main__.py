"""Calculate replicas, network and caches for rates that cannot be measured here."""

import argparse
import sys
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe

from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.scale.hit_rates import draw_hit_rates
from loadtest.scale.report import machines_section, network_section, replicas_section, write_report
from loadtest.scale.sizing import CACHED_BYTES, MACHINES, Demand, load_machines, request_bytes
from measure.pictures import save_png

PICTURE = "scale.png"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 0, or 2 with the reason on stderr."""
    try:
        with quiet_pipe():
            return run(_parser().parse_args(arguments))
    except (LoadtestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Calculate, print and write; return 0. Raises LoadtestError."""
    machines, workload = load_machines(given.machines), load_workload(given.workload)
    _check(given)
    demands = [
        Demand(
            per_second=per_second,
            pictures=workload.pictures,
            cached_pictures=given.cache_mib * 2**20 / CACHED_BYTES,
            request_bytes=request_bytes(given.vocabulary),
        )
        for per_second in given.per_second
    ]
    lines = [line for demand in demands for line in replicas_section(machines, demand)]
    lines += [*network_section(demands), *machines_section(machines, demands[0])]
    print("\n".join(lines))
    if given.out is not None:
        save_png(draw_hit_rates(workload.pictures), given.out / PICTURE)
        print(f"wrote {write_report(given.out, lines)} and {PICTURE}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scale", description=__doc__)
    option = parser.add_argument
    option(
        "--per-second",
        type=float,
        nargs="+",
        default=[1e4, 1e6],
        metavar="RATE",
        help="recommendations per second (10000 1000000)",
    )
    option(
        "--machines", type=Path, default=MACHINES, metavar="FILE", help=f"capacity of a replica, TOML ({MACHINES.name})"
    )
    option(
        "--workload", type=Path, default=DEFAULT, metavar="FILE", help=f"popularity of pictures, TOML ({DEFAULT.name})"
    )
    option("--cache-mib", type=float, default=256, metavar="MIB", help="cache of one replica, MiB (%(default)g)")
    option("--vocabulary", type=int, default=1540, metavar="TAGS", help="number of tags (%(default)s)")
    option("--out", type=Path, metavar="DIR", help=f"existing folder for scale.md and {PICTURE} (default: print only)")
    return parser


def _check(given: argparse.Namespace) -> None:
    """Raise LoadtestError for a value out of range."""
    for rate in given.per_second:
        if not 0 < rate < float("inf"):
            raise LoadtestError(f"--per-second is {rate:g}, expected a number above 0")
    if not 0 <= given.cache_mib < float("inf"):
        raise LoadtestError(f"--cache-mib is {given.cache_mib:g}, expected MiB, 0 or more")
    if given.vocabulary < 1:
        raise LoadtestError(f"--vocabulary is {given.vocabulary}, expected 1 tag or more")
    if given.out is not None and not given.out.is_dir():
        raise LoadtestError(f"--out is {given.out}, expected an existing folder")


if __name__ == "__main__":
    sys.exit(main())
