"""The most memory that a process has had."""

from pathlib import Path


def peak_mib(pid: int) -> float:
    """The most since its start or `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak(pid: int) -> float:
    """Begin again with what the process has now, and return it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_mib(pid)
