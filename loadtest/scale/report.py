"""The calculation as Markdown: replicas for each rate, network traffic, and the assumptions about a replica."""

from dataclasses import replace
from pathlib import Path

from loadtest.scale.sizing import (
    CACHED_BYTES,
    ENCODING_BYTES,
    NIC_SHARE,
    PICTURE_BYTES,
    UNFOLDED_BYTES,
    Demand,
    Machine,
    gbit_per_s,
    plan,
    rest_share,
)
from measure.kept import write_below
from measure.markdown import number, table

HIT_RATES = (0.0, 0.9)
PHOTO_MB, PREPARE_MS = 2.2, 23.0
"""Size of an unprepared photo, and CPU time to prepare it (docs/benchmarks.md)."""


def replicas_section(machines: tuple[Machine, ...], demand: Demand) -> list[str]:
    """Render the number of replicas for one rate."""
    rows = []
    for machine in machines:
        plans = [plan(machine, replace(demand, cached_pictures=0), hashed=False)]
        plans += [plan(machine, demand, hashed=hashed) for hashed in (False, True)]
        rows.append([machine.name, *(f"{made.replicas:,}" for made in plans), plans[-1].limit])
    heads = ["replicas", "no cache", "random routing", "hashed by picture", "limit"]
    return [f"## {number(demand.per_second)} recommendations per second", "", *table(heads, rows), ""]


def network_section(demands: list[Demand]) -> list[str]:
    """Render the network traffic for each rate, and the CPU time to prepare photos."""
    size = demands[0].request_bytes
    sizes = {
        "prepared picture": size,
        f"photo of {PHOTO_MB:g} MB": size - PICTURE_BYTES + PHOTO_MB * 1e6,
        "encoder tier, there and back": PICTURE_BYTES + ENCODING_BYTES,
        "the same without the fold": PICTURE_BYTES + UNFOLDED_BYTES,
    }
    heads = ["message", "bytes", *(f"Gbit/s for {number(demand.per_second)}" for demand in demands)]
    rows = [
        [name, f"{of:,.0f}", *(number(gbit_per_s(demand.per_second, of)) for demand in demands)]
        for name, of in sizes.items()
    ]
    cores = " and ".join(number(demand.per_second * PREPARE_MS / 1000) for demand in demands)
    return ["## Network", "", *table(heads, rows), "", f"Preparing every photo takes {cores} cores.", ""]


def machines_section(machines: tuple[Machine, ...], demand: Demand) -> list[str]:
    """Render the assumptions about a replica, and the time that a separate encoder tier would free."""
    heads = ["replica", "new/s", "repeat/s", "held to", *(f"rest at {hits:g}" for hits in HIT_RATES)]
    rows = [
        [machine.name, number(machine.new_per_s), number(machine.repeat_per_s), _held_to(machine)]
        + [f"{rest_share(machine, hits):.0%}" for hits in HIT_RATES]
        for machine in machines
    ]
    size, count = number(demand.cached_pictures * CACHED_BYTES / 2**20), number(demand.cached_pictures)
    told = (
        "New and repeat pictures per second. Rest: share of the time outside the visual encoder at a hit rate. "
        f"The cache is {size} MiB, {count} encodings. Tensors fill at most {NIC_SHARE:.0%} of a network card."
    )
    return ["## One replica", "", *table(heads, rows), "", told, ""]


def write_report(folder: Path, lines: list[str]) -> Path:
    """Write the lines into `scale.md`, below the part written by hand."""
    return write_below(folder / "scale.md", "Scale on paper", "python -m loadtest.scale", lines)


def _held_to(machine: Machine) -> str:
    return f"{machine.utilisation:.0%}" if machine.utilisation else f"p99 {machine.p99_ms:g} ms"
