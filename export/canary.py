"""Try a release on a share of the users: a candidate beside the served release, in the same Triton.

The candidate's models are loaded beside the served ones, and an ensemble of its own pins them. This ensemble is not
written into the repository, so a server that restarts serves the release alone. Which users it answers is the callers'
choice (`candidate_share` of the client). Every step may be run again after it was killed. They raise ExportError, and
InvalidRequest for `access`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tritonclient.grpc as triton
from altreco_client import contract
from altreco_client.checks import checked_seconds
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from deploy.access import PLAIN, Access
from export.checks import check_release
from export.config import ensemble_config, released_version
from export.errors import ExportError, GateError, LoadRefused, ReleaseError, ServerFailure
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
from export.rollout import rollout
from export.served import (
    NOT_EXPLICIT,
    candidate_version,
    component_recommender,
    connected,
    ensemble_recommender,
    served_version,
)

CANDIDATE = contract.CANDIDATE.name
STARTED = "started"
"""Parameter of the candidate's config: when it was started, seconds since 1970."""


class Releases(NamedTuple):
    """What a server has loaded; None for nothing."""

    served: int | None
    candidate: int | None


def releases(urls: Sequence[str], access: Access = PLAIN) -> dict[str, Releases]:
    """Ask servers at host:port for their releases. Raises ServerFailure."""
    found = {}
    for url in urls:
        with connected(url, access) as client:
            found[url] = Releases(served_version(client), candidate_version(client))
    return found


def the_served(found: Mapping[str, Releases]) -> int:
    """The release that all servers serve. Raises ReleaseError if they differ."""
    served = {each.served for each in found.values()}
    if None in served or len(served) > 1:
        listed = ", ".join(f"{url} serves {each.served or 'nothing'}" for url, each in found.items())
        raise ReleaseError(f"expected the same release on every server: {listed}; roll it out first")
    return next(number for number in served if number)


def the_candidate(found: Mapping[str, Releases]) -> int:
    """The candidate of all servers; one that serves it already may have none. Raises ReleaseError."""
    candidates = {each.candidate for each in found.values()} - {None}
    if len(candidates) != 1 or any(candidates.isdisjoint(each) for each in found.values()):
        listed = ", ".join(f"{url} has {each.candidate or 'none'}" for url, each in found.items())
        raise ReleaseError(f"expected the same candidate on every server: {listed}; start it with `canary start`")
    return next(number for number in candidates if number)


def start(
    urls: Sequence[str],
    repository: Path,
    to: int,
    *,
    drain_timeout_s: float = 60.0,
    access: Access = PLAIN,
    say: Callable[[str], None] = print,
) -> str:
    """Load release `to` as the candidate on all servers at host:port, or on none, and replay its golden set on each.

    The repository pins the served release afterwards.
    """
    drain_timeout_s = checked_seconds("drain_timeout_s", drain_timeout_s, zero=True)
    with locked(repository):
        manifest, golden = load_release(repository, to)
        allowed = allowed_of(manifest)
        found = releases(urls, access)
        release = the_served(found)
        if to == release:
            raise ReleaseError(f"release {to} is the served one: expected another as the candidate")
        for url, each in found.items():
            if each.candidate not in (None, to):
                raise ReleaseError(f"{url} has release {each.candidate} as its candidate: stop or promote it first")
        check_old_release(repository, release)
        with _cleared_on_error(urls, repository, release, to, drain_timeout_s, access):
            restore(repository, to)
            check_release(repository, manifest)
            if released_version(repository) != release:
                say(f"pin release {release}, which is served")
                pin(repository, release)
            for url in urls:
                say(f"{url}: load release {to} beside release {release}, and replay its golden set")
                with connected(url, access) as client:
                    for model in contract.COMPONENTS:
                        load_versions(client, model.name, {release, to})
                    require_golden(golden, client, component_recommender(client, to), allowed)
                    check_running(client, repository)
            # Only now: a caller whose requests go to all servers in turn would find the candidate on some.
            for url in urls:
                say(f"{url}: start the candidate")
                with connected(url, access) as client:
                    if candidate_version(client) != to:
                        load_candidate(client, repository, to)
                    recommend = ensemble_recommender(client, to, contract.CANDIDATE)
                    require_golden(golden, client, recommend, allowed)
    return f"release {to} is the candidate beside release {release}, for callers with a `candidate_share`"


