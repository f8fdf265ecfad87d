"""The calculation as Markdown: hit rates, and for every rate the replicas, the network and the tiers."""

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from loadtest.scale.cache import Simulated
from loadtest.scale.sizing import (
    CACHED_BYTES,
    ENCODING_BYTES,
    PICTURE_BYTES,
    UNFOLDED_BYTES,
    Demand,
    Machine,
    Plan,
    gbit_per_s,
    plan,
    rest_share,
)
from loadtest.scale.study import Case, busiest_table, study_table, views_table
from loadtest.workload import Pictures
from measure.kept import write_below
from measure.markdown import Table, number, table

NICS_GBIT = (25, 100)
HIT_RATES = (0.0, 0.3, 0.5, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What comes when clients do not prepare their pictures, and what it takes to prepare one, on a core."""

    megabytes: float
    prepare_ms: float


def rate_section(machines: tuple[Machine, ...], demand: Demand, photos: Photos) -> list[str]:
    """Lines for one rate."""
    return [
        f"## {number(demand.per_second)} recommendations a second",
        "",
        *table(*_replicas(machines, demand)),
        "",
        *table(*_network(demand, photos)),
        "",
        "The tier's are as if no picture were cached; less, by the hit rate. Preparing every photo keeps "
        f"{number(demand.per_second * photos.prepare_ms / 1000)} cores busy: the clients', or the service's.",
        "",
    ]


def tier_section(machines: tuple[Machine, ...]) -> list[str]:
    """Lines: what a tier of its own would free."""
    heads = ["hit rate", *(machine.name for machine in machines)]
    lines = [[f"{hits:g}", *(f"{rest_share(machine, hits):.0%}" for machine in machines)] for hits in HIT_RATES]
    told = "Share of a replica's time that is not the visual encoder's, which a tier of its own would free of it:"
    return ["## A tier for the visual encoder", "", told, "", *table(heads, lines), ""]


def machines_section(machines: tuple[Machine, ...], demand: Demand) -> list[str]:
    """Lines: what the rest is reckoned from."""
    heads = ["replica", "new pictures a second", "repeat pictures a second", "held to", "from"]
    lines = [[m.name, number(m.new_per_s), number(m.repeat_per_s), _held_to(m), m.source] for m in machines]
    size = number(demand.cached_pictures * CACHED_BYTES / 2**20)
    return [
        "## Reckoned from",
        "",
        *table(heads, lines),
        "",
        f"A replica's cache is {size} MiB, {number(demand.cached_pictures)} encodings. A request is "
        f"{demand.request_bytes:,} bytes; tensors fill at most {demand.nic_share:.0%} of a network card.",
        "",
    ]


def study_section(study: dict[Case, Simulated], pictures: Pictures, requests: int) -> list[str]:
    """Lines: hit rates."""
    return [
        "## Hit rates",
        "",
        f"Simulated, {requests:,} requests of which half fill the caches; in brackets, by Che's approximation.",
        "",
        *table(*study_table(study, pictures)),
        "",
        "Load of the busiest replica, where 1 is an even share:",
        "",
        *table(*busiest_table(study)),
        "",
        "Pictures that are asked for a few times and never again, in caches that are large enough:",
        "",
        *table(*views_table()),
        "",
    ]


def write_report(folder: Path, lines: list[str]) -> Path:
    """Write the lines into `scale.md`, below what is written by hand."""
    return write_below(folder / "scale.md", "Scale on paper", "python -m loadtest.scale", lines)


def _replicas(machines: tuple[Machine, ...], demand: Demand) -> Table:
    heads = [
        "replica",
        "requests spread",
        "hit rate",
        "share of its limit",
        "requests a second each",
        "limited by",
        "replicas",
    ]
    lines = []
    for machine in machines:
        nothing = plan(machine, replace(demand, cached_pictures=0), hashed=False)
        lines.append([machine.name, "no cache", *_cells(nothing)])
        for by_picture, name in ((False, "at random"), (True, "hashed")):
            lines.append([machine.name, name, *_cells(plan(machine, demand, hashed=by_picture))])
    return heads, lines


def _cells(made: Plan) -> list[str]:
    per_s = min(made.compute_per_s, made.network_per_s)
    return [f"{made.hit_rate:.2f}", f"{made.utilisation:.2f}", number(per_s), made.limit, f"{made.replicas:,}"]


def _network(demand: Demand, photos: Photos) -> Table:
    sizes = {
        "a prepared picture and a history": demand.request_bytes,
        f"a photo of {photos.megabytes:g} MB in its place": demand.request_bytes
        - PICTURE_BYTES
        + photos.megabytes * 1e6,
        "to a tier of encoders and back, a new picture, folded": PICTURE_BYTES + ENCODING_BYTES,
        "the same, unfolded": PICTURE_BYTES + UNFOLDED_BYTES,
    }
    heads = ["what crosses the network", "bytes", "Gbit/s", *(f"cards of {nic} Gbit/s" for nic in NICS_GBIT)]
    lines = []
    for what, size in sizes.items():
        total = gbit_per_s(demand.per_second, size)
        cards = [f"{ceil(total / (nic * demand.nic_share)):,}" for nic in NICS_GBIT]
        lines.append([what, f"{size:,.0f}", number(total), *cards])
    return heads, lines


def _held_to(machine: Machine) -> str:
    return f"{machine.utilisation:.0%}" if machine.utilisation else f"p99 {machine.p99_ms:g} ms"
