"""A running Triton from one release to another, under load: no request fails, and none is answered by both.

The server is in explicit model control mode and reads the same repository. Up to the switch, whatever goes wrong leaves
the old release serving, on disk as well; after it, the new one has answered its golden set.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton
from altreco_client import contract
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

from export.errors import GateError, ServerFailure
from export.gates import SERVED, require
from export.golden import GoldenSet, Recommender, replay
from export.manifest import Gate
from export.repository import check_files, load_release, locked, pin, restore, withdraw
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
"""For one model: TensorRT builds its engines while it loads."""
NOT_EXPLICIT = "explicit model load / unload is not allowed"
"""What Triton says in the other control modes."""
ENSEMBLE = contract.TAG_RECOMMENDER.name


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What was done; `old` is None where nothing was served before, and `version` where it was this one already."""

    url: str
    old: int | None
    version: int
    gate: Gate
    seconds: float

    def __str__(self) -> str:
        """For the terminal."""
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
    say: Callable[[str], None] = print,
) -> Rollout:
    """Make the server at host:port serve the pinned release, or `to`, which is pinned then.

    `allowed`: difference to the golden set, if not the release's own. Raises GateError, ServerFailure, ReleaseError,
    GoldenSetError and RepositoryBusy; unless the message says otherwise, the old release serves and is pinned.
    """
    with locked(repository), connected(url) as client:
        started = time.monotonic()
        manifest, golden = load_release(repository, to)
        restore(repository, manifest.version)
        check_files(repository, manifest)
        version, old = manifest.version, served_version(client)
        allowed = manifest.gate(SERVED).allowed if allowed is None else allowed
        with _old_release_kept(client, repository, old, version):
            keep = {version} if old is None else {old, version}
            for model in contract.COMPONENTS:
                say(f"load {model.name}, releases {', '.join(map(str, sorted(keep)))}")
                _load_versions(client, model.name, keep)
            say("golden set on the new models")
            _require(golden, client, component_recommender(client, version), allowed)
            say(f"switch to release {version}")
            pin(repository, version)
            client.load_model(ENSEMBLE, client_timeout=LOAD_DEADLINE_S)
            say("golden set on the ensemble")
            gate = _require(golden, client, ensemble_recommender(client, version), allowed)
        say("wait for the old release's last request")
        _drain(client, version, drain_timeout_s)
        for model in contract.COMPONENTS:
            _load_versions(client, model.name, {version})
    return Rollout(url=url, old=old, version=version, gate=gate, seconds=time.monotonic() - started)


@contextmanager
def _old_release_kept(
    client: triton.InferenceServerClient, repository: Path, old: int | None, version: int
) -> Iterator[None]:
    """Whatever goes wrong inside, the old release is pinned and serves; the pin first, in case the server is gone."""
    try:
        yield
    except BaseException as error:
        if old is None or old == version:
            raise
        pin(repository, old)
        try:
            _go_back(client, old)
        except InferenceServerException as gone:
            raise ServerFailure(_refusal(error, version, old, gone)) from error
        if isinstance(error, GateError):
            raise GateError(_refusal(error, version, old), error.gates) from error
        if isinstance(error, InferenceServerException):
            withdraw(repository, version)
            raise ServerFailure(_refusal(error, version, old)) from error
        raise


def _go_back(client: triton.InferenceServerClient, old: int) -> None:
    if served_version(client) != old:
        client.load_model(ENSEMBLE, client_timeout=LOAD_DEADLINE_S)
    for model in contract.COMPONENTS:
        _load_versions(client, model.name, {old})


def _refusal(error: BaseException, version: int, old: int, gone: InferenceServerException | None = None) -> str:
    reason = error.message() if isinstance(error, InferenceServerException) else str(error)
    if NOT_EXPLICIT in reason:
        return (
            f"the server does not take loads: start it with --model-control-mode=explicit. Release {old} goes on "
            f"serving and is pinned, release {version} was not rolled out"
        )
    if gone is not None:
        return (
            f"release {version} was not rolled out: {reason}. The server does not answer any more ({gone.message()}); "
            f"release {old} is pinned again, start the server anew"
        )
    return f"release {version} was not rolled out, release {old} goes on serving and is pinned: {reason}"


def _load_versions(client: triton.InferenceServerClient, model: str, versions: Collection[int]) -> None:
    """Make exactly these versions of a model loaded; those that are stay so while others load.

    By an override of the policy: with the repository's own, `all`, every release that was ever made would be loaded.
    """
    if not ready_versions(client, model):
        client.load_model(model, client_timeout=LOAD_DEADLINE_S)
    # The server's own config, which may be a variant (--model-config-name), and not the repository's.
    config = client.get_model_config(model, client_timeout=DEADLINE_S).config
    config.version_policy.Clear()
    config.version_policy.specific.versions.extend(sorted(versions))
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    client.load_model(model, config=text, client_timeout=LOAD_DEADLINE_S)


def _require(golden: GoldenSet, client: triton.InferenceServerClient, recommend: Recommender, allowed: float) -> Gate:
    max_batch = client.get_model_config(contract.VISUAL_ENCODER.name).config.max_batch_size
    difference = replay(golden.inputs, golden.tags, recommend, max_batch=max_batch)
    gate = Gate(name=SERVED, measured=difference.value, allowed=allowed, worst=difference.where)
    require([gate])
    return gate


def _drain(client: triton.InferenceServerClient, version: int, timeout_s: float) -> None:
    """Wait until no ensemble but this one has a request under way.

    Only then may components go: an ensemble looks each of them up when it comes to that step.
    """
    deadline = time.monotonic() + timeout_s
    while others := _not_gone(client, version):
        if time.monotonic() > deadline:
            raise ServerFailure(
                f"release {version} serves, but release {others[0]} still has requests under way after "
                f"{timeout_s:g} s: run the same command again to unload it"
            )
        time.sleep(POLL_S)


def _not_gone(client: triton.InferenceServerClient, version: int) -> list[str]:
    index = client.get_model_repository_index(client_timeout=DEADLINE_S).models
    return [
        entry.version
        for entry in index
        if entry.name == ENSEMBLE and entry.version != str(version) and entry.state in ("READY", "UNLOADING")
    ]
