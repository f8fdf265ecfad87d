"""Killed by SIGKILL before every single change of the file system: the release that served is whole, and served."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.catalogue import prune, rollback
from export.checks import check_files
from export.config import released_version
from export.gates import replay_gate
from export.golden import load_golden_set
from export.release import Options, release
from export.repository import find_version, golden_file, versions
from tests.servers import serving

# Counts what changes files under the folder, and does something before each change that this is to happen to.
BEFORE = """
import os, shutil, signal, sys
folder, number = os.path.realpath(sys.argv[1]), int(sys.argv[2])
seen = 0
def before(event, arguments):
    global seen
    changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir") or (
        event == "open" and (set("wax+") & set(arguments[1] or "") or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)))
    if changes and os.path.realpath(str(arguments[0])).startswith(folder + os.sep):
        ACTION
        seen += 1
sys.addaudithook(before)
"""
KILL = BEFORE.replace("ACTION", "if seen == number: os.kill(os.getpid(), signal.SIGKILL)")
COPY = BEFORE.replace("ACTION", "if seen % number == 1: shutil.copytree(folder, f'{folder}-before-{seen}')")
PUBLISH = """
from pathlib import Path
from export.repository import locked, publish
with locked(Path(folder)):
    publish(Path(folder), Path(folder, "tag_recommender", ".staging"), 2)
"""
COMMAND = """
from export.__main__ import main
sys.exit(main(sys.argv[3:]))
"""
# Runs the code on copies of the repository, each killed one change later, until it ends. What takes long to import is
# imported once.
EACH = """
import itertools, os, shutil, signal, sys
import export.__main__, export.repository
code, repository, out, *arguments = sys.argv[1:]
for number in itertools.count():
    copy = shutil.copytree(repository, os.path.join(out, f"killed-{number}", "model_repository"))
    if os.fork() == 0:
        sys.argv[1:] = [copy, str(number), *(argument.replace("REPOSITORY", copy) for argument in arguments)]
        exec(code)
        sys.exit()
    ended = os.waitstatus_to_exitcode(os.wait()[1])
    if ended != -signal.SIGKILL:
        sys.exit(ended)
