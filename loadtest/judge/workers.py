"""Faults of workers on other machines. Each makes the run invalid: the load was not the planned one, or came late."""

from collections.abc import Iterator

from loadtest.judge.slo import BUSY_S, GeneratorLimits
from loadtest.records import RunSettings, Worker
from measure.markdown import number

MEASURED = {
    "began_late_ms": "began {} ms late",
    "pause_ms": "was stopped or hung for {} ms",
    "cpu_share": f"used {{}} of a core over {BUSY_S} s",
    "machine_share": f"ran on a machine with a share of {{}} of busy cores over {BUSY_S} s",
    "round_trip_ms": "answered after {} ms, so its clock is not known well enough",
}
"""What a worker did, by the name of its limit."""


def worker_faults(settings: RunSettings, limits: GeneratorLimits) -> tuple[str, ...]:
    """List what went wrong, each naming its worker; empty for a run of one machine."""
    early = settings.ended_early is not None
    return tuple(
        f"{worker.name} {fault}" for worker in settings.generator.remote for fault in _faults(worker, limits, early)
    )


def _faults(worker: Worker, limits: GeneratorLimits, ended_early: bool) -> Iterator[str]:
    if not worker.ended:
        yield "did not send its last records: it died, or lost its connection"
    if worker.missing_blocks:
        yield f"sent {worker.missing_blocks} blocks of records that did not arrive"
    if worker.planned is not None and worker.recorded != worker.planned and not ended_early:
        yield f"recorded {worker.recorded:,} of its {worker.planned:,} planned requests"
    for name, sentence in MEASURED.items():
        if (measured := getattr(worker, name)) > (limit := getattr(limits, name)):
            yield f"{sentence.format(number(measured))}, expected at most {number(limit)}"
