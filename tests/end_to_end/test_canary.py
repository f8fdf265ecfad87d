"""A candidate beside the release of a real Triton, while clients with users ask without pause."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from altreco_client import PreparedImage, ServerError, TagRecommender
from altreco_client.call.candidate import position

from deploy.local import Server
from export.__main__ import main
from export.canary import promote, start, stop
from export.catalogue import prune
from export.config import released_version
from export.errors import GateError, LoadRefused, ReleaseError, ServerFailure
from export.golden import load_golden_set
from export.repository import golden_file, model_files, versions
from export.rollout import rollout
from export.served import candidate_version, connected, loaded_releases, ready_versions, served_version
from measure.callers import Caller, Calls, calling
from measure.waiting import wait_until
from tests.end_to_end.candidates import BAD, acceptance, failing, preference_plus, slow
from tests.end_to_end.printed import ROOT, commands, run
from tests.end_to_end.test_rollout import damage, drawn, served, silent
from tests.kept import Kept
from tests.servers import own_ports, serving

SHARE = 0.5
CLIENTS = 4


class Asked(NamedTuple):
    """Who asked, who answered, and whether the tags were that release's."""

    user: str
    release: str | None
    right: bool


@dataclass(frozen=True)
class Canary:
    """A server that serves release 1 of a repository with releases 1 and 2."""

    server: Server
    repository: Path

    @property
    def urls(self) -> list[str]:
        return [self.server.grpc_url]

    def start(self, to: int = 2) -> None:
        start(self.urls, self.repository, to, say=silent)

    def releases(self) -> tuple[int | None, int | None, set[int]]:
        """Served, tried, and loaded."""
        with connected(self.server.grpc_url) as client:
            return served_version(client), candidate_version(client), ready_versions(client, "visual_encoder")


