from pathlib import Path

import numpy as np
import polars as pl
from altreco_client import Reason, Tag
from PIL import Image

from demo.contact_sheet import METHODS, write_contact_sheet
from demo.recommend import PICTURES, Answer, Row, _pictures
from tests.pixels import count
from training.data.histories import build_histories
from training.data.manifest import SCHEMA, read_manifest
from training.evaluate import NEW
from training.figures import HIT

METRICS = {method: {"precision@5": 0.5} for method in METHODS.values()}


def row(folder: Path, best: str) -> Row:
    image = folder / "photo.png"
    Image.new("RGB", (224, 224), "navy").save(image)
    answers = (
        Answer("ann (owner)", {"sea": 3.0}, (Reason(Tag(best, 0.9), 0.3, 21.0), Reason(Tag("boat", 0.2), 0.2, 1.0))),
        Answer("bob", {"dog": 1.0}, (Reason(Tag("dog", 0.5), 0.7, 0.43), Reason(Tag("cat", 0.1), 0.1, 1.0))),
    )
    return Row(image, ("sea", "sunset"), answers, (Tag("sky", 0.4), Tag("blue", 0.3)))


def green(rows: list[Row], path: Path) -> int:
    """Green pixels, those of the served model's precision included."""
    write_contact_sheet(rows, METRICS, path)
    return count(path, HIT)


def test_sheet_shows_what_the_owner_tagged_in_green(tmp_path: Path) -> None:
    hit, miss = (green([row(tmp_path, best)], tmp_path / f"{best}.png") for best in ("sea", "car"))
    assert hit > miss + 500
    assert not list(tmp_path.glob("*.partial*"))


def test_nothing_touches_the_edge(tmp_path: Path) -> None:
    write_contact_sheet([row(tmp_path, "sea")] * 3, METRICS, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    edge = np.concatenate([pixels[:4].reshape(-1, 3), pixels[-4:].reshape(-1, 3), pixels[:, :4].reshape(-1, 3)])
    assert (edge == 255).all()
    assert (pixels[:, -4:] == 255).all()


def test_text_marks_the_owners_tags_and_gives_reasons(tmp_path: Path) -> None:
    text = str(row(tmp_path, "sea"))
    assert "own tags: sea, sunset" in text
    assert "ann (owner): sea* 0.90 (0.30 x21), boat 0.20 (0.20 x1)" in text
    assert "bob: dog 0.50 (0.70 x0.43), cat 0.10 (0.10 x1)" in text
    assert "no history: sky 0.40, blue 0.30" in text


def test_one_of_the_pictures_is_a_new_users(tmp_path: Path) -> None:
    known = [(f"{i}.jpg", f"user-{i % 5}", ["sea"], "test" if i < 10 else "train") for i in range(20)]
    new = [("20.jpg", "new", ["sky"], "history"), ("21.jpg", "new", ["sea"], "test")]
    (tmp_path / "vocabulary.txt").write_text("sea\nsky\n")
    for rows, expected in ((known + new, 1), (known, 0)):
        pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(tmp_path / "manifest.parquet")
        manifest = read_manifest(tmp_path)
        shown = _pictures(manifest, build_histories(manifest))
        users = [manifest.user_names[manifest.users[row]] for row in shown]
        assert len(set(users)) == PICTURES
        assert users.count("new") == expected


def test_data_without_new_users_shows_no_figure_of_them(tmp_path: Path) -> None:
    known = {method: values for method, values in METRICS.items() if not method.startswith(NEW)}
    write_contact_sheet([row(tmp_path, "sea")], known, tmp_path / "known.png")
    assert count(tmp_path / "known.png", HIT) < green([row(tmp_path, "sea")], tmp_path / "all.png")
