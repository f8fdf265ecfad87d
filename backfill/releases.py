"""Which visual encoder a release has: kept encodings are of one, and of no use to another."""

import json
import re

from altreco_client import contract

from backfill.errors import InputError
from backfill.storage import Place

MANIFEST_FILE, MODEL_FILE = "release.json", "model.onnx"
DIGEST = re.compile(r"[0-9a-f]{64}")


class VisualEncoders:
    """The SHA-256 of each release's visual encoder, from the release's record in the model repository."""

    def __init__(self, repository: Place) -> None:
        """Read nothing yet."""
        self._repository = repository
        self._known: dict[str, str] = {}

    def sha256(self, release: str) -> str:
        """Look a release up; raises InputError without a record of it."""
        if release not in self._known:
            self._known[release] = self._read(release)
        return self._known[release]

    def check(self, release: str, expected: str) -> None:
        """Raise InputError if a release has another visual encoder than the one whose encodings are kept."""
        if (found := self.sha256(release)) != expected:
            raise InputError(
                f"release {release} has the visual encoder {found[:12]}..., the encodings are of {expected[:12]}...: "
                "expected the same one; encode the pictures anew, with `run --encodings` into a new folder"
            )

    def _read(self, release: str) -> str:
        record = self._repository / f"{contract.TAG_RECOMMENDER.name}/{release}/{MANIFEST_FILE}"
        try:
            digest = json.loads(record.read())["files"][f"{contract.VISUAL_ENCODER.name}/{release}/{MODEL_FILE}"]
            if not DIGEST.fullmatch(digest):
                raise ValueError("its hash of the visual encoder is not SHA-256 in hexadecimal")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{record.text}: expected the record of the served release, which says whose encodings are kept: "
                f"name the server's model repository with --repository: {type(error).__name__}: {error}"
            ) from error
        return str(digest)