@pytest.fixture(scope="module")
def shared(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    repository = shutil.copytree(kept.releases(2), tmp_path_factory.mktemp("canary") / "model_repository")
    with served(repository) as server:
        rollout(server.grpc_url, repository, to=1, say=silent)
        yield Canary(server, repository)


@pytest.fixture
def canary(shared: Canary) -> Iterator[Canary]:
    """The shared server, with release 1 and no candidate before and after."""
    yield shared
    stop(shared.urls, shared.repository)
    rollout(shared.server.grpc_url, shared.repository, to=1, say=silent)


@contextmanager
def load(canary: Canary) -> Iterator[Calls[Asked]]:
    """Clients with many users ask for golden inputs."""
    golden = {str(number): load_golden_set(golden_file(canary.repository, number), version=number) for number in (1, 2)}
    images = [PreparedImage(image) for image in golden["1"].inputs.image]

    def ask(client: TagRecommender, number: int) -> Asked:
        i, user = number % len(images), f"user-{number % 40}"
        counts = golden["1"].inputs.counts[i]
        history = {client.vocabulary.tags[tag]: float(counts[tag]) for tag in counts.nonzero()[0]}
        answer = client.recommend(images[i], history, user=user)
        scores = golden[str(answer.model_version)].tags[i]
        expected = np.sort(scores)[::-1][:5]
        right = bool(np.abs(expected - [tag.score for tag in answer.tags]).max() < 1e-3)
        return Asked(user, answer.model_version, right)

    with ExitStack() as stack:
        clients = [
            stack.enter_context(TagRecommender(canary.server.grpc_url, candidate_share=SHARE, deadline_s=30))
            for _ in range(CLIENTS)
        ]
        callers = [Caller(partial(ask, client), drawn(10_000, i)) for i, client in enumerate(clients)]
        with calling(callers, failures=(ServerError,)) as seen:
            yield seen


def users_in_share(release: int) -> set[str]:
    return {f"user-{i}" for i in range(40) if position(f"user-{i}", str(release)) < SHARE}


def answered(seen: Calls[Asked], count: int = 100) -> set[Asked]:
    """What the calls that start now are answered."""
    now_s = time.monotonic()
    wait_until(lambda: len(seen.since(now_s).ended) > count)
    return {call.answer for call in seen.since(now_s).ended if call.answer}


def test_start_and_promote_under_load(canary: Canary) -> None:
    canary.start()
    assert canary.releases() == (1, 2, {1, 2})
    assert released_version(canary.repository) == 1
    with load(canary) as seen:
        during = answered(seen)
        promote(canary.urls, canary.repository, say=silent)
        assert canary.releases() == (2, None, {2})
        after = answered(seen)
    assert seen.failed == []
    on_candidate = {each.user for each in during if each.release == "2"}
    assert on_candidate
    assert on_candidate <= users_in_share(2)
    assert {each.user for each in during if each.release == "1"}.isdisjoint(users_in_share(2))
    assert {each.release for each in after} == {"2"}
    assert all(call.answer.right for call in seen.answered if call.answer)
    assert released_version(canary.repository) == 2


@pytest.mark.slow
def test_start_and_stop_under_load(canary: Canary) -> None:
    with load(canary) as seen:
        before = answered(seen)
        canary.start()
        answered(seen)
    with load(canary) as seen_later, TagRecommender(canary.server.grpc_url, candidate_share=1) as client:
        during = answered(seen_later)
        picture = PreparedImage(np.zeros((224, 224, 3), dtype=np.uint8))
        for_users = client.recommend_for_users(picture, [{"tag-1": 1}, None], user="ana")
        stop(canary.urls, canary.repository)
        after = answered(seen_later)
        assert client.recommend_for_users(picture, [None], user="ana")[0].model_version == "1"
    assert seen.failed + seen_later.failed == []
    assert {each.release for each in before | after} == {"1"}
    assert {each.release for each in during} == {"1", "2"}
    assert {answer.model_version for answer in for_users} == {"2"}
    assert all(call.answer.right for call in (*seen.answered, *seen_later.answered) if call.answer)
    assert canary.releases() == (1, None, {1})


def test_what_would_end_a_candidate_under_its_users_is_refused(canary: Canary) -> None:
    with pytest.raises(ReleaseError, match="release 1 is the served one"):
        canary.start(to=1)
    with pytest.raises(ReleaseError, match=r"expected the same candidate on every server: .* has none"):
        promote(canary.urls, canary.repository, say=silent)
    rollout(canary.server.grpc_url, canary.repository, to=2, say=silent)
    canary.start(to=1)
    canary.start(to=1)  # again changes nothing
    with pytest.raises(ReleaseError, match=r"has release 1 as a candidate, .* Nothing was changed"):
        rollout(canary.server.grpc_url, canary.repository, to=2, say=silent)
    in_use = frozenset(loaded_releases(canary.server.grpc_url))
    assert prune(canary.repository, 1, in_use).startswith("removed: none; kept: 1, 2")
    assert canary.releases() == (2, 1, {1, 2})


@contextmanager
def damaged(kept: Kept, canary: Canary, model: str, change: Callable[[Path], object]) -> Iterator[None]:
    """Release 2 with a changed model of the right hash, until the block is left."""
    try:
        damage(canary.repository, 2, model, change)
        yield
    finally:
        damage(canary.repository, 2, model, lambda file: shutil.copy(model_files(kept.releases(2), 2)[model], file))


@pytest.mark.slow
def test_a_candidate_that_is_refused_leaves_nothing(kept: Kept, canary: Canary) -> None:
    other = model_files(canary.repository, 1)["classifier"]
    with load(canary) as seen:
        with damaged(kept, canary, "classifier", lambda file: shutil.copy(other, file)):
            with pytest.raises(GateError, match=r"release 2 is no candidate, release 1 serves alone: .*jpg"):
                canary.start()
            assert canary.releases() == (1, None, {1})
        with damaged(kept, canary, "classifier", lambda file: file.write_bytes(b"no ONNX")):
            with pytest.raises(LoadRefused, match="release 2 is no candidate, release 1 serves alone"):
                canary.start()
            assert canary.releases() == (1, None, {1})
            # A server that starts loads all versions, and this one would keep it from it.
            assert [version.state for version in versions(canary.repository)] == ["current", "withdrawn"]
    assert seen.failed == []
    canary.start()
    assert canary.releases() == (1, 2, {1, 2})


def compared(canary: Canary, capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, dict[str, str]]:
    """The exit code, and the result of each line."""
    arguments = ["--repository", canary.repository, "--url", canary.server.grpc_url, "--requests", 60, *options]
    code = main(["canary", "compare", *map(str, arguments)])
    said = capsys.readouterr().out
    lines = re.findall(r"^(\S+(?: \S+)*) {2,}.* {2,}(better|equal|worse|too little yet|-)$", said, re.MULTILINE)
    return code, dict(lines)


@pytest.mark.slow
def test_a_candidate_is_compared(canary: Canary, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    canary.start()
    with load(canary) as seen:
        wait_until(lambda: len(seen.ended) > 1500, seconds=300)
    any_latency = ("--slower", 1000)  # it depends on what else the machine does
    code, results = compared(canary, capsys, *any_latency)
    assert (code, results["failed requests"], results["other tags"]) == (2, "equal", "too little yet")
    for rate, expected, verdict in ((0.3, 0, "equal"), (0.1, 1, "worse"), (0.5, 0, "better")):
        path = acceptance(tmp_path / "accepted.parquet", candidate=rate)
        code, results = compared(canary, capsys, *any_latency, "--acceptance", path)
        assert (code, results["accepted"], results["other tags"]) == (expected, verdict, "-")


@pytest.mark.slow
def test_the_release_answers_for_a_candidate_that_fails_which_is_worse(
    kept: Kept, canary: Canary, capsys: pytest.CaptureFixture[str]
) -> None:
    with damaged(kept, canary, "preference_encoder", lambda file: preference_plus(file, failing)):
        canary.start()
        with TagRecommender(canary.server.grpc_url, candidate_share=1) as client:
            picture = PreparedImage(np.zeros((224, 224, 3), dtype=np.uint8))
            good = client.recommend(picture, {"tag-1": 1}, user="ana")
            bad = [client.recommend(picture, {"tag-1": BAD}, user="ana") for _ in range(60)]
        assert good.model_version == "2"
        assert {answer.model_version for answer in bad} == {"1"}
        code, results = compared(canary, capsys)
        assert (code, results["failed requests"]) == (1, "worse")


@pytest.mark.slow
def test_a_slow_candidate_is_worse(kept: Kept, canary: Canary, capsys: pytest.CaptureFixture[str]) -> None:
    with damaged(kept, canary, "preference_encoder", lambda file: preference_plus(file, slow)):
        canary.start()

        def verdict() -> tuple[int, str]:
            code, results = compared(canary, capsys)
            return code, results["latency"]

        # A machine that pauses in one request of the release needs more of them.
        wait_until(lambda: verdict() == (1, "worse"), "a verdict", seconds=300)


@pytest.mark.slow
def test_replicas_get_the_candidate_together_and_a_restart_ends_it(kept: Kept, canary: Canary, tmp_path: Path) -> None:
    other, port = shutil.copytree(canary.repository, tmp_path / "model_repository"), next(own_ports())
    lacks = shutil.copytree(kept.releases(1), tmp_path / "lacks")
    with served(lacks) as without, pytest.raises(ServerFailure, match="no version 2 of visual_encoder"):
        start([*canary.urls, without.grpc_url], canary.repository, 2, say=silent)
    assert canary.releases() == (1, None, {1})

    canary.start()
    flags = {"model_control": "explicit", "extra_args": ("--load-model=*",), "grpc_port": port}
    with TagRecommender(f"ipv4:{canary.urls[0]},127.0.0.1:{port}", candidate_share=1, deadline_s=30) as client:
        picture = PreparedImage(np.zeros((224, 224, 3), dtype=np.uint8))
        with serving(other, **flags) as replica:
            # Requests go to both in turn, and one has no candidate: nobody notices.
            wait_until(lambda: client.recommend(picture, user="ana").model_version == "1", "a call to the replica")
            with pytest.raises(ReleaseError, match="the same candidate on every server"):
                promote([*canary.urls, replica.grpc_url], other, say=silent)
            start([replica.grpc_url], other, 2, say=silent)
            with TagRecommender(replica.grpc_url, candidate_share=1, deadline_s=30) as fresh:
                assert fresh.recommend(picture, user="ana").model_version == "2"
        stop(canary.urls, canary.repository)
        with serving(other, **flags) as again, connected(again.grpc_url) as triton:
            assert (served_version(triton), candidate_version(triton)) == (1, None)
            assert {client.recommend(picture, user="ana").model_version for _ in range(4)} == {"1"}


def killed_at(words: str, *arguments: object) -> None:
    """Run a command of export until it says these words, and kill it."""
    command = [sys.executable, "-u", "-m", "export", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert any(words in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_steps_that_were_killed_may_be_run_again(canary: Canary) -> None:
    where = ("--repository", canary.repository, "--url", canary.server.grpc_url)
    with load(canary) as seen:
        killed_at("start the candidate", "canary", "start", *where, "--to", 2)
        canary.start()
        killed_at("golden set on the ensemble", "canary", "promote", *where)
        promote(canary.urls, canary.repository, say=silent)
        assert canary.releases() == (2, None, {2})
        answered(seen)
    assert seen.failed == []
    killed_at("load release 1", "canary", "start", *where, "--to", 1)
    stop(canary.urls, canary.repository)
    assert canary.releases() == (2, None, {2})


@pytest.mark.slow
def test_a_server_that_may_not_be_controlled(kept: Kept, tmp_path: Path) -> None:
    repository = shutil.copytree(kept.releases(2), tmp_path / "model_repository")
    with serving(repository) as server, pytest.raises(ServerFailure, match="--model-control-mode=explicit"):
        start([server.grpc_url], repository, 1, say=silent)


@pytest.mark.slow
def test_the_commands_of_the_guide_do_what_they_say(kept: Kept, canary: Canary, tmp_path: Path) -> None:
    for path in ROOT.iterdir():
        if path.name not in ("build", "model_repository", ".git"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "model_repository").symlink_to(canary.repository)
    (tmp_path / "build" / "demo").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "data").symlink_to(kept.checkpoint().with_suffix(".data"))
    acceptance(tmp_path / "build" / "acceptance.parquet", candidate=0.3)
    printed = [line for line in commands((ROOT / "docs" / "canary.md").read_text()) if " canary " in line]
    assert [re.findall(r"canary (\w+)", command) for command in printed] == [["start"], ["compare"], ["promote"]]
    begin, compare, end = (command.replace("localhost:8001", canary.server.grpc_url) for command in printed)
    run(begin, tmp_path)
    for more, line in (
        ("", r"^other tags .* 0\.05 "),
        (" --acceptance build/acceptance.parquet", r"^accepted .* equal$"),
    ):
        said = run(compare + more, tmp_path, codes=(0, 1, 2))  # the latencies are those of a busy machine
        assert re.search(line, said, re.MULTILINE)
        assert "result: " in said
    run(end, tmp_path)
    assert canary.releases() == (2, None, {2})
