"""Set up Triton from the `nvidia-pytriton` wheel: its executable, its backends and its environment variables.

Each check here replaces a failure that Triton itself reports unclearly or not at all.
"""

import ctypes.util
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import MissingDependency

BACKEND_SOURCES = Path(__file__).parent / "backend"
INSTALL = "pip install '.[serving]' in the root of this repository"
INSTALL_TRITON = "pip install --no-deps nvidia-pytriton==0.7.0"
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Paths of Triton's parts on this machine."""

    executable: Path
    caches: Path
    python_backend: Path
    python_stub: Path
    library_folders: tuple[Path, ...]
    has_cuda_provider: bool


def find_installation() -> Installation:
    """Find the Triton of this Python environment; raises MissingDependency, which says what to install."""
    triton = find_package("pytriton", distribution="nvidia-pytriton", how=INSTALL_TRITON) / "tritonserver"
    executable = triton / "bin" / "tritonserver"
    if not executable.is_file():
        raise MissingDependency(
            f"the installed pytriton lacks {executable}: install NVIDIA's wheel for Linux on x86-64, {INSTALL_TRITON}"
        )
    check_onnxruntime(sys.path)
    return Installation(
        executable=executable,
        caches=triton / "caches",
        python_backend=triton / "backends" / "python",
        python_stub=find_stub(triton / "python_backend_stubs", version=_python_version()),
        library_folders=(
            triton.parents[1] / "nvidia_pytriton.libs",
            *find_libpython(_libpython_folders(), version=_python_version()),
        ),
        has_cuda_provider=_has_cuda_provider(),
    )


def lay_out_backends(installation: Installation, folder: Path) -> None:
    """Copy the `python` and `onnxruntime` backends to `folder`, which is for --backend-directory."""
    # Copied, because Triton refuses links to libraries, and Python writes bytecode beside its modules.
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (*installation.python_backend.glob("*.*"), installation.python_stub):
        shutil.copy(file, python)
    onnxruntime = folder / "onnxruntime"
    onnxruntime.mkdir()
    for file in BACKEND_SOURCES.glob("*.py"):
        shutil.copy(file, onnxruntime)


def server_environment(installation: Installation) -> dict[str, str]:
    """Return the environment variables for the server; its Python stubs inherit them."""
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = _prepend(installation.library_folders, environment.get("LD_LIBRARY_PATH"))
    # The stub embeds the first `python3` on the PATH.
    environment["PATH"] = _prepend([Path(sys.executable).parent], environment.get("PATH"))
    if not installation.has_cuda_provider:
        # Otherwise Triton would put models on a GPU that this onnxruntime cannot use.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def find_stub(stubs: Path, *, version: str) -> Path:
    """Find the Python backend's stub for a version of Python; raises MissingDependency."""
    stub = stubs / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted((path.name for path in stubs.glob("*")), key=lambda name: int(name.split(".")[1])))
        raise MissingDependency(
            f"nvidia-pytriton has no Python backend for Python {version}, only for {known}: "
            f"create the environment with one of these, as in make PYTHON=python3.13"
        )
    return stub


def find_libpython(folders: Iterable[Path], *, version: str) -> list[Path]:
    """Find the folder of the shared libpython; none if the dynamic linker finds it. Raises MissingDependency."""
    name = f"libpython{version}.so.1.0"
    for folder in folders:
        if (folder / name).is_file():
            return [folder]
    if ctypes.util.find_library(f"python{version}") == name:
        return []
    raise MissingDependency(
        f"{name} is missing: Triton's Python backend needs a Python with a shared library. Install it "
        f"(Debian, Ubuntu: apt install libpython{version}), or a Python built with --enable-shared "
        f"(pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}); conda's and uv's have it"
    )


def find_package(package: str, *, distribution: str, how: str) -> Path:
    """Find the folder of an installed package without importing it; raises MissingDependency."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingDependency(f"{distribution} is not installed in {sys.prefix}: {how}")
    return Path(spec.origin).parent


def check_onnxruntime(path: Sequence[str]) -> None:
    """Raise MissingDependency if several builds of ONNX Runtime lie on the path: they own the same files."""
    found = {
        f"{name} {distribution.version}"
        for name in ONNXRUNTIMES
        for distribution in importlib.metadata.distributions(name=name, path=list(path))
    }
    if len(found) > 1:
        raise MissingDependency(
            f"{' and '.join(sorted(found))} are installed and own the same files; keep one of them: "
            f"pip uninstall {' '.join(sorted(name.split()[0] for name in found))}, then {INSTALL} "
            f"(for a GPU '.[serving-gpu]')"
        )


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _libpython_folders() -> list[Path]:
    library = sysconfig.get_config_var("LIBDIR") or "/usr/lib"
    # Debian keeps it one level down; relocated Pythons keep the LIBDIR of the machine that built them.
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    return [Path(library), Path(library, multiarch), Path(sys.base_prefix, "lib")]


def _has_cuda_provider() -> bool:
    find_package("onnxruntime", distribution="onnxruntime", how=INSTALL)
    import onnxruntime  # noqa: PLC0415 - only once it is known to be installed

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _prepend(folders: Iterable[Path], value: str | None) -> str:
    return os.pathsep.join([*map(str, folders), *([value] if value else [])])
