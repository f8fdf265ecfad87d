"""Manifests, golden sets and requests that somebody else wrote."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from export.__main__ import main
from export.catalogue import list_releases, prune
from export.errors import GoldenSetError, ReleaseError, ServerFailure
from export.golden import load_golden_set
from export.manifest import read_manifest
from export.quality import golden_inputs
from export.repository import golden_file, manifest_file, versions
from export.served import candidate_version, connected
from export.verify import verify
from tests.client.odd_server import Odd, serving
from tests.tiny import write_tiny_data
from training.data.histories import build_histories
from training.data.manifest import MANIFEST_FILE
from training.data.manifest import read_manifest as read_data
from training.errors import DataError


@pytest.fixture
def repository(tmp_path: Path, two: Path) -> Path:
    """A repository with release 1, and release 2, which is pinned."""
    return shutil.copytree(two, tmp_path / "model_repository")


def change(repository: Path, **values: Any) -> None:
    """Change the manifest of release 1."""
    path = manifest_file(repository, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "../../../victim"}, "version: expected int"),
        ({"version": 2}, "version: expected 1, as its folder, found 2"),
        ({"version": True}, "version: expected int"),
        ({"tags": -1}, "tags: expected int"),
        ({"tags": 1e9}, "tags: expected int"),
        ({"created": 5}, "created: expected str"),
        ({"created": "yesterday"}, "Invalid isoformat"),
        ({"preset": "x" * 10_000}, "preset: expected str"),
        ({"precision": "fp64"}, "precision: expected .*fp32"),
        ({"kept_in_float": 3}, "kept_in_float: expected tuple"),
        ({"precision_at_5": {}}, "precision_at_5: expected checkpoint and release"),
        ({"precision_at_5": {"checkpoint": 1, "release": "x"}}, "precision_at_5 release: expected float"),
        ({"gates": [{}]}, "missing"),
        ({"gates": [5]}, "expected an object with name, measured, allowed, worst"),
        ({"files": ["a"]}, "files: expected .*Mapping"),
        ({"files": {}}, "files: expected .*golden"),
        ({"files": {"../outside": "0" * 64}}, "files: expected .*golden.*outside"),
        ({"checkpoint_sha256": "0" * 63}, "expected SHA-256"),
        ({"unknown": 1}, "expected an object with version, created"),
        ({"format": "altreco-release-2"}, "its format is not altreco-release-1"),
    ],
)
def test_a_manifest_is_checked_before_it_is_used(repository: Path, values: dict[str, Any], message: str) -> None:
    change(repository, **values)
    with pytest.raises(ReleaseError, match=rf"release\.json is not a release manifest of this version.*: .*{message}"):
        read_manifest(manifest_file(repository, 1))


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "\xff", '{"format": NaN}', "1" * 5000, " " * 2**21])
def test_a_file_that_is_no_manifest(repository: Path, text: str) -> None:
    manifest_file(repository, 1).write_text(text, encoding="latin-1")
    with pytest.raises(ReleaseError):
        read_manifest(manifest_file(repository, 1))


def test_a_damaged_release_hides_no_other_and_is_left_alone(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(repository, files={})
    assert [version.state for version in versions(repository)] == ["damaged", "current"]
    assert [line.split()[-1] for line in list_releases(repository).splitlines()] == ["state", "damaged", "current"]
    assert verify(repository).passed
    for command in (["verify", "--version", "1"], ["show", "1"]):
        assert main([*command, "--repository", str(repository)]) == 1
        assert "release.json is not a release manifest" in capsys.readouterr().err
    assert main(["rollback", "--to", "1", "--repository", str(repository)]) == 1
    assert "release 1 is damaged" in capsys.readouterr().err
    prune(repository, 1)
    assert (repository / "classifier" / "1" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"allowed": 1e9}, r"says .* of 1e\+09 .*expected at most 0\.0001 in fp32"),
        ({"measured": 1.0}, r"says 1 of 0\.0001 .*expected at most 0\.0001"),
        ({"name": "another"}, "expected one gate 'ONNX Runtime to served ensemble', its manifest has 0"),
    ],
)
def test_no_manifest_allows_more_than_its_precision(repository: Path, gate: dict[str, Any], message: str) -> None:
    gates = json.loads(manifest_file(repository, 1).read_text())["gates"]
    gates[1] |= gate
    change(repository, gates=gates)
    with pytest.raises(ReleaseError, match=message):
        verify(repository, 1)
    change(repository, gates=[])
    with pytest.raises(ReleaseError, match="its manifest has 0"):
        verify(repository, 1)


def test_no_control_character_of_a_manifest_is_printed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(repository, preset="x\x1b]0;owned\x07\nforged")
    for command in (["list"], ["show", "1"], ["diff", "1", "2"]):
        assert main([*command, "--repository", str(repository)]) == 0
        shown = capsys.readouterr().out
        assert r"x\x1b]0;owned\x07\nforged" in shown
        assert "\x1b" not in shown


def npy(descr: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """A file of numpy's with this header, and less data than it says."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("array", "content"),
    [
        ("image", npy("'|u1'", (80_000, 224, 224, 3), bytes(1_000_000))),
        ("counts", npy("'<f4'", (19, 10**9), bytes(1_000_000))),
        ("tags", npy("'<f4'", (19, 10**9), bytes(1_000_000))),
        ("names", npy("'<U1000000000'", (19,), bytes(1_000_000))),
        ("names", npy("'|O'", (19,), b"")),
        ("tags", npy("'<f8'", (19, 1540), b"")),
        ("tags", npy("'<f4'", (), b"")),
        ("version", npy("'<i8'", (5,), b"")),
        ("image", b"no array"),
        ("image", npy("'|u1'", (19, 224, 224, 3), b"short")),
    ],
)
def test_a_golden_set_is_looked_at_before_it_is_unpacked(repository: Path, array: str, content: bytes) -> None:
    path = golden_file(repository, 1)
    contents: dict[str, bytes] = {}
    with np.load(path) as arrays:
        for name in arrays:
            file = io.BytesIO()
            np.save(file, arrays[name])
            contents[name] = file.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, whole in (contents | {array: content}).items():
            archive.writestr(f"{name}.npy", whole)
    with pytest.raises(GoldenSetError, match="not a readable golden set"):
        load_golden_set(path, version=1)


