"""The machine, package versions and git revision that a figure depends on."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

EXTENSIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI"} | {
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
}
"""Name of each flag in Linux's cpuinfo, for the extensions that speed up matrix products in fp32 and int8."""


def describe_machine() -> str:
    """Describe cores, processor, its extensions and memory."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    extensions = ", ".join(name for flag, name in EXTENSIONS.items() if flag in present)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    name = f"{model[1] if model else platform.machine()}{f' ({extensions})' if extensions else ''}"
    return f"{len(os.sched_getaffinity(0))} cores of {name}, {memory:.0f} GiB of memory"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Look up the versions of Python and of the packages."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}


def revision() -> str | None:
    """Return the commit, and whether files differ from it; None outside git."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}, with changes" if changes else commit
