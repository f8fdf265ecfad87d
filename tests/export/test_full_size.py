import shutil
from pathlib import Path

import pytest

from export.__main__ import main
from export.config import check_repository
from tests.called import called
from tests.kept import Kept
from tests.tiny import REPOSITORY


@pytest.mark.slow
def test_a_repository_that_can_be_loaded_replaces_the_one_before(kept: Kept, tmp_path: Path) -> None:
    folder = shutil.copytree(kept.releases(1), tmp_path / "build" / "full_size")
    (folder / "stale").touch()
    done = called(main, "random", folder, "--preset", "ablation")
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
    done = called(main, "random", tmp_path / "full_size", "--configs", tmp_path / "nowhere", "--preset", "ablation")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["full_size", "kept"]
