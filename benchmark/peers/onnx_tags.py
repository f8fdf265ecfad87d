"""The three ONNX models, run in turn in one process. Servers in other environments import this too."""

from pathlib import Path

import numpy as np
import onnxruntime

from benchmark.peers.answers import Answer, best

VERSION = "1"


class OnnxTags:
    """A repository's models on ONNX Runtime. The two small models use one thread, as in the committed configs."""

    def __init__(self, repository: Path, *, threads: int, spin: bool) -> None:
        """Load the models. `threads` are the visual encoder's; with `spin`, waiting threads keep their core."""
        self._encode = _session(repository, "visual_encoder", threads, spin)
        self._prefer = _session(repository, "preference_encoder", 1, spin)
        self._classify = _session(repository, "classifier", 1, spin)
        self._tags = (repository / "classifier" / "tags.txt").read_text(encoding="utf-8").splitlines()
        self.image_dims: list[int] = self._encode.get_inputs()[0].shape[1:]

    def answer(self, images: np.ndarray, counts: np.ndarray) -> list[Answer]:
        """Find the best tags for each of images uint8 [batch, 224, 224, 3] and tag counts float32 [batch, N]."""
        (encoding,) = self._encode.run(None, {"IMAGE": images})
        preference, prior = self._prefer.run(["USER_PREFERENCE", "USER_PRIOR"], {"USER_TAG_COUNTS": counts})
        passed = {"VISUAL_ENCODING": encoding, "USER_PREFERENCE": preference, "USER_PRIOR": prior}
        (scores,) = self._classify.run(None, passed)
        return [best(row, self._tags) for row in scores]


def _session(repository: Path, model: str, threads: int, spin: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    file = repository / model / VERSION / "model.onnx"
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
