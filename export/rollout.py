"""Switch a running Triton to another release under load. No request fails, and none is answered by both releases.

The server runs in explicit model control mode and reads the same repository. Until the new release has answered its
golden set, any error leaves the old release serving and pinned.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.checks import checked_seconds
from tritonclient.utils import InferenceServerException

from deploy.access import PLAIN, Access
from export.checks import check_release
from export.config import released_version
from export.errors import ExportError, GateError, LoadRefused, ReleaseError, ServerFailure
from export.gate import Gate
from export.gates import allowed_of
from export.loading import (
    LOAD_DEADLINE_S,
    check_old_release,
    check_running,
    load_versions,
    reason_of,
    require_golden,
    wait_until_gone,
)
from export.repository import find_version, load_release, locked, pin, restore, withdraw
from export.served import (
    NOT_EXPLICIT,
    candidate_version,
    component_recommender,
    connected,
    ensemble_recommender,
    served_version,
)

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
            check_old_release(repository, old)
        if (candidate := candidate_version(client)) not in (None, version):
            raise ReleaseError(
                f"{url} has release {candidate} as a candidate, which a rollout would unload under its users: run "
                "`.venv/bin/python -m export canary stop`, or promote it. Nothing was changed"
            )
        allowed = allowed_of(manifest, allowed)
        with _old_release_kept(client, repository, old, version):
            restore(repository, version)
            check_release(repository, manifest)
            keep = {version} if old is None else {old, version}
            for model in contract.COMPONENTS:
                say(f"load {model.name}, releases {', '.join(map(str, sorted(keep)))}")
                load_versions(client, model.name, keep)
            say("golden set on the new models")
            require_golden(golden, client, component_recommender(client, version), allowed)
            check_running(client, repository)
            say(f"switch to release {version}")
            pin(repository, version)
            client.load_model(ENSEMBLE, client_timeout=LOAD_DEADLINE_S)
            say("golden set on the ensemble")
            gate = require_golden(golden, client, ensemble_recommender(client, version), allowed)
        say("wait for the old release's last request")
        _retire_others(client, version, drain_timeout_s)
    return Rollout(url=url, old=old, version=version, gate=gate, seconds=time.monotonic() - started)


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
        kept = {old} | {candidate for candidate in (candidate_version(client),) if candidate}
        for model in contract.COMPONENTS:
            load_versions(client, model.name, kept)
    except (InferenceServerException, ServerFailure) as error:
        return reason_of(error)
    return None


def _refusal(error: BaseException, version: int, old: int, *, unpinned: str | None, gone: str | None) -> str:
    refused = f"release {version} was not rolled out"
    if unpinned is not None:
        return (
            f"{refused}: {reason_of(error)}. Release {old} could not be pinned again ({unpinned}): "
            f"run `.venv/bin/python -m export rollback --to {old}` before the server restarts"
        )
    if gone is not None:
        return (
            f"{refused}: {reason_of(error)}. The server could not be switched back ({gone}); "
            f"release {old} is pinned again, restart the server"
        )
    return f"{refused}, release {old} goes on serving and is pinned: {reason_of(error)}"


def _retire_others(client: triton.InferenceServerClient, version: int, timeout_s: float) -> None:
    """Unload all other versions once their ensembles have no request in progress, and wait until they are gone.

    A request holds the models of all its steps from its start, so Triton keeps an unloaded model until the last such
    request is answered. This includes requests of an ensemble that was loaded again since, which no index shows.
    """
    deadline = time.monotonic() + timeout_s
    try:
        wait_until_gone(client, ENSEMBLE, version, deadline)
        for model in contract.COMPONENTS:
            load_versions(client, model.name, {version})
        for model in contract.COMPONENTS:
            wait_until_gone(client, model.name, version, deadline)
    except (InferenceServerException, ServerFailure) as error:
        raise ServerFailure(
            f"release {version} serves and is pinned, but the others are not unloaded: {reason_of(error)}; "
            f"run the same command again to unload them"
        ) from error
