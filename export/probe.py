"""Write a release's golden set as HTTP requests, which the container's startup probe sends with curl.

    python -m export probe [MODEL_REPOSITORY]

The files are in tag_recommender/V/probe of the pinned release V:

    I-J.request    input I; its JSON is J bytes long
    I-J.tags       the answer of release V, one probability per line
    allowed        the largest accepted difference of a probability

Run it after `python -m export release`, before the repository is copied to the cluster's storage.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray

from export.checks import check_pinned
from export.errors import ExportError, ReleaseError
from export.gates import allowed_of
from export.golden import GoldenSet
from export.repository import load_release
from export.tree import PROBE_FOLDER, check_tree
from export.untrusted import read_file

ALLOWED_FILE = "allowed"


def write_requests(repository: Path, *, allowed: float | None = None) -> Path:
    """Write the pinned release's requests and return their folder. Raises ExportError.

    `allowed`: the largest accepted difference of a probability, by default that of the release's gate.
    """
    check_tree(repository)
    manifest, golden = load_release(repository)
    allowed = allowed_of(manifest, allowed)
    check_pinned(repository, manifest)
    try:
        return _write(_folder(repository, golden), golden, allowed)
    except OSError as error:
        raise ExportError(str(error)) from error


def check_requests(repository: Path, golden: GoldenSet, allowed: float) -> None:
    """Raise ReleaseError unless the requests, if there are any, are the golden set's, with at most that tolerance."""
    folder = _folder(repository, golden)
    if not folder.exists():
        return
    expected = dict(_files(golden))
    if {path.name for path in folder.iterdir()} != {*expected, ALLOWED_FILE}:
        raise ReleaseError(f"{folder}: expected the {len(expected)} files that `export probe` writes: run it again")
    for name, content in expected.items():
        if read_file(folder / name, len(content)) != content:
            raise ReleaseError(f"{folder / name} is not of release {golden.version}'s golden set: run `export probe`")
    found = read_file(folder / ALLOWED_FILE, 100).decode(errors="replace").strip()
    if not re.fullmatch(r"[0-9.]+(e-[0-9]+)?", found) or float(found) > allowed:
        raise ReleaseError(f"{folder / ALLOWED_FILE}: expected at most {allowed:g}, found {found!r}")


def _folder(repository: Path, golden: GoldenSet) -> Path:
    return repository / contract.TAG_RECOMMENDER.name / str(golden.version) / PROBE_FOLDER


def _write(folder: Path, golden: GoldenSet, allowed: float) -> Path:
    beside = folder.with_name(f".{PROBE_FOLDER}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, content in _files(golden):
        (beside / name).write_bytes(content)
    (beside / ALLOWED_FILE).write_text(f"{allowed}\n")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def _files(golden: GoldenSet) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the requests and their answers."""
    for i, tags in enumerate(golden.tags):
        head, tensors = _request(golden.inputs.image[i : i + 1], golden.inputs.counts[i : i + 1])
        name = f"{i:02}-{len(head)}"
        yield f"{name}.request", head + tensors
        yield f"{name}.tags", "".join(f"{tag:.9f}\n" for tag in tags).encode()


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
