import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.config import check_repository
from tests.kept import Kept
from tests.tiny import REPOSITORY


def make(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "random", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_repository_that_can_be_loaded_replaces_the_one_before(kept: Kept, tmp_path: Path) -> None:
    folder = shutil.copytree(kept.releases(1), tmp_path / "build" / "full_size")
    (folder / "stale").touch()
    done = make(folder, "--preset", "ablation")
    assert (done.returncode, done.stdout) == (0, f"wrote {folder}\n"), done.stderr
    check_repository(folder)
    assert (folder / "visual_encoder" / "1" / "model.onnx").stat().st_size > 100_000
    assert not (folder / "stale").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["full_size"]
    committed, copied = (of / "visual_encoder" / "config.pbtxt" for of in (REPOSITORY, folder))
    assert copied.read_text() == committed.read_text()


def test_without_configs_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "full_size").mkdir()
    (tmp_path / "full_size" / "kept").touch()
    done = make(tmp_path / "full_size", "--configs", tmp_path / "nowhere", "--preset", "ablation")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["full_size", "kept"]
