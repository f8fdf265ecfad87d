"""The commands of README and guides, as printed, in a copy of the checkout that has a finished demo."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from altreco_client.histories import Histories
from PIL import Image

from tests.end_to_end.printed import EXPORT, FENCED, NEVER_RUN, PYTHON, ROOT, commands, help_of, run, run_here
from tests.kept import Kept
from tests.loadtest.make_run import lognormal, make_run
from tests.servers import serving

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / "deploy", ROOT / "client", ROOT / "client" / "examples")
    for path in folder.glob("*.md")
    if path.name not in ("runbook.md", "benchmarks.md")  # the one has its own test, the other's commands take hours
)
ELSEWHERE = (
    ".ci/install-system-tools",  # .ci/run
    "pip install ",  # would replace the client that all tests run
    "uvicorn app:app ",  # test_upload_service.py
    ".venv/bin/altreco gateway",  # test_gateway.py, with what asks it
    "curl ",
    ".venv/bin/python -m export canary",  # test_canary.py, with a server under explicit control
    "npm ",  # test_ports.py
    "protoc ",
    "SECURITY=",  # test_secured_tools.py, as what ends in $SECURITY
)
LONG = (
    *(f"{PYTHON}loadtest{command}" for command in (" capacity", " sweep", " worker", " run --workers", ".scale")),
    *(f"{PYTHON}training.data.importers {source}" for source in ("nus-wide", "parallel-text", "yfcc100m")),
    f"{PYTHON}benchmark.importing",
    f"{PYTHON}benchmark --only",
    f"{PYTHON}training.train --data DIR",
    f"{PYTHON}reliability",
)
"""They take minutes, or data that is not here: only their options are looked up."""
SLOW = re.compile(r"training\.|build/mine|build/second|reliability")
"""Commands that train, release or import everything: for the slow tier."""
MEANT = {
    "HOST:8001": "localhost:8001",
    "CHECKPOINT": "build/demo/small.pt",
    "DIR": "build/demo/data",
    "OUT": "build/generated",
}
SHORTER = {
    "--run-time 10s": "--run-time 2s",
    "loadtest run": "loadtest run --duration 3 --no-calibration",
    "--preset small": "--preset small --epochs 1 --second-stage-steps 20",
}
TAGS = {"tag-0": "sea", "tag-1": "beach", "tag-2": "2009", "tag-3": "spain"}


@dataclass(frozen=True)
class Checkout:
    """A folder that looks like the repository after `make demo`, and a server over its model repository."""

    folder: Path
    url: str

    def run(self, command: str) -> str:
        """Run a printed command; a load test may miss its objectives, which need more requests."""
        for printed, meant in (MEANT | SHORTER | {"localhost:8001": self.url}).items():
            command = command.replace(printed, meant)
        if re.match(r"(\.venv/bin/)?altreco (doctor|recommend)", command):
            command += f" --url {self.url}"
        if command.startswith(EXPORT):
            return run_here(command, self.folder)
        return run(command, self.folder, codes=(0, 1) if "loadtest r" in command else (0,))


@pytest.fixture(scope="module")
def checkout(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in ("build", "model_repository", ".git"):
            (folder / path.name).symlink_to(path)
    models = shutil.copytree(kept.releases(1), folder / "model_repository")
    demo = folder / "build" / "demo"
    shutil.copytree(kept.checkpoint().with_suffix(".data"), demo / "data")
    shutil.copy(kept.checkpoint(), demo / "small.pt")
    for photo in (folder / "photo.jpg", demo / "data" / "images" / "000000.jpg"):
        photo.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((300, 400, 3), 120, dtype=np.uint8)).save(photo)
    with Histories(f"sqlite:///{folder}/histories.db") as store:
        store.save("ana", "1", ["sea"])
    for seed, name in enumerate("abcdef"):
        make_run(folder / "build" / "loadtest" / name, lognormal(2000, seed=seed))
    served = shutil.copytree(models, folder / "build" / "served")
    labels = served / "classifier" / "tags.txt"
    labels.write_text("".join(f"{TAGS.get(tag, tag)}\n" for tag in labels.read_text().splitlines()))
    with serving(served) as server:
        yield Checkout(folder, server.grpc_url)


def printed(document: str) -> list[str]:
    found = commands((ROOT / document).read_text())
    return [command for command in found if not command.startswith(ELSEWHERE) and not never_run(command)]


def never_run(command: str) -> bool:
    return command.endswith((NEVER_RUN, "$SECURITY"))


def is_short(command: str) -> bool:
    return command.endswith(" --list") or not command.startswith(("make ", *LONG))


@pytest.mark.parametrize(
    "document",
    [pytest.param(document, marks=() if document == "README.md" else pytest.mark.slow) for document in DOCUMENTS],
)
def test_commands_do_what_they_say(checkout: Checkout, document: str) -> None:
    said = {
        command: checkout.run(command)
        for command in printed(document)
        if is_short(command) and not SLOW.search(command)
    }
    answers = [output for command, output in said.items() if "altreco recommend build/demo" in command]
    assert len(set(answers)) == len(answers)  # with a history, the tags are others


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/benchmarks.md", "docs/runbook.md"])
def test_links_lead_to_files_and_headings(document: str) -> None:
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", (ROOT / document).read_text()):
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", FENCED.sub("", target.read_text()), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], link


def test_contributing_names_files_that_are_there() -> None:
    paths = re.findall(r"`([\w.*-]*/[\w./*-]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert "export/calibration.py" in paths
    assert [path for path in paths if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_of_make_are_there(document: str) -> None:
    for command in printed(document):
        if command.startswith("make "):
            run(command.replace("make ", "make --dry-run ", 1))


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_slow_commands_do_what_they_say(checkout: Checkout, document: str) -> None:
    for command in printed(document):
        if is_short(command) and SLOW.search(command):
            checkout.run(command)


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_of_long_commands_are_there(document: str) -> None:
    for command in printed(document):
        for program in LONG:
            if command.startswith(program):
                known = help_of(program.partition(" --")[0])
                options = re.findall(r" (--[a-z-]+)", command)
                assert not [option for option in options if option not in known], command
