"""Python environments of the peers, whose dependencies are kept out of ours."""

import fcntl
import subprocess
import venv
from pathlib import Path

from benchmark.peers.errors import PeerError
from measure.files import write_text

SOURCES = Path(__file__).parent
MADE = "requirements.txt"
SHOWN = ("litserve", "bentoml", "onnxruntime", "uvloop", "httptools")


def peer_python(name: str, environments: Path, *, sources: Path = SOURCES) -> Path:
    """Return the Python of the peer's environment, made if it is missing or its requirements have changed."""
    environments.mkdir(parents=True, exist_ok=True)
    with (environments / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another benchmark may be making it
        return _made(sources / name / "requirements.txt", (environments / name).resolve())


def _made(requirements: Path, home: Path) -> Path:
    wanted = requirements.read_text(encoding="utf-8")
    python, made = home / "bin" / "python", home / MADE
    if made.exists() and made.read_text(encoding="utf-8") == wanted:
        return python
    print(f"   installing {home.name} into {home}", flush=True)
    venv.create(home, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(
            f"{home.name} cannot be installed into {home}; pip says:\n{done.stderr[-1000:]}\n"
            f"It needs a package index; the packages are in {requirements}"
        )
    write_text(made, wanted)
    return python


def peer_packages(name: str, environments: Path) -> Path:
    """Return the folder with the environment's packages."""
    (folder,) = (peer_python(name, environments).parents[1] / "lib").glob("python*/site-packages")
    return folder


def peer_versions(name: str) -> dict[str, str]:
    """Read the pinned versions of the peer and its main dependencies."""
    lines = (SOURCES / name / MADE).read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines)
    return {package: version for package, version in pinned.items() if package in SHOWN}
