"""Write a release's golden set as HTTP requests, which the container's startup probe sends with nothing but curl.

    python -m deploy.container.golden_requests [MODEL_REPOSITORY]

They go to tag_recommender/V/probe of the pinned release V: `I-J-T.request` is input I, its JSON J bytes long, and T the
index of the tag that release V found best. Run it after `python -m export release`, before the folder is copied to where
the cluster reads it.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from altreco_client import contract
from numpy.typing import NDArray

from export.errors import ExportError, GoldenSetError
from export.gates import SERVED
from export.golden import GoldenSet
from export.repository import load_release

FOLDER = "probe"


def write_requests(repository: Path) -> Path:
    """Write the pinned release's requests, and return their folder; raises ExportError."""
    manifest, golden = load_release(repository)
    clear = _clear_inputs(golden, manifest.gate(SERVED).allowed)
    if not clear:
        raise GoldenSetError(
            f"release {manifest.version}: no input of the golden set has a best tag that a served answer could not take "
            "from it within what the release's gate allows: a probe of it would tell nothing; release with other pictures"
        )
    folder = repository / contract.TAG_RECOMMENDER.name / str(manifest.version) / FOLDER
    beside = folder.with_name(f".{FOLDER}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for i in clear:
        head, tensors = _request(golden.inputs.image[i : i + 1], golden.inputs.history[i : i + 1])
        best = int(golden.tags[i].argmax())
        (beside / f"{i:02}-{len(head)}-{best}.request").write_bytes(head + tensors)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def _clear_inputs(golden: GoldenSet, allowed: float) -> list[int]:
    """Those whose best tag stays the best when every probability is off by `allowed`."""
    second, first = np.sort(golden.tags, axis=1)[:, -2:].T
    return np.flatnonzero(first - second > 2 * allowed).tolist()


def _request(image: NDArray[np.uint8], history: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """JSON and tensors of Triton's binary data extension; the answer is one `score:index:label`."""
    tensors = {contract.IMAGE: image, contract.USER_HISTORY: history}
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
        "outputs": [{"name": contract.TAGS.name, "parameters": {"classification": 1}}],
    }
    return json.dumps(head).encode(), b"".join(array.tobytes() for array in tensors.values())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.container.golden_requests", description=__doc__)
    parser.add_argument("repository", type=Path, nargs="?", default=Path("model_repository"), metavar="MODEL_REPOSITORY")
    try:
        folder = write_requests(parser.parse_args(arguments).repository)
    except (ExportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(list(folder.iterdir()))} requests in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
