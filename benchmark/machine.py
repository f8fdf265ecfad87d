"""What figures depend on: the machine and the versions, in words."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnx", "torch", "tritonclient", "numpy", "pillow")
EXTENSIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI"} | {
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
}
"""Flag of Linux's cpuinfo to name; what matters to matrix products, in fp32 and in int8."""


def describe_machine() -> str:
    """Cores, processor, its extensions, memory."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    extensions = [name for flag, name in EXTENSIONS.items() if flag in present]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    name = model[1] if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name} ({', '.join(extensions)}), {memory:.0f} GiB of memory"


def versions() -> dict[str, str]:
    """Of Python and the packages."""
    found = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}
