"""Reckon replicas, network and caches for rates that cannot be measured: `python -m loadtest.scale --help`."""

import argparse
import sys
from pathlib import Path

from altreco_client.cli.pipe import quiet_pipe

from loadtest.errors import LoadtestError
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.scale.hit_rates import draw_hit_rates
from loadtest.scale.report import Photos, hit_rates_section, machines_section, rate_section, tier_section, write_report
from loadtest.scale.sizing import CACHED_BYTES, MACHINES, Demand, load_machines, request_bytes
from measure.pictures import save_png

PICTURE = "scale.png"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 0, or 2 with the reason on stderr."""
    try:
        with quiet_pipe():
            return run(_parser().parse_args(arguments))
    except (LoadtestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Calculate, print and write; 0. Raises LoadtestError."""
    machines, workload = load_machines(given.machines), load_workload(given.workload)
    _check(given)
    photos = Photos(megabytes=given.photo_mb, prepare_ms=given.prepare_ms)
    demands = [
        Demand(
            per_second=per_second,
            pictures=workload.pictures,
            cached_pictures=given.cache_mib * 2**20 / CACHED_BYTES,
            request_bytes=request_bytes(given.vocabulary),
            nic_share=given.nic_share,
        )
        for per_second in given.per_second
    ]
    lines = [line for demand in demands for line in rate_section(machines, demand, photos)]
    lines += [*tier_section(machines), *machines_section(machines, demands[0])]
    lines += hit_rates_section(workload.pictures)
    print("\n".join(lines))
    if given.out is not None:
        save_png(draw_hit_rates(workload.pictures), given.out / PICTURE)
        print(f"wrote {write_report(given.out, lines)} and {PICTURE}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.scale", description=__doc__)
    option = parser.add_argument
    option(
        "--per-second", type=float, nargs="+", default=[1e4, 1e6], metavar="RATE", help="recommendations, one or more"
    )
    option("--machines", type=Path, default=MACHINES, metavar="FILE", help="TOML: what a replica holds (%(default)s)")
    option("--workload", type=Path, default=DEFAULT, metavar="FILE", help="TOML: its pictures count (%(default)s)")
    option("--cache-mib", type=float, default=256, metavar="MIB", help="of one replica (%(default)g)")
    option(
        "--nic-share", type=float, default=0.7, metavar="SHARE", help="of a card that tensors may fill (%(default)g)"
    )
    option("--vocabulary", type=int, default=1540, metavar="TAGS", help="(%(default)s)")
    option("--photo-mb", type=float, default=2.2, metavar="MB", help="of one that is not prepared (%(default)g)")
    option("--prepare-ms", type=float, default=23.0, metavar="MS", help="of a core, to prepare one (%(default)g)")
    option("--out", type=Path, metavar="DIR", help=f"for scale.md and {PICTURE}")
    return parser


def _check(given: argparse.Namespace) -> None:
    """Raises LoadtestError."""
    positive = [("--per-second", rate) for rate in given.per_second]
    for name, value in (*positive, ("--photo-mb", given.photo_mb), ("--prepare-ms", given.prepare_ms)):
        if not 0 < value < float("inf"):
            raise LoadtestError(f"{name} is {value:g}, expected a number above 0")
    if not 0 <= given.cache_mib < float("inf"):
        raise LoadtestError(f"--cache-mib is {given.cache_mib:g}, expected MiB, 0 or more")
    if not 0 < given.nic_share <= 1:
        raise LoadtestError(f"--nic-share is {given.nic_share:g}, expected a share above 0, at most 1")
    if given.vocabulary < 1:
        raise LoadtestError(f"--vocabulary is {given.vocabulary}, expected 1 tag or more")
    if given.out is not None and not given.out.is_dir():
        raise LoadtestError(f"--out is {given.out}, expected a folder that is there")


if __name__ == "__main__":
    sys.exit(main())
