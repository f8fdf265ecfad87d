"""How many replicas a rate takes: compute under a p99, network, and the cache's share of the work."""

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
"""What would pass between the models without the folded split: e, fp32."""
CACHED_BYTES = 12_671
"""Of a cache, for a picture: measured, docs/benchmarks.md."""
ENVELOPE_BYTES = 157
"""Of a request's message beside its two tensors, as the client sends it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one replica runs on, and what it holds; see machines.toml. One of `p99_ms` and `utilisation` is given."""

    name: str
    source: str
    new_per_s: float
    repeat_per_s: float
    nic_gbit: float
    p99_ms: float | None = None
    utilisation: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 0 < self.new_per_s < self.repeat_per_s < float("inf"):
            raise ValueError(
                f"new_per_s is {self.new_per_s:g} and repeat_per_s {self.repeat_per_s:g}, "
                "expected both above 0, and more repeat than new pictures a second"
            )
        if not 0 < self.nic_gbit < float("inf"):
            raise ValueError(f"nic_gbit is {self.nic_gbit:g}, expected Gbit/s above 0")
        if (self.p99_ms is None) == (self.utilisation is None):
            raise ValueError("p99_ms and utilisation say the same, expected one of them")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is {self.utilisation:g}, expected a share above 0, at most 1")
        if self.p99_ms is not None and not 1000 / self.new_per_s < self.p99_ms < float("inf"):
            raise ValueError(
                f"p99_ms is {self.p99_ms:g}, expected more than the {1000 / self.new_per_s:.3g} ms of a new picture"
            )

    @property
    def rest_s(self) -> float:
        """Seconds of a request, without the visual encoder."""
        return 1 / self.repeat_per_s

    @property
    def encoder_s(self) -> float:
        """Seconds of the visual encoder, a picture."""
        return 1 / self.new_per_s - self.rest_s


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Those of a file."""

    machines: tuple[Machine, ...]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is asked of all replicas together, and what each of them has."""

    per_second: float
    pictures: Pictures
    cached_pictures: float
    """Encodings that one replica's cache holds."""
    request_bytes: int
    nic_share: float
    """Of a network card, that tensors may fill: headers, bursts and the other direction's acknowledgements are left."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The least replicas for a demand; rates are requests a second of one replica."""

    replicas: int
    hit_rate: float
    utilisation: float
    compute_per_s: float
    network_per_s: float

    @property
    def limit(self) -> str:
        """What a replica runs out of first."""
        return "compute" if self.compute_per_s <= self.network_per_s else "network"


def load_machines(path: Path) -> tuple[Machine, ...]:
    """Read and check; raises LoadtestError."""
    return parse(Machines, read_toml(path, "list of machines"), file=str(path)).machines


def request_bytes(vocabulary: int) -> int:
    """Of a request's message: a picture, and a history of `vocabulary` numbers, fp32."""
    return PICTURE_BYTES + 4 * vocabulary + ENVELOPE_BYTES


def limit_per_s(machine: Machine, hit_rate: float) -> float:
    """Requests a second that keep a replica busy all the time."""
    return 1 / (machine.rest_s + (1 - hit_rate) * machine.encoder_s)


def p99_wait_s(machine: Machine, hit_rate: float, utilisation: float) -> float:
    """Seconds that 1 % of requests wait longer for their turn, one replica as M/G/1: Poisson arrivals, one at a time.

    The mean is Pollaczek's and Khinchine's (Kleinrock: Queueing Systems, volume 1, 1975, chapter 5). Of those that
    wait, which are the share `utilisation`, the time is taken as exponential: exact for M/M/1; for requests that take
    about the same, up to a third too long at low utilisation, and right within a tenth above three quarters.
    """
    new_s, repeat_s = machine.encoder_s + machine.rest_s, machine.rest_s
    mean = (1 - hit_rate) * new_s + hit_rate * repeat_s
    mean_square = (1 - hit_rate) * new_s**2 + hit_rate * repeat_s**2
    waiting = mean_square / (2 * mean * (1 - utilisation))
    return waiting * max(0.0, log(100 * utilisation)) if utilisation else 0.0


def utilisation(machine: Machine, hit_rate: float) -> float:
    """The share of its limit that a replica may be given: the machine's own, or what keeps a new picture's p99."""
    if machine.utilisation is not None:
        return machine.utilisation
    assert machine.p99_ms is not None
    patience_s = machine.p99_ms / 1000 - 1 / machine.new_per_s
    return bisect(lambda share: p99_wait_s(machine, hit_rate, share) <= patience_s, 0.0, 1.0)


def plan(machine: Machine, demand: Demand, *, hashed: bool) -> Plan:
    """By bisection: with requests hashed by picture, all caches are as one, and more replicas find more."""
    few, enough = 0, 1
    while _short(_with(machine, demand, enough, hashed), demand):
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (middle, enough) if _short(_with(machine, demand, middle, hashed), demand) else (few, middle)
    return _with(machine, demand, enough, hashed)


def rest_share(machine: Machine, hit_rate: float) -> float:
    """Of a replica's time that goes into all but the visual encoder: what a tier of its own would free."""
    return machine.rest_s * limit_per_s(machine, hit_rate)


def gbit_per_s(per_second: float, size_bytes: float) -> float:
    """So many of so many bytes."""
    return per_second * size_bytes * 8 / 1e9


def _with(machine: Machine, demand: Demand, replicas: int, hashed: bool) -> Plan:
    hit_rate = expected_hit_rate(demand.pictures, demand.cached_pictures * (replicas if hashed else 1))
    share = utilisation(machine, hit_rate)
    return Plan(
        replicas=replicas,
        hit_rate=hit_rate,
        utilisation=share,
        compute_per_s=share * limit_per_s(machine, hit_rate),
        network_per_s=machine.nic_gbit * 1e9 / 8 * demand.nic_share / demand.request_bytes,
    )


def _short(made: Plan, demand: Demand) -> bool:
    return made.replicas * min(made.compute_per_s, made.network_per_s) < demand.per_second
