"""What figures depend on: the machine, the versions, this repository's revision, and how the server is set."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from altreco_client import contract
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access

PACKAGES = ("locust", "gevent", "grpcio", "tritonclient", "altreco-client", "numpy", "pillow")
TUNED = (
    "max_batch_size",
    "dynamic_batching",
    "instance_group",
    "response_cache",
    "parameters",
    "optimization",
    "backend",
)
"""Fields of a model's config that change how fast it is."""
DEADLINE_S = 10.0


def environment() -> dict[str, Any]:
    """Of the machine that generates the load."""
    found = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"machine": _machine(), "versions": {"python": platform.python_version(), **found}, "git": _revision()}


def server_config(url: str, model: str, access: Access = PLAIN) -> dict[str, Any] | None:
    """Triton's version, and what is tuned in the ensemble and its models; None where the server does not say."""
    try:
        with access.connect(url) as client:
            version = client.get_server_metadata(client_timeout=DEADLINE_S).version
            names = [model, *(component.name for component in contract.COMPONENTS)]
            models = {
                name: client.get_model_config(name, as_json=True, client_timeout=DEADLINE_S)["config"] for name in names
            }
    except InferenceServerException:
        return None
    tuned = {name: {key: config[key] for key in TUNED if key in config} for name, config in models.items()}
    return {"triton": version, "models": tuned}


def _machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    name = model[1] if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, {memory:.0f} GiB of memory"


def _revision() -> str | None:
    """Commit, and whether files differ from it; None outside git."""
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
