"""Switch a running Triton to another release under load. No request fails, and none is answered by both releases.

The server runs in explicit model control mode and reads the same repository. Until the new release has answered its
golden set, any error leaves the old release serving and pinned.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.checks import checked_seconds
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access
from export.checks import check_release
from export.config import CONFIG_FILE, read_config, released_version
from export.errors import ConfigError, ExportError, GateError, LoadRefused, ReleaseError, ServerFailure
from export.gate import Gate
from export.gates import SERVED, allowed_of, answers_gate, require
from export.golden import GoldenSet, Recommender
from export.repository import find_version, load_release, locked, model_files, pin, restore, withdraw
from export.served import (
    DEADLINE_S,
    component_recommender,
    connected,
    ensemble_recommender,
    ready_versions,
    served_version,
)

POLL_S = 0.02
LOAD_DEADLINE_S = 1800.0
"""Deadline for loading one model: TensorRT builds its engines meanwhile."""
NOT_EXPLICIT = "explicit model load / unload is not allowed"
"""Triton's error message in the other control modes."""
ENSEMBLE = contract.TAG_RECOMMENDER.name


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The result of a rollout. `old` is None if nothing was served, and equals `version` if there was nothing to do."""

    url: str
    old: int | None
    version: int
    gate: Gate
    seconds: float

    def __str__(self) -> str:
        """Format the result for the terminal."""
        before = "nothing" if self.old is None else f"release {self.old}"
        done = f"{self.url}: {before} -> release {self.version}, {self.seconds:.1f} s"
        return (
            f"{self.gate}\n{done if self.old != self.version else f'{self.url} serves release {self.version} already'}"
        )


def rollout(
    url: str,
    repository: Path,
    *,
    to: int | None = None,
    allowed: float | None = None,
    drain_timeout_s: float = 60.0,
    access: Access = PLAIN,
    say: Callable[[str], None] = print,
) -> Rollout:
    """Switch the server at host:port to the pinned release, or pin `to` and switch to that.

    `allowed` defaults to the release's tolerance. Raises GateError, ServerFailure, ReleaseError, ConfigError,
    GoldenSetError and RepositoryBusy. Then the old release goes on serving, unless the message says otherwise.
    InvalidRequest: `drain_timeout_s` is not a number of seconds.
    """
    drain_timeout_s = checked_seconds("drain_timeout_s", drain_timeout_s, zero=True)
    with locked(repository), connected(url, access) as client:
        started = time.monotonic()
        manifest, golden = load_release(repository, to)
        version, old = manifest.version, served_version(client)
        if old is not None:
            _check_old_release(repository, old)
        allowed = allowed_of(manifest, allowed)
        with _old_release_kept(client, repository, old, version):
            restore(repository, version)
            check_release(repository, manifest)
            keep = {version} if old is None else {old, version}
            for model in contract.COMPONENTS:
                say(f"load {model.name}, releases {', '.join(map(str, sorted(keep)))}")
                _load_versions(client, model.name, keep)
            say("golden set on the new models")
            _require(golden, client, component_recommender(client, version), allowed)
            _check_running(client, repository)
            say(f"switch to release {version}")
            pin(repository, version)
            client.load_model(ENSEMBLE, client_timeout=LOAD_DEADLINE_S)
            say("golden set on the ensemble")
            gate = _require(golden, client, ensemble_recommender(client, version), allowed)
        say("wait for the old release's last request")
        _retire_others(client, version, drain_timeout_s)
    return Rollout(url=url, old=old, version=version, gate=gate, seconds=time.monotonic() - started)


def _check_old_release(repository: Path, old: int) -> None:
    """Raise ReleaseError if files of the serving release are gone: Triton would unload it with the next load."""
    for path in model_files(repository, old).values():
        if not path.is_file():
            raise ReleaseError(
                f"release {old} serves, but {path} is gone: loading another release would unload it. Nothing was "
                f"changed; restore the file, or restart the server, which then serves the pinned release"
            )


def _check_running(client: triton.InferenceServerClient, repository: Path) -> None:
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
                f"{_dims(written)}: undo the change, or restart the server before the rollout"
            )


def _dims(config: pb.ModelConfig) -> dict[str, list[int]]:
    return {entry.name: list(entry.dims) for entry in (*config.input, *config.output)}


@contextmanager
def _old_release_kept(
    client: triton.InferenceServerClient, repository: Path, old: int | None, version: int
) -> Iterator[None]:
    """On any error inside, make the server serve the old release and pin it again."""
    withdrawn = find_version(repository, version).state == "withdrawn"
    try:
        yield
    except BaseException as error:
        if isinstance(error, InferenceServerException) and NOT_EXPLICIT in error.message():
            raise ServerFailure(
                "the server refuses to load models: start it with --model-control-mode=explicit. Nothing was changed; "
                "after a restart in any mode, it serves the pinned release"
            ) from error
        if old is None or old == version:
            raise
        unpinned, gone = _pin_again(repository, old, version), _go_back(client, old)
        # An older release has been loaded before, so its files are not the cause.
        if withdrawn or (isinstance(error, LoadRefused) and version > old):
            withdraw(repository, version)
        message = _refusal(error, version, old, unpinned=unpinned, gone=gone)
        if isinstance(error, GateError):
            raise GateError(message, error.gates) from error
        if isinstance(error, InferenceServerException) or gone is not None:
            raise ServerFailure(message) from error
        if isinstance(error, ExportError | OSError):
            raise (type(error) if isinstance(error, ExportError) else ExportError)(message) from error
        raise


def _pin_again(repository: Path, old: int, version: int) -> str | None:
    """Pin the old release, before anything needs the server. Returns the error, if there was one."""
    try:
        if released_version(repository) == version:
            pin(repository, old)
    except (ExportError, OSError) as error:
        return str(error)
    return None


def _go_back(client: triton.InferenceServerClient, old: int) -> str | None:
    """Load the old release on the server again. Returns the error, if there was one."""
    try:
        if served_version(client) != old:
            client.load_model(ENSEMBLE, client_timeout=LOAD_DEADLINE_S)
        for model in contract.COMPONENTS:
            _load_versions(client, model.name, {old})
    except (InferenceServerException, ServerFailure) as error:
        return _reason(error)
    return None


def _refusal(error: BaseException, version: int, old: int, *, unpinned: str | None, gone: str | None) -> str:
    refused = f"release {version} was not rolled out"
    if unpinned is not None:
        return (
            f"{refused}: {_reason(error)}. Release {old} could not be pinned again ({unpinned}): "
            f"run `.venv/bin/python -m export rollback --to {old}` before the server restarts"
        )
    if gone is not None:
        return (
            f"{refused}: {_reason(error)}. The server could not be switched back ({gone}); "
            f"release {old} is pinned again, restart the server"
        )
    return f"{refused}, release {old} goes on serving and is pinned: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """Return the error's message without the Python backend's traceback."""
    text = error.message() if isinstance(error, InferenceServerException) else str(error)
    return text.partition("\n\nAt:")[0].strip()


def _load_versions(client: triton.InferenceServerClient, model: str, versions: Collection[int]) -> None:
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
            raise LoadRefused(f"Triton refused to load it: {_reason(error)}") from error
        raise
    if missing := set(versions) - ready_versions(client, model):
        raise ServerFailure(
            f"the server finds no version {min(missing)} of {model}: does it read the same repository, with its "
            "latest files?"
        )


def _require(golden: GoldenSet, client: triton.InferenceServerClient, recommend: Recommender, allowed: float) -> Gate:
    configs = [client.get_model_config(model.name, client_timeout=DEADLINE_S).config for model in contract.COMPONENTS]
    max_batch = min(config.max_batch_size for config in configs)
    gate = answers_gate(SERVED, golden.inputs, golden.tags, recommend, allowed, max_batch=max_batch)
    require([gate])
    return gate


def _retire_others(client: triton.InferenceServerClient, version: int, timeout_s: float) -> None:
    """Unload all other versions once their ensembles have no request in progress, and wait until they are gone.

    A request holds the models of all its steps from its start, so Triton keeps an unloaded model until the last such
    request is answered. This includes requests of an ensemble that was loaded again since, which no index shows.
    """
    deadline = time.monotonic() + timeout_s
    try:
        _wait_until_gone(client, ENSEMBLE, version, deadline)
        for model in contract.COMPONENTS:
            _load_versions(client, model.name, {version})
        for model in contract.COMPONENTS:
            _wait_until_gone(client, model.name, version, deadline)
    except (InferenceServerException, ServerFailure) as error:
        raise ServerFailure(
            f"release {version} serves and is pinned, but the others are not unloaded: {_reason(error)}; "
            f"run the same command again to unload them"
        ) from error


def _wait_until_gone(client: triton.InferenceServerClient, model: str, version: int, deadline: float) -> None:
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
