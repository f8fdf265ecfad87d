"""The gates of a release: checks that it answers like the checkpoint and tags as well.

PyTorch, ONNX Runtime and the served ensemble are compared on the golden set, and precision@5 on the test pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray

from deploy.access import PLAIN, Access
from deploy.local import ServerError, on_free_ports, serve
from export.errors import ExportError, GateError, ReleaseError
from export.gate import Gate
from export.golden import BATCH_SIZES, GoldenSet, Inputs, Recommender, replay
from export.manifest import ReleaseManifest
from export.served import connected, ensemble_recommender

PYTORCH, SERVED, QUALITY = "PyTorch to ONNX Runtime", "ONNX Runtime to served ensemble", "precision@5 lost"

QUALITY_ALLOWED = 0.005


@dataclass(frozen=True)
class Tolerance:
    """Largest accepted difference of any tag's probability."""

    pytorch: float
    served: float


TOLERANCES = {
    "fp32": Tolerance(1e-4, 1e-4),
    "fp16": Tolerance(2e-2, 2e-2),
    # Rounding moves single scores; only the quality gate tells whether it costs tags. A wrong model differs by more.
    "int8": Tolerance(0.5, 2e-2),
}


def allowed_of(manifest: ReleaseManifest, allowed: float | None = None) -> float:
    """The largest accepted difference of a served release: `allowed`, or else what its manifest says.

    Raises ReleaseError if the manifest allows more than its precision's tolerance, or a gate was not passed.
    """
    tolerance = TOLERANCES[manifest.precision]
    for name, most in ((PYTORCH, tolerance.pytorch), (SERVED, tolerance.served), (QUALITY, QUALITY_ALLOWED)):
        gate = manifest.gate(name)
        if not gate.passed or gate.allowed > most:
            raise ReleaseError(
                f"release {manifest.version}: its manifest says {gate.measured:g} of {gate.allowed:g} for {name!r}, "
                f"expected at most {most:g} in {manifest.precision}: release the checkpoint again"
            )
    return manifest.gate(SERVED).allowed if allowed is None else allowed


def pytorch_gate(pytorch: Recommender, inputs: Inputs, onnx: Recommender, precision: str) -> Gate:
    """Compare the ONNX files with the checkpoint."""
    expected = pytorch(inputs.image, inputs.counts)
    return answers_gate(PYTORCH, inputs, expected, onnx, TOLERANCES[precision].pytorch)


def served_gate(repository: Path, golden: GoldenSet, precision: str) -> Gate:
    """Compare a Triton over the (staged) repository, in strict mode, with ONNX Runtime. Raises ExportError."""
    try:
        with serve(on_free_ports(repository, strict=True, stop_timeout_s=0)) as server:
            return replay_gate(server.grpc_url, golden, TOLERANCES[precision].served)
    except ServerError as error:
        raise ExportError(f"the exported models cannot be served: {error}") from error


def replay_gate(url: str, golden: GoldenSet, allowed: float, access: Access = PLAIN) -> Gate:
    """Compare the server at host:port with the golden set. Raises ServerFailure."""
    with connected(url, access) as client:
        max_batch = client.get_model_config(contract.TAG_RECOMMENDER.name).config.max_batch_size
        recommend = ensemble_recommender(client, golden.version)
        return answers_gate(SERVED, golden.inputs, golden.tags, recommend, allowed, max_batch=max_batch)


def answers_gate(
    name: str,
    inputs: Inputs,
    expected: NDArray[np.float32],
    recommend: Recommender,
    allowed: float,
    *,
    max_batch: int = max(BATCH_SIZES),
) -> Gate:
    """Compare answers with `expected` [G, N] by the largest difference."""
    difference = replay(inputs, expected, recommend, max_batch=max_batch)
    return Gate(name=name, measured=difference.value, allowed=allowed, worst=difference.where)


def quality_gate(checkpoint: float, release: float, pictures: int) -> Gate:
    """Compare precision@5 of the ONNX files with the checkpoint's."""
    return Gate(
        name=QUALITY,
        measured=max(0.0, checkpoint - release),
        allowed=QUALITY_ALLOWED,
        worst=f"{checkpoint:.3f} to {release:.3f} on {pictures} test pictures",
    )


def require(gates: Sequence[Gate]) -> None:
    """Raise GateError unless all gates passed. The message says which failed, by how much and on which input."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        reasons = "; ".join(
            f"{gate.name}: {gate.measured:.2g}, at most {gate.allowed:g} is allowed ({gate.worst})" for gate in failed
        )
        raise GateError(f"refused: {reasons}", tuple(gates))
