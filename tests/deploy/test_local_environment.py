"""What has to be installed, and what is said where it is not."""

from pathlib import Path

import pytest

from deploy.local import MissingDependency
from deploy.local.diagnose import start_error
from deploy.local.environment import (
    INSTALL_TRITON,
    check_onnxruntime,
    find_installation,
    find_libpython,
    find_package,
    find_stub,
    server_environment,
)

ROOT = Path(__file__).parents[2]


def test_this_environment_has_everything() -> None:
    installation = find_installation()
    assert installation.executable.is_file()
    assert installation.python_stub.is_file()
    assert all(folder.is_dir() for folder in installation.library_folders)
    path = server_environment(installation)["PATH"].split(":")[0]
    assert (Path(path) / "python3").exists()


def test_a_python_without_a_stub_is_told_which_have_one(tmp_path: Path) -> None:
    for known in ("3.9", "3.10", "3.11"):
        (tmp_path / known).mkdir()
    with pytest.raises(MissingDependency, match=r"no Python backend for Python 3\.99.*3\.9, 3\.10, 3\.11"):
        find_stub(tmp_path, version="3.99")


def test_a_missing_libpython_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"libpython3\.98\.so\.1\.0 is missing.*apt install libpython3\.98"):
        find_libpython([tmp_path], version="3.98")


def test_libpython_is_found_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "libpython3.98.so.1.0").touch()
    assert find_libpython([tmp_path / "elsewhere", tmp_path], version="3.98") == [tmp_path]


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(MissingDependency, match=r"nothing-at-all is not installed.*: pip install it"):
        find_package("nothing_at_all", distribution="nothing-at-all", how="pip install it")


def test_the_wheel_of_triton_is_the_one_that_was_tested() -> None:
    pinned = INSTALL_TRITON.split()[-1]
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("other", ["onnxruntime-gpu", "onnxruntime-openvino"])
def test_two_builds_of_onnx_runtime_are_refused(tmp_path: Path, other: str) -> None:
    for name in ("onnxruntime", other):
        folder = tmp_path / f"{name.replace('-', '_')}-1.32.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.32.0\n")
        if name == "onnxruntime":
            check_onnxruntime([str(tmp_path)])
    with pytest.raises(MissingDependency, match=rf"onnxruntime 1\.32\.0 and {other} 1\.32\.0 are installed"):
        check_onnxruntime([str(tmp_path)])


def test_a_machine_without_a_gpu_is_no_reason() -> None:
    log = "\n".join(
        [
            'E1124 06:14:53.803110 3819 server.cc:241] "CudaDriverHelper has not been initialized."',
            "Error: Failed to initialize NVML",
            'W1124 06:14:55.392480 3819 metrics.cc:798] "DCGM unable to start: DCGM initialization error"',
            'E1124 06:14:55.400000 3819 main.cc:245] "failed to start HTTP service: no reason"',
        ]
    )
    error = start_error(log, options={}, repository="model_repository", exit_code=1)
    assert str(error).splitlines()[1:] == ["  failed to start HTTP service: no reason"]


def test_a_model_that_lacks_a_gpu_is_a_reason() -> None:
    log = (
        "E1124 06:37:01.419900 13913 model_lifecycle.cc:642] \"failed to load 'part' version 1: Internal: "
        'InvalidModel: a KIND_GPU instance needs the CUDAExecutionProvider"'
    )
    error = start_error(log, options={}, repository="model_repository", exit_code=1)
    assert "model 'part' version 1: a KIND_GPU instance needs the CUDAExecutionProvider" in str(error)


def test_an_end_without_a_word_is_told_as_such() -> None:
    error = start_error("", options={}, repository="model_repository", exit_code=-6)
    assert str(error) == "Triton ended while starting (exit code -6):\n  its log is empty"


def test_an_ensemble_names_what_it_lacks_and_not_why_again() -> None:
    log = "\n".join(
        [
            "E1124 06:37:01.419900 13913 model_lifecycle.cc:642] \"failed to load 'part' version 1: Internal: "
            'InvalidModel: no \\"good\\"\\n\\nAt:\\n  /somewhere/model.py(40): initialize\\n"',
            "E1124 06:37:01.419990 13913 model_repository_manager.cc:703] \"Invalid argument: ensemble 'whole' depends "
            "on 'part' which has no loaded version. Model 'part' loading failed with error: version 1 is at "
            'UNAVAILABLE state: Internal: InvalidModel: no \\"good\\";"',
        ]
    )
    error = start_error(log, options={}, repository="model_repository", exit_code=1)
    assert str(error).splitlines() == [
        "Triton could not load model_repository:",
        "  model 'part' version 1: no \"good\"",
        "  model 'whole': ensemble 'whole' depends on 'part' which has no loaded version",
    ]
