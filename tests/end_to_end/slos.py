"""Objectives of load tests on a machine that also runs the server."""

from pathlib import Path

OBJECTIVES = """
[all]
p50_ms = {p50_ms}

[generator]
machine_share = 1.0
"""
SHARED = """
cpu_share = 1.0
late_share = 1.0
pause_ms = 5000.0
began_late_ms = 5000.0
round_trip_ms = 1000.0
"""
"""Other tests may keep a process waiting."""


def write_slos(path: Path, *, p50_ms: float = 30_000.0, shared: bool = True) -> Path:
    path.write_text(OBJECTIVES.format(p50_ms=p50_ms) + SHARED * shared)
    return path
