"""Number of replicas for a rate, from compute under a p99, network and cache hits."""

from dataclasses import dataclass
from math import log, prod
from pathlib import Path

from altreco_client import contract

from loadtest.load.workload import Pictures
from loadtest.parse import parse, read_toml
from loadtest.scale.cache import bisect, expected_hit_rate

MACHINES = Path(__file__).parent / "machines.toml"

PICTURE_BYTES = prod(contract.IMAGE.dims)
ENCODING_BYTES = 4 * prod(contract.ENCODING_SHAPE)
UNFOLDED_BYTES = 4 * 2048 * 7 * 7
"""Bytes between the models without the folded split: the image features e, fp32."""
CACHED_BYTES = 12_671
"""Cache memory of a picture, measured (docs/benchmarks.md)."""
NIC_SHARE = 0.7
"""Share of a network card that tensors may fill; the rest is for headers, acknowledgements and bursts."""
ENVELOPE_BYTES = 157
"""Bytes of a request besides its two tensors."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Machine of one replica and what it handles; see machines.toml. Either `p99_ms` or `utilisation` is given."""

    name: str
    source: str
    new_per_s: float
    repeat_per_s: float
    nic_gbit: float
    p99_ms: float | None = None
    utilisation: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        if not 0 < self.new_per_s < self.repeat_per_s < float("inf"):
            raise ValueError(
                f"new_per_s is {self.new_per_s:g} and repeat_per_s {self.repeat_per_s:g}, "
                "expected both above 0, and more repeat than new pictures per second"
            )
        if not 0 < self.nic_gbit < float("inf"):
            raise ValueError(f"nic_gbit is {self.nic_gbit:g}, expected Gbit/s above 0")
        if (self.p99_ms is None) == (self.utilisation is None):
            raise ValueError("p99_ms and utilisation: expected one of them")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is {self.utilisation:g}, expected a share above 0, at most 1")
        if self.p99_ms is not None and not 1000 / self.new_per_s < self.p99_ms < float("inf"):
            raise ValueError(
                f"p99_ms is {self.p99_ms:g}, expected more than the {1000 / self.new_per_s:.3g} ms of a new picture"
            )

    @property
    def rest_s(self) -> float:
        """Time of a request without the visual encoder."""
        return 1 / self.repeat_per_s

    @property
    def encoder_s(self) -> float:
        """Time of the visual encoder per picture."""
        return 1 / self.new_per_s - self.rest_s


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Machines of a file."""

    machines: tuple[Machine, ...]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Load of all replicas together, and the cache and network of each."""

    per_second: float
    pictures: Pictures
    cached_pictures: float
    """Capacity of one replica's cache, in encodings."""
    request_bytes: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Fewest replicas for a demand; rates are requests per second of one replica."""

    replicas: int
    hit_rate: float
    utilisation: float
    compute_per_s: float
    network_per_s: float

    @property
    def limit(self) -> str:
        """Resource that limits a replica: `compute` or `network`."""
        return "compute" if self.compute_per_s <= self.network_per_s else "network"


def load_machines(path: Path) -> tuple[Machine, ...]:
    """Read and check a list of machines; raises LoadtestError."""
    return parse(Machines, read_toml(path, "list of machines"), file=str(path)).machines


def request_bytes(vocabulary: int) -> int:
    """Compute the bytes of a request: a picture, and a history of `vocabulary` fp32 numbers."""
    return PICTURE_BYTES + 4 * vocabulary + ENVELOPE_BYTES


def limit_per_s(machine: Machine, hit_rate: float) -> float:
    """Compute the requests per second that keep a replica fully busy."""
    return 1 / (machine.rest_s + (1 - hit_rate) * machine.encoder_s)


def p99_wait_s(machine: Machine, hit_rate: float, utilisation: float) -> float:
    """Compute the p99 of the wait in the queue, with one replica as M/G/1: Poisson arrivals, one request at a time.

    The mean is from Pollaczek and Khinchine (Kleinrock: Queueing Systems, volume 1, 1975, chapter 5). The share
    `utilisation` of requests waits, for a time taken as exponential. That is exact for M/M/1. For requests of about
    equal length it is up to a third too long at low utilisation, and right within a tenth above three quarters.
    """
    new_s, repeat_s = machine.encoder_s + machine.rest_s, machine.rest_s
    mean = (1 - hit_rate) * new_s + hit_rate * repeat_s
    mean_square = (1 - hit_rate) * new_s**2 + hit_rate * repeat_s**2
    waiting = mean_square / (2 * mean * (1 - utilisation))
    return waiting * max(0.0, log(100 * utilisation)) if utilisation else 0.0


def utilisation(machine: Machine, hit_rate: float) -> float:
    """Compute the usable share of a replica's limit: the machine's own, or the one that keeps a new picture's p99."""
    if machine.utilisation is not None:
        return machine.utilisation
    assert machine.p99_ms is not None
    patience_s = machine.p99_ms / 1000 - 1 / machine.new_per_s
    return bisect(lambda share: p99_wait_s(machine, hit_rate, share) <= patience_s, 0.0, 1.0)


def plan(machine: Machine, demand: Demand, *, hashed: bool) -> Plan:
    """Find the fewest replicas by bisection. With requests hashed by picture, all caches act as one."""
    few, enough = 0, 1
    while _short(_with(machine, demand, enough, hashed), demand):
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (middle, enough) if _short(_with(machine, demand, middle, hashed), demand) else (few, middle)
    return _with(machine, demand, enough, hashed)


def rest_share(machine: Machine, hit_rate: float) -> float:
    """Compute the share of a replica's time outside the visual encoder, which a separate tier would free."""
    return machine.rest_s * limit_per_s(machine, hit_rate)


def gbit_per_s(per_second: float, size_bytes: float) -> float:
    """Compute the network traffic of messages of one size."""
    return per_second * size_bytes * 8 / 1e9


def _with(machine: Machine, demand: Demand, replicas: int, hashed: bool) -> Plan:
    hit_rate = expected_hit_rate(demand.pictures, demand.cached_pictures * (replicas if hashed else 1))
    share = utilisation(machine, hit_rate)
    return Plan(
        replicas=replicas,
        hit_rate=hit_rate,
        utilisation=share,
        compute_per_s=share * limit_per_s(machine, hit_rate),
        network_per_s=machine.nic_gbit * 1e9 / 8 * NIC_SHARE / demand.request_bytes,
    )


def _short(made: Plan, demand: Demand) -> bool:
    return made.replicas * min(made.compute_per_s, made.network_per_s) < demand.per_second
