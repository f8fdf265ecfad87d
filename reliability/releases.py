"""Faults while a release is published and another one serves: a full disk, a corrupt file, two releases at once."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from altreco_client import contract

from deploy.local.tied import tied
from export.config import CONFIG_FILE, released_version
from export.manifest import MANIFEST_FILE
from export.repository import LOCK_FILE, golden_file, labels_file, manifest_file, model_files, sha256
from measure.markdown import seconds
from reliability.outcome import Check, Outcome
from reliability.questions import good_checks, under_load
from reliability.servers import serving
from reliability.wording import kinds
from training.data.manifest import VOCABULARY_FILE, read_vocabulary
from training.data.synthetic import SyntheticSettings, generate
from training.presets import preset

ROOT = Path(__file__).parents[1]
PRESET = "ablation"
PICTURES, USERS = 24, 4
BUSY = "another command is writing"
COMPONENTS = [model.name for model in contract.COMPONENTS]


@dataclass(frozen=True)
class Start:
    """A repository with release 1, and two other checkpoints."""

    repository: Path
    checkpoints: tuple[Path, Path]


@dataclass(frozen=True)
class Run:
    """A finished command; `message` is the last error line of stderr, without the repository's path."""

    code: int
    message: str
    seconds: float

    def __str__(self) -> str:
        """Format the run as a figure of a report."""
        return f"exit code {self.code} after {seconds(self.seconds)}{': ' * bool(self.message)}{self.message}"


def disk_full(
    folder: Path,
    *,
    left_bytes: Sequence[int] = (4096, 100_000, 1_000_000),
    callers: int = 4,
    every_s: float = 0.0,
    deadline_s: float = 30.0,
) -> Outcome:
    """Publish with a limit on the size of every file, and then without one."""
    start = prepared(folder)
    repository = shutil.copytree(start.repository, folder / "disk_full")
    before, runs, same = contents(repository), dict[int, Run](), []
    with (
        serving(repository) as server,
        under_load(server.grpc_url, callers=callers, every_s=every_s, deadline_s=deadline_s) as calls,
    ):
        for left in left_bytes:
            limit = ["sh", "-c", f'ulimit -f {left // 512}; exec "$@"', "sh"]
            runs[left] = _run(repository, "release", str(start.checkpoints[0]), limit=limit)
            same.append(contents(repository) == before)
        room = _run(repository, "release", str(start.checkpoints[0]))
    return Outcome(
        title="The disk is full during a release",
        did="`python -m export release` into a served repository, where writes to a file fail beyond some bytes, while "
        f"{callers} callers sent requests without pause; then again with room.",
        figures={
            **{f"room for {left:,} bytes per file": str(run) for left, run in runs.items()},
            "with room": str(room),
            "good calls": f"{len(calls.answered):,} answered; failed: {kinds(calls.errors())}",
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check(
                "each was refused in one line that says why",
                all(_refused(run, "cannot write") for run in runs.values()),
            ),
            Check("the repository was unchanged, byte for byte", all(same)),
            Check("with room, the same command publishes", room.code == 0 and released_version(repository) == 2),
        ],
    )


def corrupt_file(
    folder: Path,
    *,
    callers: int = 4,
    every_s: float = 0.0,
    deadline_s: float = 30.0,
    components: Sequence[str] = COMPONENTS,
) -> Outcome:
    """Change a byte of each file of release 2 in turn, and try to roll it out; then roll out the intact release.

    `components`: models whose files are among them.
    """
    start = prepared(folder)
    repository = shutil.copytree(start.repository, folder / "corrupt_file")
    published = _run(repository, "release", str(start.checkpoints[0]))
    loaded = tuple(f"--load-model={name}" for name in (*COMPONENTS, contract.TAG_RECOMMENDER.name))
    _run(repository, "rollback", "--to", "1")
    found, refused, pinned = {}, {}, []
    with serving(repository, model_control="explicit", extra_args=loaded) as server:
        rollout = ("rollout", "--to", "2", "--url", server.grpc_url)
        with under_load(server.grpc_url, callers=callers, every_s=every_s, deadline_s=deadline_s) as calls:
            for file in _files(repository, components):
                name, whole = str(file.relative_to(repository)), file.read_bytes()
                file.write_bytes(_one_byte_changed(file, whole))
                found[name], refused[name] = _run(repository, "verify", "--version", "2"), _run(repository, *rollout)
                file.write_bytes(whole)
                pinned.append(released_version(repository))
        last = _run(repository, *rollout)
    return Outcome(
        title="A file of a release is corrupt",
        did=f"One byte of each file of release 2 in turn was changed, and `python -m export verify --version 2` and "
        f"`rollout --to 2` were run, while {callers} callers sent requests to the server of release 1 without pause. "
        "Then the intact release was rolled out.",
        figures={
            **{f"{name}: verify": str(run) for name, run in found.items()},
            **{f"{name}: rollout": str(run) for name, run in refused.items()},
            "intact: rollout": str(last),
            "good calls": f"{len(calls.answered):,} answered; failed: {kinds(calls.errors())}",
        },
        checks=[
            *good_checks(calls, deadline_s),
            Check("release 2 was published", published.code == 0),
            *(Check(f"verify names {name}", _refused(run, Path(name).name)) for name, run in found.items()),
            *(Check(f"rollout refuses a corrupt {name}", _refused(run)) for name, run in refused.items()),
            Check("release 1 stayed pinned", set(pinned) == {1}),
            Check("the intact release is rolled out", last.code == 0 and released_version(repository) == 2),
        ],
    )