def promote(
    urls: Sequence[str],
    repository: Path,
    *,
    drain_timeout_s: float = 60.0,
    access: Access = PLAIN,
    say: Callable[[str], None] = print,
) -> str:
    """Roll the candidate out on the servers at host:port, one after the other, and unload its ensemble at the end.

    It goes on answering its users meanwhile. If a rollout fails, it stays the candidate.
    """
    to = the_candidate(releases(urls, access))
    for url in urls:
        say(f"{url}: roll release {to} out")
        rollout(url, repository, to=to, drain_timeout_s=drain_timeout_s, access=access, say=say)
    with locked(repository):
        for url in urls:
            with connected(url, access) as client:
                _clear(client, to, drain_timeout_s)
    return f"release {to} is served and pinned, and no candidate is left"


def stop(
    urls: Sequence[str],
    repository: Path,
    *,
    drain_timeout_s: float = 60.0,
    access: Access = PLAIN,
) -> str:
    """Unload the candidate from the servers at host:port. It answers what it has got; then the release answers."""
    drain_timeout_s = checked_seconds("drain_timeout_s", drain_timeout_s, zero=True)
    with locked(repository):
        for url in urls:
            with connected(url, access) as client:
                release = served_version(client)
                if release is None:
                    raise ServerFailure(f"{url} serves nothing: expected a release beside the candidate")
                check_old_release(repository, release)
                _clear(client, release, drain_timeout_s)
    return f"no candidate is left on {', '.join(urls)}"


def load_candidate(client: triton.InferenceServerClient, repository: Path, version: int) -> None:
    """Load the ensemble that pins the candidate's models, which the server has loaded."""
    config = text_format.Parse(ensemble_config(repository, version), pb.ModelConfig())
    config.name = CANDIDATE
    config.parameters[STARTED].string_value = str(int(time.time()))
    text = json_format.MessageToJson(config, preserving_proto_field_name=True)
    # Triton wants a folder for each version, and makes one for a file.
    files = {f"file:{version}/candidate": b"candidate"}
    client.load_model(CANDIDATE, config=text, files=files, client_timeout=LOAD_DEADLINE_S)


def _clear(client: triton.InferenceServerClient, release: int, timeout_s: float) -> None:
    """Unload the candidate's ensemble, then all models but those of `release`, once their last request is answered."""
    deadline = time.monotonic() + timeout_s
    if candidate_version(client) is not None:
        client.unload_model(CANDIDATE, client_timeout=LOAD_DEADLINE_S)
    for model in contract.COMPONENTS:
        load_versions(client, model.name, {release})
    for model in contract.COMPONENTS:
        wait_until_gone(client, model.name, release, deadline)


@contextmanager
def _cleared_on_error(
    urls: Sequence[str], repository: Path, release: int, to: int, timeout_s: float, access: Access
) -> Iterator[None]:
    """On any error inside, take the candidate from all servers again."""
    withdrawn = find_version(repository, to).state == "withdrawn"
    try:
        yield
    except BaseException as error:
        if NOT_EXPLICIT in str(error):
            raise
        left = []
        for url in urls:
            try:
                with connected(url, access) as client:
                    _clear(client, release, timeout_s)
            except ExportError as again:
                left.append(reason_of(again))
        # Weights that do not load keep a server from starting; those of an older release have been loaded before.
        if withdrawn or (isinstance(error, LoadRefused) and to > release):
            withdraw(repository, to)
        if not isinstance(error, ExportError | OSError):
            raise
        message = f"release {to} is no candidate, release {release} serves alone: {reason_of(error)}"
        if left:
            message += f". Something may be left of it ({'; '.join(left)}): run `canary stop`, or restart the server"
        if isinstance(error, GateError):
            raise GateError(message, error.gates) from error
        raise (type(error) if isinstance(error, ExportError) else ExportError)(message) from error
