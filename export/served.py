"""The releases and the answers of a running Triton, over gRPC."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.text import printable
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access, advice
from export.errors import ServerFailure
from export.golden import Recommender

DEADLINE_S = 60.0
"""Deadline of one call. Long enough for a release's first answers on a CPU that is busy with the old release."""
NOT_EXPLICIT = "explicit model load / unload is not allowed"
"""Triton's error message in the other control modes."""


@contextmanager
def connected(url: str, access: Access = PLAIN) -> Iterator[triton.InferenceServerClient]:
    """Yield a client for host:port. Errors of Triton and gRPC inside become ServerFailure.

    Raises InvalidRequest if files of `access` cannot be used.
    """
    if "/" in url:
        raise ServerFailure(f"url {url!r}: expected host:port of the gRPC endpoint, such as localhost:8001")
    try:
        with access.connect(url) as client:
            yield client
    except InferenceServerException as error:
        words = printable(str(error.message()))[:1000]
        hint = "is Triton running, is this its gRPC port?" if "UNAVAILABLE" in str(error.status()) else ""
        if NOT_EXPLICIT in words:
            hint = "start it with --model-control-mode=explicit"
        raise ServerFailure(": ".join(filter(None, (url, words, advice(words) or hint)))) from error


def loaded_releases(url: str, access: Access = PLAIN) -> set[int]:
    """List the versions of any model that the server at host:port has loaded. Raises ServerFailure."""
    with connected(url, access) as client:
        models = (*contract.COMPONENTS, contract.TAG_RECOMMENDER)
        return {version for model in models for version in ready_versions(client, model.name)}


def served_version(client: triton.InferenceServerClient) -> int | None:
    """Return the release that answers clients; None if no ensemble is ready."""
    ready = ready_versions(client, contract.TAG_RECOMMENDER.name)
    return max(ready, default=None)


def candidate_version(client: triton.InferenceServerClient) -> int | None:
    """Return the release that is tried beside the served one; None if there is none."""
    try:  # the index leaves it out, because it has no folder in the repository
        metadata = client.get_model_metadata(contract.CANDIDATE.name, client_timeout=DEADLINE_S)
    except InferenceServerException as error:
        if error.status() == "StatusCode.NOT_FOUND":
            return None
        raise
    return max((_release(contract.CANDIDATE.name, version) for version in metadata.versions), default=None)


def ready_versions(client: triton.InferenceServerClient, model: str) -> set[int]:
    """List the loaded versions of a model. Raises ServerFailure if one is no release."""
    index = client.get_model_repository_index(client_timeout=DEADLINE_S).models
    return {_release(model, entry.version) for entry in index if entry.name == model and entry.state == "READY"}


def _release(model: str, version: str) -> int:
    if not (version.isascii() and version.isdigit()):
        raise ServerFailure(f"the server has version {printable(version)[:100]!r} of {model}: expected a number")
    return int(version)


def ensemble_recommender(
    client: triton.InferenceServerClient, version: int, ensemble: contract.Model = contract.TAG_RECOMMENDER
) -> Recommender:
    """Create a recommender that calls an ensemble; it raises ServerFailure if another release answers."""

    def recommend(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        tensors: dict[str, NDArray] = {contract.IMAGE.name: image, contract.USER_TAG_COUNTS.name: counts}
        result = _infer(client, ensemble, tensors, "")
        if result.get_response().model_version != str(version):
            raise ServerFailure(f"release {result.get_response().model_version} answered, expected release {version}")
        return result.as_numpy(contract.TAGS.name)

    return recommend


def component_recommender(client: triton.InferenceServerClient, version: int) -> Recommender:
    """Create a recommender that calls the components of one version in turn, as the ensemble that pins them will."""

    def recommend(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
        tensors: dict[str, NDArray] = {contract.IMAGE.name: image, contract.USER_TAG_COUNTS.name: counts}
        for model in contract.COMPONENTS:
            result = _infer(client, model, tensors, str(version))
            tensors.update({tensor.name: result.as_numpy(tensor.name) for tensor in model.outputs})
        return tensors[contract.TAGS.name]

    return recommend


def infer_input(tensor: contract.Tensor, array: NDArray) -> triton.InferInput:
    """Wrap the array (batch first) as an input of a request."""
    entry = triton.InferInput(tensor.name, array.shape, tensor.dtype)
    entry.set_data_from_numpy(np.ascontiguousarray(array))
    return entry


def _infer(
    client: triton.InferenceServerClient, model: contract.Model, tensors: dict[str, NDArray], version: str
) -> triton.InferResult:
    inputs = [infer_input(tensor, tensors[tensor.name]) for tensor in model.inputs]
    return client.infer(model.name, inputs, model_version=version, client_timeout=DEADLINE_S)
