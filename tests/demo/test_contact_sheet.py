from pathlib import Path

from altreco_client import Tag
from PIL import Image

from demo.contact_sheet import write_contact_sheet
from demo.recommend import Answer, Row
from tests.pixels import count
from training.figures import HIT


def row(folder: Path, best: str) -> Row:
    image = folder / "photo.png"
    Image.new("RGB", (224, 224), "navy").save(image)
    answers = [
        Answer("ann (owner)", {"sea": 3.0}, (Tag(best, 0.9), Tag("boat", 0.2))),
        Answer("bob", {"dog": 1.0}, (Tag("dog", 0.5), Tag("cat", 0.1))),
        Answer("no history", {}, (Tag("sky", 0.4), Tag("blue", 0.3))),
    ]
    return Row(image, ("sea", "sunset"), tuple(answers))


def test_sheet_shows_what_the_owner_tagged_in_green(tmp_path: Path) -> None:
    for name, best in (("hit", "sea"), ("miss", "car")):
        write_contact_sheet([row(tmp_path, best)], tmp_path / f"{name}.png")
    assert count(tmp_path / "hit.png", HIT) > 1000
    assert count(tmp_path / "miss.png", HIT) == 0
    assert not list(tmp_path.glob("*.partial*"))


def test_text_marks_the_owners_tags(tmp_path: Path) -> None:
    text = str(row(tmp_path, "sea"))
    assert "own tags: sea, sunset" in text
    assert "ann (owner): sea* 0.90, boat 0.20" in text
    assert "no history: sky 0.40, blue 0.30" in text