def test_a_golden_set_for_another_vocabulary_is_refused(repository: Path) -> None:
    change(repository, tags=1539)
    with pytest.raises(ReleaseError, match="its manifest says 1539 tags, its golden set has 1540"):
        verify(repository, 1)


def replace_first_answer(folder: Path) -> None:
    answers = min(folder.glob("*.tags"))
    answers.write_text("0.5\n" + answers.read_text().split("\n", 1)[1])


@pytest.mark.parametrize(
    ("change_it", "message"),
    [
        (lambda folder: (folder / "allowed").write_text("0.5\n"), r"allowed: expected at most 0\.0001, found '0\.5'"),
        (lambda folder: (folder / "allowed").write_text("x"), "allowed: expected at most"),
        (lambda folder: (folder / "allowed").write_text("nan"), "allowed: expected at most"),
        (lambda folder: min(folder.glob("*.request")).unlink(), "files that `export probe` writes"),
        (replace_first_answer, "is not of release 2's golden set"),
    ],
)
def test_the_startup_probe_asks_what_the_golden_set_asks(
    repository: Path, change_it: Callable[[Path], Any], message: str
) -> None:
    assert main(["probe", str(repository)]) == 0
    change_it(repository / "tag_recommender" / "2" / "probe")
    with pytest.raises(ReleaseError, match=message):
        verify(repository)


@pytest.mark.parametrize("name", ["../private.png", "/etc/private.png", "images/../../private.png"])
def test_no_picture_outside_the_data_set_gets_into_a_golden_set(tmp_path: Path, name: str) -> None:
    write_tiny_data(tmp_path / "data", tags=60)
    (tmp_path / "data" / "8.jpg").rename(tmp_path / "private.png")
    path = tmp_path / "data" / MANIFEST_FILE
    pictures = pl.read_parquet(path)
    pictures.with_columns(pl.col("image").replace("8.jpg", name)).write_parquet(path)
    data = read_data(tmp_path / "data")
    with pytest.raises(DataError, match=f"the manifest names '{name}': expected a path inside "):
        golden_inputs(data, build_histories(data))


@pytest.mark.parametrize("version", ["", "x\x1b[2K", "-1", "\u00b2"])
def test_a_server_whose_version_is_no_number(version: str) -> None:
    with (
        serving(Odd(candidate=Odd(release=version))) as url,
        pytest.raises(ServerFailure, match="of tag_recommender_candidate: expected a number") as refused,
        connected(url) as client,
    ):
        candidate_version(client)
    assert str(refused.value).isprintable()
