"""What a wheel of `altreco` holds."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.test_architecture import ROOT


def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    for name in tracked():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "source" / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        tmp_path,
        tmp_path / "source",
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("altreco-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = {name.partition("/")[0] for name in packed}
    assert {"deploy", "export", "loadtest", "training"} <= packages
    assert packed == {name for name in tracked() if name.partition("/")[0] in packages}