def two_at_once(
    folder: Path, *, rounds: int = 4, callers: int = 4, every_s: float = 0.0, deadline_s: float = 30.0
) -> Outcome:
    """Start two `export release` on one repository at once, in the reverse order every other round."""
    start = prepared(folder)
    figures, checks = {}, []
    for number in range(rounds):
        repository = shutil.copytree(start.repository, folder / f"two_at_once-{number}")
        order = start.checkpoints[:: -1 if number % 2 else 1]
        with (
            serving(repository) as server,
            under_load(server.grpc_url, callers=callers, every_s=every_s, deadline_s=deadline_s) as calls,
        ):
            started_s = time.monotonic()
            processes = [_started(repository, "release", str(checkpoint)) for checkpoint in order]
            runs = [_ended(process, repository, started_s) for process in processes]
        winners = [checkpoint for checkpoint, run in zip(order, runs, strict=True) if run.code == 0]
        lost = [run for run in runs if run.code != 0]
        whole = _run(repository, "verify")
        figures[f"round {number + 1}"] = f"first: {runs[0]}; second: {runs[1]}"
        checks += [
            *good_checks(calls, deadline_s),
            Check(f"round {number + 1}: one was published", len(winners) == 1 and released_version(repository) == 2),
            Check(
                f"round {number + 1}: the other was told to wait",
                all(_refused(run, BUSY) for run in lost),
            ),
            Check(f"round {number + 1}: the release is intact", whole.code == 0),
            Check(f"round {number + 1}: no partial files are left", _leftovers(repository) == []),
        ]
    return Outcome(
        title="Two releases at once",
        did="Two `python -m export release` of different checkpoints were started at once on a served repository; "
        f"{callers} callers sent requests without pause; {rounds} rounds.",
        figures=figures,
        checks=checks,
    )


def prepared(folder: Path) -> Start:
    """Create the start in the folder, unless it is there: models with random weights, and their data set."""
    import torch  # noqa: PLC0415 - takes seconds, and no other scenario needs it

    from export.full_size import VARIANT, random_model  # noqa: PLC0415
    from export.release import Options, release  # noqa: PLC0415
    from training.checkpoint import Checkpoint, save_checkpoint  # noqa: PLC0415

    start = Start(folder / "start", (folder / "first.pt", folder / "second.pt"))
    if not start.repository.exists():
        data = generate(folder / "data", SyntheticSettings(pictures=PICTURES, users=USERS), quiet=True)
        vocabulary = read_vocabulary(data / VOCABULARY_FILE)
        model = random_model(PRESET, len(vocabulary))
        for path in (folder / "served.pt", *start.checkpoints):
            with torch.no_grad():
                model.classifier.fc2.bias.add_(0.1)  # so that each model answers differently
            settings = preset(f"{PRESET}/{VARIANT}")
            save_checkpoint(
                path, Checkpoint(model=model, settings=settings, vocabulary=vocabulary, metrics={}, data=data)
            )
        repository = folder / "model_repository"
        for config in (ROOT / "model_repository").glob(f"*/{CONFIG_FILE}"):
            (repository / config.parent.name).mkdir(parents=True)
            shutil.copy(config, repository / config.parent.name)
        release(folder / "served.pt", repository, Options(quiet=True))
        repository.rename(start.repository)
    return start


def contents(repository: Path) -> dict[str, str]:
    """Map the path of every file but the lock to its hash."""
    files = (path for path in repository.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {str(path.relative_to(repository)): sha256(path) for path in files}


def _files(repository: Path, components: Sequence[str]) -> list[Path]:
    models = model_files(repository, 2)
    return [
        *(models[name] for name in components),
        *(repository / name / CONFIG_FILE for name in components),
        labels_file(repository),
        manifest_file(repository, 2),
        golden_file(repository, 2),
    ]


def _one_byte_changed(file: Path, content: bytes) -> bytes:
    """Change a byte in the middle; in a config, in its first dims; in a manifest, at the start."""
    places = {CONFIG_FILE: content.find(b"dims: [ ") + len(b"dims: [ "), MANIFEST_FILE: 0}
    at = places.get(file.name, len(content) // 2)
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _leftovers(repository: Path) -> list[str]:
    return [path.name for path in repository.rglob(".*") if path.name != LOCK_FILE]


def _refused(run: Run, *words: str) -> bool:
    return run.code == 1 and run.message.startswith("error: ") and all(word in run.message for word in words)


def _run(repository: Path, *arguments: str, limit: Sequence[str] = ()) -> Run:
    started_s = time.monotonic()
    return _ended(_started(repository, *arguments, limit=limit), repository, started_s)


def _started(repository: Path, *arguments: str, limit: Sequence[str] = ()) -> subprocess.Popen[str]:
    command: list[str] = [*limit, sys.executable, "-m", "export", *arguments, "--repository", str(repository)]
    return subprocess.Popen(
        tied(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _ended(process: subprocess.Popen[str], repository: Path, started_s: float) -> Run:
    _, said = process.communicate()
    lines = [line for line in said.splitlines() if line.startswith(("error: ", "Traceback"))]
    message = lines[-1].replace(f"{repository}/", "").replace(str(repository), "the repository") if lines else ""
    return Run(process.returncode, message, time.monotonic() - started_s)
