"""The synthetic data set: what the files promise, and that the tags can be learned from pictures and histories."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data import synthetic
from training.data.concepts import CONCEPTS, INTERESTS, MIN_TAGS, build_vocabulary
from training.data.drawing import SETTINGS, Scene, compose_scene, draw
from training.data.drawing.scene import Thing
from training.data.population import picture_counts, plan
from training.data.synthetic import SyntheticSettings, generate
from training.data.users import User, make_users, tag_picture
from training.errors import DataError

SMALL = SyntheticSettings(pictures=36, users=4, tags=200, seed=11)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("synthetic") / "data", SMALL, processes=1, quiet=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scene(setting: str, light: str = "day", things: tuple[Thing, ...] = (), extras: tuple[str, ...] = ()) -> Scene:
    horizon = SETTINGS[setting].horizon[0]
    return Scene(setting=setting, light=light, horizon=horizon, sun_x=0.5, extras=extras, things=things)


def mean_colour(picture: Scene, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(draw(picture, np.random.default_rng(seed)), dtype=np.float64).mean((0, 1))


def tag_counts(user: User, picture: Scene, times: int = 200) -> Counter[str]:
    rng = np.random.default_rng(5)
    return Counter(tag for _ in range(times) for tag in tag_picture(user, picture, rng))


def test_same_settings_give_same_bytes_on_any_number_of_processes(data: Path, tmp_path: Path) -> None:
    again = generate(tmp_path / "again", SMALL, processes=2, quiet=True)
    assert contents(again) == contents(data)


def test_another_seed_gives_other_pictures(data: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "other", replace(SMALL, seed=12), processes=1, quiet=True)
    assert contents(other)["images/000000.jpg"] != contents(data)["images/000000.jpg"]


def test_manifest_names_every_picture_once(data: Path) -> None:
    manifest = pl.read_parquet(data / "manifest.parquet")
    assert sorted(manifest["image"]) == sorted(f"images/{path.name}" for path in (data / "images").iterdir())
    assert len(manifest) == SMALL.pictures
    assert manifest["user"].n_unique() == SMALL.users
    with Image.open(data / manifest["image"][0]) as picture:
        assert (picture.size, picture.mode, picture.format) == ((224, 224), "RGB", "JPEG")


def test_every_picture_has_4_to_20_known_tags(data: Path) -> None:
    vocabulary = (data / "vocabulary.txt").read_text().splitlines()
    assert tuple(vocabulary) == build_vocabulary(SMALL.tags)
    for tags in pl.read_parquet(data / "manifest.parquet")["tags"].to_list():
        assert 4 <= len(tags) <= 20
        assert len(set(tags)) == len(tags)
        assert set(tags) <= set(vocabulary)


def test_every_user_has_training_and_test_pictures(data: Path) -> None:
    manifest = pl.read_parquet(data / "manifest.parquet")
    for _, own in manifest.group_by("user"):
        assert (own["split"] == "test").sum() == max(1, round(SMALL.test_share * len(own)))
        assert set(own["split"]) == {"train", "test"}


def test_new_users_have_a_history_and_test_pictures_but_no_training_picture(data: Path, tmp_path: Path) -> None:
    wider = replace(SMALL, new_users=3, validation_users=2, crowd=5, pool=30)
    out = generate(tmp_path / "wider", wider, processes=1, quiet=True)
    manifest, files = pl.read_parquet(out / "manifest.parquet"), contents(out)
    assert manifest[: SMALL.pictures].equals(pl.read_parquet(data / "manifest.parquet"))
    assert all(files[image] == contents(data)[image] for image in manifest["image"][: SMALL.pictures])
    assert set(manifest["image"]) == {name for name in files if name.startswith("images/")}
    splits = {user: set(own["split"]) for (user,), own in manifest.group_by("user")}
    assert [splits.pop(f"user{i:03d}") for i in range(9)] == [
        *[{"train", "test"}] * 4,
        *[{"history", "test"}] * 3,
        *[{"history", "validation"}] * 2,
    ]
    assert splits == {f"crowd{i:04d}": {"train"} for i in range(5)}


def test_the_crowd_shares_pictures_and_tags_them_by_its_own_habits() -> None:
    rows, drawings = plan(replace(SMALL, crowd=40, pool=60), build_vocabulary(SMALL.tags))
    crowd = [row for row in rows if row.user.startswith("crowd")]
    of_user = Counter(row.user for row in crowd)
    assert 12 <= min(of_user.values()) < max(of_user.values()) <= 20
    assert len({(row.user, row.image) for row in crowd}) == len(crowd), "nobody has a picture twice"
    shared = {row.image for row in crowd}
    assert len(shared) <= 60
    assert {drawing.image for drawing in drawings} == {row.image for row in rows}
    assert len(drawings) == SMALL.pictures + len(shared)
    assert len({tuple(row.tags) for row in crowd}) > len(crowd) / 2


def test_a_smaller_crowd_is_the_start_of_a_larger_one() -> None:
    small, large = (plan(replace(SMALL, crowd=n, pool=60), build_vocabulary(SMALL.tags))[0] for n in (3, 9))
    assert large[: len(small)] == small


def test_settings_are_written_beside_the_data(data: Path) -> None:
    assert json.loads((data / "settings.json").read_text())["seed"] == SMALL.seed


def test_a_complete_data_set_is_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (data / "manifest.parquet").stat().st_mtime_ns
    assert generate(data, SMALL) == data
    assert (data / "manifest.parquet").stat().st_mtime_ns == before
    assert "reusing" in capsys.readouterr().out


def test_other_settings_are_refused(data: Path) -> None:
    before = contents(data)
    with pytest.raises(DataError, match="another data set"):
        generate(data, replace(SMALL, seed=99), quiet=True)
    assert contents(data) == before


@pytest.mark.parametrize("name", ["data", "data.partial"])
def test_foreign_folders_are_left_alone(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / name / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("years of work")
    with pytest.raises(DataError, match="choose another folder"):
        generate(tmp_path / "data", SMALL, quiet=True)
    assert foreign.read_text() == "years of work"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="choose another folder"):
        generate(tmp_path / "data", SMALL, quiet=True)


def test_a_crash_leaves_no_data_set_and_the_next_run_recovers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_draw_one", full_disk)
        with pytest.raises(DataError, match=r"cannot write .*no space"):
            generate(tmp_path / "data", SMALL, processes=1, quiet=True)
    assert not (tmp_path / "data").exists()
    generate(tmp_path / "data", SMALL, processes=1, quiet=True)
    assert contents(tmp_path / "data") == contents(data)
    assert not (tmp_path / "data.partial").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"new_users": -1},
        {"crowd": 1, "pool": 19},
        {"pictures": 7, "users": 4},
        {"tags": MIN_TAGS - 1},
        {"test_share": 1.0},
        {"seed": -1},
    ],
    ids=",".join,
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="expected"):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_command_reports_a_refusal_without_a_traceback(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthetic.main([str(data), "--seed", "99"]) == 1
    assert "another data set" in capsys.readouterr().err


@pytest.mark.parametrize("n", [MIN_TAGS, 64, 1540, 3000])
def test_vocabulary_has_exactly_n_plain_words(n: int) -> None:
    vocabulary = build_vocabulary(n)
    assert len(vocabulary) == len(set(vocabulary)) == n
    assert all(tag.isascii() and tag.isalnum() and tag == tag.lower() for tag in vocabulary)
    assert build_vocabulary(n + 10)[:n] == vocabulary


def test_a_vocabulary_too_small_for_the_scenes_is_refused() -> None:
    with pytest.raises(DataError, match=f"at least {MIN_TAGS}"):
        build_vocabulary(MIN_TAGS - 1)


def test_every_concept_belongs_to_one_interest() -> None:
    assert sorted(concept for concepts in INTERESTS.values() for concept in concepts) == sorted(CONCEPTS)


@pytest.mark.parametrize("tags", [MIN_TAGS, 64])
def test_every_scene_has_tags_even_in_a_tiny_vocabulary(tags: int) -> None:
    users = make_users(8, build_vocabulary(tags), seed=3)
    for index in range(400):
        rng = np.random.default_rng(index)
        assert tag_picture(users[index % 8], compose_scene(rng), rng)


def test_two_users_tag_one_scene_differently_and_each_by_habit() -> None:
    first, second = make_users(2, build_vocabulary(1540), seed=SMALL.seed)
    notices_all = dict.fromkeys(CONCEPTS, 1.0)
    picture = scene("sea", extras=("beach",))
    ways = {"ocean": replace(first, notices=notices_all, words={**first.words, "sea": ("ocean", "sea")})}
    ways["sea"] = replace(second, notices=notices_all, words={**second.words, "sea": ("sea", "ocean")})
    for word, user in ways.items():
        counts = tag_counts(user, picture)
        other = "sea" if word == "ocean" else "ocean"
        assert counts[word] > 180
        assert counts[other] < counts[word]
        for tag, chance in user.habits.items():
            assert counts[tag] / 200 >= chance - 0.15


def test_a_user_resembles_their_own_past_more_than_other_users() -> None:
    users = make_users(12, build_vocabulary(1540), seed=4)
    pictures = [compose_scene(np.random.default_rng([8, index])) for index in range(60)]

    def often(user: User, seed: int) -> set[str]:
        rng = np.random.default_rng(seed)
        counts = Counter(tag for picture in pictures for tag in tag_picture(user, picture, rng))
        return {tag for tag, _ in counts.most_common(15)}

    past, future = [often(user, 1) for user in users], [often(user, 2) for user in users]
    own = np.mean([len(a & b) for a, b in zip(past, future, strict=True)])
    others = np.mean([len(past[i] & future[j]) for i in range(12) for j in range(12) if i != j])
    assert own > 10
    assert others < 0.6 * own


def test_users_notice_different_things() -> None:
    user = make_users(1, build_vocabulary(1540), seed=1)[0]
    picture = scene("field", things=(Thing(kind="dog", x=0.5, y=0.9, size=0.3, colour=(90, 60, 40), mirrored=False),))
    fond = tag_counts(replace(user, notices={**user.notices, "dog": 0.95}), picture)
    indifferent = tag_counts(replace(user, notices={**user.notices, "dog": 0.05}), picture)
    dog = user.words["dog"][0]
    assert fond[dog] > 3 * indifferent[dog]


def test_habits_of_users_overlap_but_differ() -> None:
    users = make_users(20, build_vocabulary(1540), seed=2)
    favourites = Counter(user.words["sea"][0] for user in users)
    assert 1 < len(favourites) < 20
    assert len({user.rare[:3] for user in users}) == 20


def test_picture_counts_add_up_with_a_heavy_tail() -> None:
    counts = picture_counts(3000, 60, np.random.default_rng(0))
    assert counts.sum() == 3000
    assert counts.min() >= 12
    assert counts.max() > 2.5 * np.median(counts)


def test_night_is_darker_than_day() -> None:
    for setting in ("sea", "field", "city", "snow"):
        assert mean_colour(scene(setting, "night")).mean() < 0.6 * mean_colour(scene(setting)).mean()


def test_colours_tell_the_settings_apart() -> None:
    sea, forest, desert = (mean_colour(scene(name)) for name in ("sea", "forest", "desert"))
    assert sea[2] - sea[0] > desert[2] - desert[0] + 40
    assert forest[1] > max(forest[0], forest[2])
    assert mean_colour(scene("snow")).mean() > mean_colour(scene("forest")).mean() + 60
    sunset = mean_colour(scene("sea", "sunset"))
    assert sunset[0] - sunset[2] > sea[0] - sea[2] + 40


def test_black_and_white_has_no_colour() -> None:
    red, green, blue = mean_colour(scene("field", extras=("bw",)))
    assert red == green == blue


def test_things_cover_a_visible_part_of_the_picture() -> None:
    for setting in SETTINGS.values():
        for choice in setting.choices:
            assert 0.2 <= choice.size[0] <= choice.size[1] <= 0.85


def test_every_thing_can_be_seen() -> None:
    kinds = {choice.kind for setting in SETTINGS.values() for choice in setting.choices} | {"flower"}
    empty = np.asarray(draw(scene("field"), np.random.default_rng(1)), dtype=np.float64)
    for kind in kinds:
        thing = Thing(kind=kind, x=0.5, y=0.9, size=0.5, colour=(200, 40, 40), mirrored=False)
        with_thing = np.asarray(draw(scene("field", things=(thing,)), np.random.default_rng(1)), dtype=np.float64)
        changed = np.abs(with_thing - empty).max(2) > 60
        assert changed.mean() > 0.02, kind


def test_the_same_scene_is_photographed_with_other_noise() -> None:
    picture = scene("lake")
    first, second = (np.asarray(draw(picture, np.random.default_rng(seed))) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, np.asarray(draw(picture, np.random.default_rng(1))))
