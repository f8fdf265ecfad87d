"""Checks of a release: its files in the repository, and a running server."""

from pathlib import Path

from deploy.access import PLAIN, Access
from export.config import check_config, check_repository, check_variant
from export.errors import GoldenSetError, ServerFailure
from export.gate import Gate
from export.gates import SERVED, answers_gate, replay_gate, require
from export.graph.onnx_files import onnx_recommender
from export.repository import check_files, load_release, model_files
from export.served import connected, served_version

FILES = "ONNX files to golden set"


def verify(
    repository: Path, number: int | None = None, *, allowed: float | None = None, variant: str | None = None
) -> Gate:
    """Check the hashes of a release's files, their fit with the configs, and their answers to the golden set.

    `number` defaults to the pinned release, `allowed` to the release's tolerance. With a `variant` of the configs, also
    check that the release's precision is right for it.

    Raises ReleaseError, GoldenSetError, ConfigError and GateError.
    """
    manifest, golden = load_release(repository, number)
    check_files(repository, manifest)
    files = model_files(repository, manifest.version)
    for model, file in files.items():
        check_config(repository, model, file)
    check_repository(repository)
    if variant:
        check_variant(repository, variant, manifest.precision)
    allowed = manifest.gate(SERVED).allowed if allowed is None else allowed
    gate = answers_gate(FILES, golden.inputs, golden.tags, onnx_recommender(files), allowed)
    require([gate])
    return gate


def verify_served(
    repository: Path, url: str, number: int | None = None, *, allowed: float | None = None, access: Access = PLAIN
) -> Gate:
    """Check that the server at host:port serves this release (default: the pinned one) and answers its golden set.

    Raises ServerFailure, GoldenSetError and GateError.
    """
    manifest, golden = load_release(repository, number)
    with connected(url, access) as client:
        served = served_version(client)
    if served is None:
        raise ServerFailure(f"{url} serves no tag_recommender: is release {manifest.version} loaded?")
    if served != manifest.version:
        raise GoldenSetError(
            f"{url} serves release {served}, the golden set is release {manifest.version}'s: "
            f"roll out, or verify release {served}"
        )
    gate = replay_gate(url, golden, manifest.gate(SERVED).allowed if allowed is None else allowed, access)
    require([gate])
    return gate
