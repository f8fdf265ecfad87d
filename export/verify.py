"""Checks of a release: its files in the repository, and a running server."""

from pathlib import Path

from deploy.access import PLAIN, Access
from export.checks import check_pinned
from export.config import check_config, check_variant
from export.errors import GoldenSetError, ServerFailure
from export.gate import Gate
from export.gates import allowed_of, answers_gate, replay_gate, require
from export.graph.onnx_files import onnx_recommender
from export.probe import check_requests
from export.repository import load_release, model_files
from export.served import connected, served_version
from export.signature import check_signature
from export.tree import check_tree

FILES = "ONNX files to golden set"


def verify(
    repository: Path,
    number: int | None = None,
    *,
    allowed: float | None = None,
    variant: str | None = None,
    public_key: Path | None = None,
) -> Gate:
    """Check that the repository holds nothing but releases, and one release's files, configs and answers.

    `number` defaults to the pinned release, `allowed` to the release's tolerance. With a `variant` of the configs, also
    check that the release's precision is right for it; with a `public_key`, the repository's signature.

    Raises ReleaseError, SignatureError, GoldenSetError, ConfigError and GateError.
    """
    check_tree(repository)
    if public_key:
        check_signature(repository, public_key)
    manifest, golden = load_release(repository, number)
    allowed = allowed_of(manifest, allowed)
    check_pinned(repository, manifest)
    check_requests(repository, golden, allowed)
    files = model_files(repository, manifest.version)
    for model, file in files.items():
        check_config(repository, model, file)
    if variant:
        check_variant(repository, variant, manifest.precision)
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
    gate = replay_gate(url, golden, allowed_of(manifest, allowed), access)
    require([gate])
    return gate
