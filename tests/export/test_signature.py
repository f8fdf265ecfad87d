"""Signed repositories: checked by `export verify --public-key`, and by the container's probe before Triton starts."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from altreco_client import InvalidRequest
from cryptography.hazmat.primitives.asymmetric import ec

from export.__main__ import main
from export.errors import ReleaseError, SignatureError
from export.signature import check_signature, sign
from export.tree import SIGNATURE_FILE
from tests.keys import Keys, make_keys
from tests.tools import require

PROBE = Path(__file__).parents[2] / "deploy" / "container" / "probe.sh"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys") / "ours")


@pytest.fixture(scope="module")
def once(released: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = shutil.copytree(released, tmp_path_factory.mktemp("signed") / "1")
    assert main(["probe", str(repository)]) == 0
    assert main(["sign", "--repository", str(repository), "--private-key", str(keys.private)]) == 0
    return repository


@pytest.fixture
def signed(once: Path, tmp_path: Path) -> Path:
    """A signed repository, copied to where a cluster would read it."""
    return shutil.copytree(once, tmp_path / "models")


def probe(repository: Path, public: Path) -> subprocess.CompletedProcess[str]:
    require("openssl")
    environment = {"MODELS": str(repository), "RELEASE": "1", "PUBLIC_KEY": str(public)}
    return subprocess.run(
        [PROBE, "signed"], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_what_was_signed_is_taken(signed: Path, keys: Keys) -> None:
    (signed / "tag_recommender" / ".lock").touch()  # commands make it
    assert main(["verify", "--repository", str(signed), "--public-key", str(keys.public)]) == 0
    done = probe(signed, keys.public)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves(signed: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    other = make_keys(tmp_path / "other", curve)
    sign(signed, other.private)
    check_signature(signed, other.public)
    assert probe(signed, other.public).returncode == 0


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.parents[3] / "outside")
    path.symlink_to(path.parents[3] / "outside")


@pytest.mark.parametrize(
    ("change_it", "named"),
    [
        (lambda models: change_byte(models / "classifier/1/model.onnx"), "classifier/1/model.onnx"),
        (lambda models: change_byte(models / "tag_recommender/config.pbtxt"), "tag_recommender/config.pbtxt"),
        (lambda models: change_byte(models / "tag_recommender/1/release.json"), "tag_recommender/1/release.json"),
        (
            lambda models: (models / "tag_recommender/1/probe/allowed").write_text("1"),
            "tag_recommender/1/probe/allowed",
        ),
        (
            lambda models: (models / "classifier/libtriton_onnxruntime.so").touch(),
            "classifier/libtriton_onnxruntime.so",
        ),
        (lambda models: (models / "classifier/tags.txt").unlink(), "classifier/tags.txt"),
        (lambda models: link(models / "classifier/1/model.onnx"), "link"),
        (lambda models: (models / SIGNATURE_FILE).unlink(), "not signed"),
        (lambda models: (models / SIGNATURE_FILE).write_text("{}"), ""),
        (lambda models: change_byte(models / SIGNATURE_FILE), ""),
    ],
)
def test_whatever_was_changed_is_refused(
    signed: Path, keys: Keys, change_it: Callable[[Path], object], named: str
) -> None:
    change_it(signed)
    with pytest.raises(SignatureError) as raised:
        check_signature(signed, keys.public)
    assert named in str(raised.value)
    done = probe(signed, keys.public)
    assert done.returncode == 1
    assert f"the release in {signed} is refused: " in done.stderr
    assert named in done.stderr


def test_another_key_is_refused(signed: Path, keys: Keys, tmp_path: Path) -> None:
    other = make_keys(tmp_path / "other")
    with pytest.raises(SignatureError, match="does not match the provided public key"):
        check_signature(signed, other.public)
    assert "it was not signed with the key of" in probe(signed, other.public).stderr
    with pytest.raises(SignatureError, match="nowhere"):
        check_signature(signed, tmp_path / "nowhere")
    assert main(["verify", "--repository", str(signed), "--public-key", str(other.public)]) == 1


def test_what_is_not_signed(signed: Path, keys: Keys, tmp_path: Path) -> None:
    keys.public.chmod(0o644)
    with pytest.raises(SignatureError, match="cannot sign"):
        sign(signed, tmp_path / "nowhere")
    (readable := tmp_path / "readable").write_bytes(keys.private.read_bytes())
    readable.chmod(0o644)
    with pytest.raises(InvalidRequest, match=r"--private-key .* has mode 0644, open to other users"):
        sign(signed, readable)
    (signed / "classifier" / "lib.so").touch()
    with pytest.raises(ReleaseError, match=r"no release has: classifier/lib\.so"):
        sign(signed, keys.private)
