"""Write a release's golden set as HTTP requests, which the container's startup probe sends with curl.

    python -m export probe [MODEL_REPOSITORY]

The files are in tag_recommender/V/probe of the pinned release V:

    I-J.request    input I; its JSON is J bytes long
    I-J.tags       the answer of release V, one probability per line
    allowed        the largest accepted difference of a probability

Run it after `python -m export release`, before the repository is copied to the cluster's storage.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray

from export.errors import ExportError
from export.gates import SERVED
from export.repository import load_release

FOLDER = "probe"


def write_requests(repository: Path, *, allowed: float | None = None) -> Path:
    """Write the pinned release's requests and return their folder. Raises ExportError.

    `allowed`: the largest accepted difference of a probability, by default that of the release's gate.
    """
    try:
        return _write(repository, allowed)
    except OSError as error:
        raise ExportError(str(error)) from error


def _write(repository: Path, allowed: float | None) -> Path:
    manifest, golden = load_release(repository)
    folder = repository / contract.TAG_RECOMMENDER.name / str(manifest.version) / FOLDER
    beside = folder.with_name(f".{FOLDER}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for i, tags in enumerate(golden.tags):
        head, tensors = _request(golden.inputs.image[i : i + 1], golden.inputs.counts[i : i + 1])
        name = f"{i:02}-{len(head)}"
        (beside / f"{name}.request").write_bytes(head + tensors)
        (beside / f"{name}.tags").write_text("".join(f"{tag:.9f}\n" for tag in tags))
    (beside / "allowed").write_text(f"{manifest.gate(SERVED).allowed if allowed is None else allowed}\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def _request(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """JSON and tensors of a request in Triton's binary data extension; its answer is plain JSON."""
    tensors: dict[contract.Tensor, NDArray] = {contract.IMAGE: image, contract.USER_TAG_COUNTS: counts}
    head = {
        "inputs": [
            {
                "name": tensor.name,
                "shape": array.shape,
                "datatype": tensor.dtype,
                "parameters": {"binary_data_size": array.nbytes},
            }
            for tensor, array in tensors.items()
        ],
        "outputs": [{"name": contract.TAGS.name}],
    }
    return json.dumps(head).encode(), b"".join(array.tobytes() for array in tensors.values())
