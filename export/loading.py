"""Loading and unloading of versions on a running Triton in explicit model control mode."""

import time
from collections.abc import Collection
from pathlib import Path

import tritonclient.grpc as triton
from altreco_client import contract
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from export.config import CONFIG_FILE, read_config
from export.errors import ConfigError, LoadRefused, ReleaseError, ServerFailure
from export.gate import Gate
from export.gates import SERVED, answers_gate, require
from export.golden import GoldenSet, Recommender
from export.repository import model_files
from export.served import DEADLINE_S, ready_versions

POLL_S = 0.02
LOAD_DEADLINE_S = 1800.0
"""Deadline for loading one model: TensorRT builds its engines meanwhile."""


def check_old_release(repository: Path, old: int) -> None:
    """Raise ReleaseError if files of the serving release are gone: Triton would unload it with the next load."""
    for path in model_files(repository, old).values():
        if not path.is_file():
            raise ReleaseError(
                f"release {old} serves, but {path} is gone: loading another release would unload it. Nothing was "
                f"changed; restore the file, or restart the server, which then serves the pinned release"
            )


def check_running(client: triton.InferenceServerClient, repository: Path) -> None:
    """Raise ConfigError if the server's configs differ from the repository's, from which the ensemble's is generated.

    Triton unloads an ensemble that does not fit its components, and that includes the old release's.
    """
    batch = min(read_config(repository, model.name).max_batch_size for model in contract.COMPONENTS)
    for model in contract.COMPONENTS:
        written = read_config(repository, model.name)
        runs = client.get_model_config(model.name, client_timeout=DEADLINE_S).config
        if runs.max_batch_size < batch or _dims(runs) != _dims(written):
            raise ConfigError(
                f"{repository / model.name / CONFIG_FILE}: expected what the server runs with, max_batch_size "
                f"{runs.max_batch_size} and dims {_dims(runs)}, found max_batch_size {written.max_batch_size} and dims "
                f"{_dims(written)}: undo the change, or restart the server before that"
            )


def _dims(config: pb.ModelConfig) -> dict[str, list[int]]:
    return {entry.name: list(entry.dims) for entry in (*config.input, *config.output)}


def load_versions(client: triton.InferenceServerClient, model: str, versions: Collection[int]) -> None:
    """Load exactly these versions of a model. Those that are loaded already keep serving meanwhile.

    The request overrides the version policy: with the repository's `all`, every release would be loaded.
    """
    try:
        if not ready_versions(client, model):
            client.load_model(model, client_timeout=LOAD_DEADLINE_S)
        # The server's config may be a variant (--model-config-name), so it is not read from the repository. `runtime`,
        # which Triton adds after loading, would look like a change and make it load the old release once more.
        config = client.get_model_config(model, client_timeout=DEADLINE_S).config
        config.ClearField("runtime")
        config.version_policy.Clear()
        config.version_policy.specific.versions.extend(sorted(versions))
        text = json_format.MessageToJson(config, preserving_proto_field_name=True)
        client.load_model(model, config=text, client_timeout=LOAD_DEADLINE_S)
    except InferenceServerException as error:
        if error.status() == "StatusCode.INVALID_ARGUMENT":
            raise LoadRefused(f"Triton refused to load it: {reason_of(error)}") from error
        raise
    if missing := set(versions) - ready_versions(client, model):
        raise ServerFailure(
            f"the server finds no version {min(missing)} of {model}: does it read the same repository, with its "
            "latest files?"
        )


def require_golden(
    golden: GoldenSet, client: triton.InferenceServerClient, recommend: Recommender, allowed: float
) -> Gate:
    """Replay the golden set with `recommend`. Raises GateError if an answer differs by more than `allowed`."""
    configs = [client.get_model_config(model.name, client_timeout=DEADLINE_S).config for model in contract.COMPONENTS]
    max_batch = min(config.max_batch_size for config in configs)
    gate = answers_gate(SERVED, golden.inputs, golden.tags, recommend, allowed, max_batch=max_batch)
    require([gate])
    return gate


def wait_until_gone(client: triton.InferenceServerClient, model: str, version: int, deadline: float) -> None:
    """Wait until all other versions of a model than `version` have answered their last request.

    `deadline` is of the monotonic clock. Raises ServerFailure.
    """
    while others := _not_gone(client, model, version):
        if time.monotonic() > deadline:
            raise ServerFailure(f"{model} {others[0]} still has requests in progress")
        time.sleep(POLL_S)


def _not_gone(client: triton.InferenceServerClient, model: str, version: int) -> list[str]:
    index = client.get_model_repository_index(client_timeout=DEADLINE_S).models
    return [
        entry.version
        for entry in index
        if entry.name == model and entry.version != str(version) and entry.state in ("READY", "UNLOADING")
    ]


def reason_of(error: BaseException) -> str:
    """Return the error's message without the Python backend's traceback."""
    text = error.message() if isinstance(error, InferenceServerException) else str(error)
    return text.partition("\n\nAt:")[0].strip()
