"""Conditions of a measurement: machine, versions, git revision, and the server's configs."""

import hashlib
from pathlib import Path
from typing import Any

from altreco_client import contract
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access
from measure.machine import describe_machine, revision, versions

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
"""Fields of a model's config that affect its speed."""
DEADLINE_S = 10.0


def environment() -> dict[str, Any]:
    """Describe the machine that generates the load, the package versions, and the git revision."""
    return {"machine": describe_machine(), "versions": versions(PACKAGES), "git": revision()}


def same_everywhere() -> dict[str, str]:
    """Describe the code that draws and sends requests: with another version, a worker would send other ones."""
    folder = Path(__file__).parents[1]
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.rglob("*.py"))))
    return {"loadtest": code.hexdigest()[:12], **versions(("altreco-client", "locust", "numpy"))}


def server_config(url: str, model: str, access: Access = PLAIN) -> dict[str, Any] | None:
    """Get Triton's version and the TUNED fields of each model; None if the server does not answer."""
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
