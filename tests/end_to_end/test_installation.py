"""The client's wheel in an environment that has nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.conftest import Served

CLIENT = Path(__file__).parents[2] / "client"
ENVIRONMENTS = [
    ("3.11", "2"),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("3.12", "1.26"), ("3.13", "2"))),
]
UNWANTED = ("gevent", "geventhttpclient", "aiohttp", "opentelemetry", "sqlalchemy", "psycopg", "pyarrow")
"""What tritonclient's HTTP part and our extras bring."""

PROGRAM = """
import asyncio, json, sys
import altreco_client
from altreco_client import AsyncTagRecommender, TagRecommender

url, photo = sys.argv[1:]
unwanted = ("gevent", "opentelemetry", "aiohttp", "tritonclient.http", "sqlalchemy", "pyarrow")
loaded = [name for name in sys.modules if name.startswith(unwanted)]


async def ask():
    async with AsyncTagRecommender(url, deadline_s=30) as recommender:
        return await recommender.recommend(photo, {"tag-1": 2})


with TagRecommender(url, deadline_s=30) as recommender:
    sync = recommender.recommend(photo, {"tag-1": 2})
import numpy
print(json.dumps({
    "tags": [tag.name for tag in sync.tags],
    "same": asyncio.run(ask()) == sync,
    "loaded": loaded,
    "numpy": numpy.__version__,
    "file": altreco_client.__file__,
}))
"""


def find_python(version: str) -> str | None:
    """An interpreter that runs: on the PATH, or one that pyenv has."""
    for candidate in (f"python{version}", *_of_pyenv(version)):
        path = shutil.which(candidate)
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def _of_pyenv(version: str) -> list[str]:
    if not (pyenv := shutil.which("pyenv")):
        return []
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
    return [str(path) for path in Path(root, "versions").glob(f"{version}.*/bin/python{version}")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "client"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"))
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)])
    return next(folder.glob("altreco_client-*.whl"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(np.full((600, 800, 3), 140, dtype=np.uint8)).save(path)
    return path


def run(command: list[str], **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_the_wheel_says_what_it_needs_and_that_it_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "altreco_client/py.typed" in archive.namelist()
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    needs = re.findall(r"^Requires-Dist: ([\w.-]+)(?:\[grpc\])?(?!.*extra)", metadata, re.MULTILINE)
    assert sorted(needs) == ["numpy", "pillow", "tritonclient"]


@pytest.mark.parametrize(("version", "numpy"), ENVIRONMENTS)
def test_the_wheel_alone_recommends(
    served: Served, wheel: Path, photo: Path, tmp_path: Path, version: str, numpy: str
) -> None:
    if (python := find_python(version)) is None:
        pytest.skip(f"no Python {version} on the PATH or in pyenv")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYENV"))}
    run([python, "-m", "venv", "--without-pip", str(tmp_path / "venv")], env=environment)
    binaries = tmp_path / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", str(wheel), f"numpy=={numpy}.*"], env=environment)
    installed = {package["name"].lower() for package in json.loads(run([*pip, "list", "--format", "json"]))}
    assert {"altreco-client", "tritonclient", "numpy", "pillow", "grpcio"} <= installed
    assert not [name for name in installed if name.startswith(UNWANTED)]

    program = [str(binaries / "python"), "-W", "error", "-c", PROGRAM, served.server.grpc_url, str(photo)]
    answer = json.loads(run(program, env=environment, cwd=tmp_path))
    assert len(answer["tags"]) == 5
    assert answer["same"]
    assert answer["loaded"] == []
    assert answer["numpy"].startswith(f"{numpy}.")
    assert Path(answer["file"]).is_relative_to(tmp_path)
    assert "doctor" in run([str(binaries / "altreco"), "--help"], env=environment)