"""
STEP = 11


@pytest.fixture
def staged(tmp_path: Path, two: Path, released: Path) -> Path:
    """A repository with release 1, in whose staging folder a checked release 2 waits to be published."""
    repository = shutil.copytree(released, tmp_path / "model_repository")
    stage_second(repository, two)
    return repository


def stage_second(repository: Path, two: Path) -> None:
    staging = repository / "tag_recommender" / ".staging"
    for folder in two.glob("*/2"):
        shutil.copytree(folder, staging / folder.relative_to(two))
    shutil.copy(two / "classifier" / "tags.txt", staging / "classifier" / "tags.txt")


def killed_before(number: int, repository: Path, code: str, *arguments: str) -> bool:
    """Run until that change; False when the command was done before."""
    exit_code = run_with(KILL + code, repository, number, *arguments)
    assert exit_code in (0, -signal.SIGKILL)
    return exit_code != 0


def run_with(code: str, repository: Path, number: int, *arguments: str) -> int:
    """Run the code on the repository, which the arguments call REPOSITORY; returns the exit code."""
    return python(
        code, repository, number, *(argument.replace("REPOSITORY", str(repository)) for argument in arguments)
    )


def python(code: str, *arguments: object) -> int:
    path = os.pathsep.join((".", os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.returncode


def every_state(repository: Path, tmp_path: Path, code: str, *arguments: str) -> Iterator[Path]:
    """Copies of the repository, each after a kill one change later; the last is that of the command that ended."""
    assert python(EACH, KILL + code, repository, tmp_path, *arguments) == 0
    for number in range(len(list(tmp_path.glob("killed-*")))):
        yield tmp_path / f"killed-{number}" / "model_repository"
        shutil.rmtree(tmp_path / f"killed-{number}")


def files(repository: Path) -> set[Path]:
    return {path.relative_to(repository) for path in repository.rglob("*")}


def names(repository: Path) -> frozenset[str]:
    """What Triton would see."""
    return frozenset(str(path) for path in files(repository) if not any(part.startswith(".") for part in path.parts))


def assert_whole(repository: Path) -> int:
    current = released_version(repository)
    assert current is not None
    manifest = find_version(repository, current).manifest
    assert manifest is not None
    check_files(repository, manifest)
    return current


def assert_served(repository: Path, version: int) -> None:
    with serving(repository) as server:
        golden = load_golden_set(golden_file(repository, version), version=version)
        assert replay_gate(server.grpc_url, golden, 1e-4).passed


@pytest.mark.slow
def test_publish_killed_at_every_step(staged: Path, two: Path, tmp_path: Path, other: Path) -> None:
    served: dict[tuple[int, frozenset[str]], int] = {}
    pinned = []
    for state in every_state(staged, tmp_path, PUBLISH):
        current = assert_whole(state)
        pinned.append(current)
        if (current, names(state)) not in served:  # states that look the same to Triton are served once
            served[current, names(state)] = current
            assert_served(state, current)
        # The next publish is not in the way of what was left.
        if current == 1:
            left = [version.state for version in versions(state)]
            prune(state, keep=5)
            assert [version.state for version in versions(state)][: len(left)] in (
                ["current"],
                ["current", "pruned"],
                ["current", "ready"],
            )
    assert len(pinned) >= 8
    assert pinned == sorted(pinned)
    assert set(pinned) == {1, 2}
    assert len(served) >= 5


@pytest.mark.slow
def test_release_killed_while_it_is_made(released: Path, other: Path, tmp_path: Path) -> None:
    """A sample: all of it happens in a folder that nobody looks into. A kill leaves what a copy has."""
    command = ("release", str(other), "--repository", "REPOSITORY")
    copied, killed = (shutil.copytree(released, tmp_path / name / "model_repository") for name in ("copied", "killed"))
    assert run_with(COPY + COMMAND, copied, STEP, *command) == 0
    states = {int(path.name.rpartition("-")[2]): path for path in copied.parent.glob("*-before-*")}
    assert len(states) >= 4
    number = sorted(states)[2]
    assert killed_before(number, killed, COMMAND, *command)
    assert files(killed) == files(states[number])
    for state in (*states.values(), killed, copied):
        assert assert_whole(state) in (1, 2)
        if released_version(state) == 1:
            assert names(state) == names(released)
    assert released_version(killed) == 1
    assert released_version(copied) == 2


@pytest.mark.slow
def test_the_next_release_cleans_up_after_a_killed_one(staged: Path, other: Path) -> None:
    assert killed_before(4, staged, PUBLISH)
    assert [version.state for version in versions(staged)] == ["current", "incomplete"]
    assert release(other, staged, Options(quiet=True)).manifest.version == 3, "a number is never used twice"
    assert [version.state for version in versions(staged)] == ["ready", "pruned", "current"]
    assert not (staged / "tag_recommender" / ".staging").exists()


def test_rollback_killed_at_every_step(two: Path, tmp_path: Path) -> None:
    pinned = [
        assert_whole(state)
        for state in every_state(two, tmp_path, COMMAND, "rollback", "--to", "1", "--repository", "REPOSITORY")
    ]
    assert pinned == sorted(pinned, reverse=True)
    assert set(pinned) == {1, 2}


def test_prune_killed_at_every_step(two: Path, tmp_path: Path) -> None:
    states = []
    for state in every_state(two, tmp_path, COMMAND, "prune", "--keep", "1", "--repository", "REPOSITORY"):
        assert assert_whole(state) == 2
        prune(state, keep=1)
        states.append([version.state for version in versions(state)])
        assert not list(state.rglob("*.gone"))
    assert len(states) > 5
    assert all(state == ["pruned", "current"] for state in states)


def test_rolled_back_release_is_served(two: Path, tmp_path: Path) -> None:
    repository = shutil.copytree(two, tmp_path / "model_repository")
    rollback(repository, 1)
    assert assert_whole(repository) == 1
    assert_served(repository, 1)
