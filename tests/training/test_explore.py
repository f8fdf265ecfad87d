import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from altreco_client import Reason, Tag, Vocabulary, prepare
from numpy.typing import NDArray
from PIL import Image

from tests.pixels import count
from tests.tiny import save_tiny_checkpoint, tiny_settings
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.histories import build_histories
from training.data.manifest import Manifest, read_manifest
from training.explore.__main__ import main
from training.explore.growth import Answer, Exploration, Step, explore
from training.explore.show import format_exploration, write_figure
from training.figures import HIT, NEW
from training.model import ALTReco

TAGS = 12
ROWS = [
    ("bob", [6], "test"),
    ("ann", [9, 1], "test"),
    ("ann", [0, 1], "train"),
    ("bob", [6, 7], "train"),
    ("ann", [1, 2], "train"),
    ("ann", [10], "validation"),
    ("ann", [3, 1], "train"),
    ("cid", [1, 6], "train"),
    ("ann", [1], "train"),
    ("bob", [6], "train"),
    ("ann", [5, 4], "train"),
]
BOBS, ANNS = 0, 1
"""Rows of the test pictures."""


def write_data(folder: Path, rows: list[tuple[str, list[int], str]]) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    table = []
    for i, (user, tags, split) in enumerate(rows):
        Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        table.append((f"{i}.png", user, [f"tag-{tag}" for tag in tags], split))
    frame = pl.DataFrame(table, schema=["image", "user", "tags", "split"], orient="row")
    frame.write_parquet(folder / "manifest.parquet")
    (folder / "vocabulary.txt").write_text("".join(f"tag-{i}\n" for i in range(TAGS)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("explore") / "data", ROWS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("explore") / "tiny.pt", tags=TAGS, hits=True)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> ALTReco:
    return load_checkpoint(checkpoint).model


@pytest.fixture(scope="module")
def manifest(data: Path) -> Manifest:
    return read_manifest(data)


def check(tags: tuple[Tag, ...], model: ALTReco, manifest: Manifest, history: NDArray[np.float32]) -> None:
    """These are the best of what the model recommends on Ann's picture for this history."""
    image = torch.tensor(prepare(manifest.root / manifest.images[ANNS]).tensor)[None]
    with torch.inference_mode():
        scores = model.recommend(image, torch.from_numpy(history)[None])[0]
    of_tag = {f"tag-{i}": score for i, score in enumerate(scores.tolist())}
    assert [tag.score for tag in tags] == pytest.approx([of_tag[tag.name] for tag in tags], abs=1e-5)
    assert [tag.score for tag in tags] == pytest.approx(scores.topk(len(tags)).values.tolist(), abs=1e-5)


def test_history_grows_from_none_to_all_of_it(model: ALTReco, manifest: Manifest) -> None:
    histories = build_histories(manifest)
    found = explore(model, manifest, histories, ANNS, users=None, k=5)
    assert (found.image, found.owner, found.own_tags) == ("1.png", "ann", ("tag-1", "tag-9"))
    assert [step.share for step in found.steps] == [0, 25, 50, 75, 100]
    assert [step.pictures for step in found.steps] == [0, 2, 3, 4, 5]
    ann = manifest.user_names.index("ann")
    check(found.steps[0].tags, model, manifest, np.zeros(TAGS, dtype=np.float32))
    two_pictures = np.array([1, 2, 1] + [0] * (TAGS - 3), dtype=np.float32)
    check(found.steps[1].tags, model, manifest, two_pictures)
    check(found.steps[-1].tags, model, manifest, histories.tag_counts(ann))
    assert len({step.tags for step in found.steps}) > 1


def test_each_step_adds_its_new_tags_most_used_first(model: ALTReco, manifest: Manifest) -> None:
    found = explore(model, manifest, build_histories(manifest), ANNS, users=None, k=5)
    assert [step.added for step in found.steps] == [
        (),
        ("tag-1", "tag-0", "tag-2"),
        ("tag-3",),
        (),
        ("tag-4", "tag-5"),
    ]


def test_what_came_up_was_not_there_before(model: ALTReco, manifest: Manifest) -> None:
    found = explore(model, manifest, build_histories(manifest), ANNS, users=None, k=3)
    names = [{tag.name for tag in step.tags} for step in found.steps]
    assert found.steps[0].came_up == set()
    assert [step.came_up for step in found.steps[1:]] == [now - before for before, now in pairwise(names)]
    assert any(step.came_up for step in found.steps)


def test_same_picture_for_the_owner_and_the_least_similar_user(model: ALTReco, manifest: Manifest) -> None:
    histories = build_histories(manifest)
    found = explore(model, manifest, histories, ANNS, users=None, k=5)
    assert [answer.user for answer in found.answers] == ["ann", "bob"]
    assert [answer.used for answer in found.answers] == [
        ("tag-1", "tag-0", "tag-2", "tag-3", "tag-4", "tag-5"),
        ("tag-6", "tag-7"),
    ]
    for answer in found.answers:
        check(
            tuple(reason.tag for reason in answer.reasons),
            model,
            manifest,
            histories.tag_counts(manifest.user_names.index(answer.user)),
        )


def test_reasons_are_the_score_without_history_and_what_the_history_does(model: ALTReco, manifest: Manifest) -> None:
    found = explore(model, manifest, build_histories(manifest), ANNS, users=None, k=TAGS)
    alone = {tag.name: tag.score for tag in found.steps[0].tags}
    for reason in found.answers[0].reasons:
        assert reason.picture == alone[reason.tag.name]
    changed = [reason for reason in found.answers[0].reasons if 0.01 < reason.picture < 0.99]
    assert changed
    for reason in changed:
        logits = [math.log(score / (1 - score)) for score in (reason.tag.score, reason.picture)]
        assert math.log(reason.history) == pytest.approx(logits[0] - logits[1], abs=1e-3)


def test_a_new_users_history_grows_from_its_own_pictures(
    model: ALTReco, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [*ROWS, ("dan", [4], "test"), ("dan", [8, 9], "history"), ("dan", [8], "history")]
    manifest = read_manifest(write_data(tmp_path_factory.mktemp("new") / "data", rows))
    found = explore(model, manifest, build_histories(manifest), len(ROWS), users=None, k=5)
    assert [step.pictures for step in found.steps] == [0, 1, 1, 2, 2]
    assert found.answers[0].used == ("tag-8", "tag-9")


EXPLORATION = Exploration(
    image="0.png",
    file=Path("0.png"),
    owner="ann",
    own_tags=("sea", "boat"),
    steps=(
        Step(share=0, pictures=0, added=(), tags=(Tag("sky", 0.5), Tag("sun", 0.4)), came_up=frozenset()),
        Step(
            share=100,
            pictures=7,
            added=("sea", "sand"),
            tags=(Tag("sea", 0.9), Tag("sky", 0.5)),
            came_up=frozenset({"sea"}),
        ),
    ),
    answers=(
        Answer(
            user="ann",
            used=("sea", "sand"),
            reasons=(Reason(Tag("sea", 0.9), 0.3, 21.0), Reason(Tag("sky", 0.5), 0.5, 1.0)),
        ),
        Answer(user="bob", used=(), reasons=(Reason(Tag("sky", 0.5), 0.5, 1.0), Reason(Tag("sun", 0.4), 0.6, 0.44))),
    ),
)


def test_tables_mark_own_tags_and_what_came_up() -> None:
    assert format_exploration(EXPLORATION).splitlines() == [
        "0.png of ann, own tags: sea, boat",
        "",
        "history    0 %        100 %",
        "pictures   0          7",
        "added                 sea",
        "                      sand",
        "tags       sky 0.50   +sea* 0.90",
        "           sun 0.40   sky 0.50",
        "",
        "user         ann (owner)            bob",
        "often used   sea                    nothing",
        "             sand",
        "tags         sea* 0.90 (0.30 x21)   sky 0.50 (0.50 x1)",
        "             sky 0.50 (0.50 x1)     sun 0.40 (0.60 x0.44)",
    ]


def test_picture_shows_own_tags_in_green_and_what_came_up_in_orange(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "navy").save(tmp_path / "0.png")
    steps = [EXPLORATION.steps[0], EXPLORATION.steps[1]]
    five = replace(EXPLORATION, file=tmp_path / "0.png", steps=(*steps, *steps, steps[0]))
    plain = replace(five, own_tags=(), steps=(steps[0],) * 5)
    write_figure([five, five, five], tmp_path / "new" / "marked.png")
    write_figure([plain], tmp_path / "plain.png")
    assert min(count(tmp_path / "new" / "marked.png", colour) for colour in (HIT, NEW)) > 500
    assert max(count(tmp_path / "plain.png", colour) for colour in (HIT, NEW)) == 0
    assert not list(tmp_path.rglob("*.partial"))


def test_command_writes_tables_and_picture(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "explore.png"
    assert main([str(checkpoint), "--data", str(data), "--out", str(out), "-k", str(TAGS)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    titles = [line for line in said.out.splitlines() if "own tags" in line]
    assert titles == ["1.png of ann, own tags: tag-1, tag-9", "0.png of bob, own tags: tag-6"]  # ann has more pictures
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
        assert picture.height > 600
    assert count(out, HIT) > 1000  # all tags are recommended, so the owner's are


def test_command_takes_pictures_and_users(
    data: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "explore.png")
    names = ["--picture", "0.png", "--users", "cid", "ann"]
    assert main([str(checkpoint), "--data", str(data), "--out", out, *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0.png of bob, own tags: tag-6"
    assert [line.split() for line in lines if line.startswith("user ")] == [["user", "cid", "ann"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "ann", "zoe"], "no user 'zoe' in"),
        (["--picture", "1.png", "none.png"], "none.png is not a test picture of"),
        (["--picture", "2.png"], "2.png is not a test picture of"),
        (["--pictures", "0"], "0 pictures: expected 1 to"),
        (["-k", "0"], "k is 0: expected 1 up to 12"),
        (["-k", "13"], "k is 13: expected 1 up to 12"),
        (["--out", "{data}/0.png/explore.png"], "cannot write"),
        (["--data", "/nowhere"], "no vocabulary at /nowhere"),
    ],
)
def test_errors_are_one_line(
    data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    options = [option.replace("{data}", str(data)) for option in options]
    assert main([str(checkpoint), "--data", str(data), *options]) == 1
    assert_one_line(capsys, message)


def test_no_test_pictures(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data", [row for row in ROWS if row[2] != "test"])
    for options in ([], ["--picture", "0.png"]):
        assert main([str(checkpoint), "--data", str(data), *options]) == 1
        assert_one_line(capsys, f"{data} has no test pictures")


def test_a_picture_that_cannot_be_read(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data", ROWS)
    (data / "1.png").write_bytes(b"no picture")
    assert main([str(checkpoint), "--data", str(data)]) == 1
    assert_one_line(capsys, "cannot read an image from ...", "/data/1.png: it is 10 bytes that are not JPEG")


def test_a_checkpoint_of_another_vocabulary(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = save_tiny_checkpoint(tmp_path / "other.pt", tags=TAGS + 1)
    assert main([str(other), "--data", str(data)]) == 1
    assert_one_line(capsys, f"{other} was trained on another vocabulary")


def test_a_visual_only_checkpoint(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny_settings()
    settings = replace(
        settings, model=replace(settings.model, user_preference=False), loss=replace(settings.loss, gamma=0.0)
    )
    path = tmp_path / "visual.pt"
    model = ALTReco(settings.model, TAGS)
    vocabulary = Vocabulary(tuple(f"tag-{i}" for i in range(TAGS)))
    save_checkpoint(path, Checkpoint(model=model, settings=settings, vocabulary=vocabulary, metrics={}))
    assert main([str(path), "--data", str(data)]) == 1
    assert_one_line(capsys, f"{path} is a visual-only model")


def assert_one_line(capsys: pytest.CaptureFixture[str], message: str, then: str = "") -> None:
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert then in printed
    assert len(printed.splitlines()) == 1
