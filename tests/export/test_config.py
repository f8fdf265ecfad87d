import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from export.config import (
    check_config,
    check_repository,
    check_variant,
    check_vocabulary_size,
    config_files,
    parse_config,
    read_config,
    vocabulary_size,
)
from export.errors import ConfigError
from tests.deploy.models import model, tensor
from tests.tiny import REPOSITORY

COMPONENTS = ("visual_encoder", "preference_encoder", "classifier")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_variants(tmp_path / "model_repository")


def copy_variants(destination: Path) -> Path:
    """The committed configs with their variants, for a test to edit."""
    return shutil.copytree(REPOSITORY, destination, ignore=shutil.ignore_patterns("[0-9]*", "tags.txt", ".*"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_committed_configs_and_variants_fit_each_other() -> None:
    check_repository(REPOSITORY)
    check_vocabulary_size(REPOSITORY, vocabulary_size(REPOSITORY))


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_has_the_variants_and_they_say_what_was_not_run(component: str) -> None:
    default, *files = config_files(REPOSITORY, component)
    variants = [path for path in files if path.name != "native-cpu.pbtxt"]
    assert (default.name, [path.name for path in variants]) == ("config.pbtxt", ["gpu.pbtxt", "tensorrt.pbtxt"])
    assert (len(files) > len(variants)) == (component == "visual_encoder")
    for path in variants:
        assert path.read_text().startswith("# Not run on a GPU yet")
        config = parse_config(path)
        assert [group.KIND_GPU for group in config.instance_group] == [group.kind for group in config.instance_group]
        assert config.max_batch_size > read_config(REPOSITORY, component).max_batch_size
        assert config.model_warmup[-1].batch_size == config.max_batch_size
        assert config.response_cache.enable == (component == "visual_encoder")


def test_cuda_options_say_the_same_in_both_places() -> None:
    algorithms, strategies = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"), ("kNextPowerOfTwo", "kSameAsRequested")
    for component in COMPONENTS:
        config = parse_config(REPOSITORY / component / "configs" / "gpu.pbtxt")
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        deprecated = {key: int(value.string_value) for key, value in config.parameters.items() if "intra" not in key}
        meant = {
            key: (algorithms if key == "cudnn_conv_algo_search" else strategies)[number]
            for key, number in deprecated.items()
        }
        assert {**accelerator.parameters} == {"use_tf32": "0", **meant}
        assert "arena_extend_strategy" in meant


def test_tensorrt_variants_cache_engines_each_in_a_folder_of_its_own() -> None:
    folders = set()
    for component in COMPONENTS:
        config = parse_config(REPOSITORY / component / "configs" / "tensorrt.pbtxt")
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert accelerator.name == "tensorrt"
        assert "precision_mode" not in accelerator.parameters
        assert accelerator.parameters["trt_engine_cache_enable"] == "1"
        folders.add(accelerator.parameters["trt_engine_cache_path"])
    assert len(folders) == len(COMPONENTS)
    assert all(Path(folder).is_absolute() for folder in folders)


DEFAULT, GPU, TENSORRT = "config.pbtxt", "configs/gpu.pbtxt", "configs/tensorrt.pbtxt"
GROUPED = "preferred_batch_size: [ 32 ]"


@pytest.mark.parametrize(
    ("model", "file", "old", "new", "message"),
    [
        ("classifier", DEFAULT, 'name: "classifier"', 'name: "other"', "name: expected 'classifier', found 'other'"),
        ("classifier", GPU, '"onnxruntime"', '"python"', "backend: expected 'onnxruntime', found 'python'"),
        (
            "classifier",
            TENSORRT,
            'parameters { key: "trt_engine_cache_enable"',
            'parameters { key: "precision_mode" value: "FP16" } parameters { key: "trt_engine_cache_enable"',
            "tensorrt precision_mode: expected '', found 'FP16': TensorRT 11 takes its types from the files; release",
        ),
        ("classifier", TENSORRT, "max_batch_size:", "max_batch:", "is not a valid model configuration: .*max_batch"),
        ("visual_encoder", DEFAULT, "UINT8 dims", "FP32 dims", "input: expected .*TYPE_UINT8.* found .*TYPE_FP32"),
        ("visual_encoder", GPU, "[ 64, 7, 7 ]", "[ 64, 14, 14 ]", r"output: expected .*\[64, 7, 7\].* found .*14, 14"),
        ("classifier", GPU, "[ 64, 7, 7 ]", "[ 2048, 7, 7 ]", r"input: expected .*\[64, 7, 7\].* found .*\[2048, 7, 7"),
        ("classifier", GPU, '"USER_PREFERENCE"', '"PREFERENCE"', "input: expected .*USER_PREF.* found .*'PREFERENCE'"),
        (
            "classifier",
            TENSORRT,
            "[ 1540 ] zero",
            "[ 60 ] zero",
            r"warmup 'one' inputs: expected .*USER_PRIOR.*1540.*60",
        ),
        ("classifier", TENSORRT, "[ 1540 ] label", "[ 60 ] label", r"output: expected .*\[1540\].* found .*\[60\]"),
        ("preference_encoder", GPU, "[ 1540 ] }\n]", "[ 60 ] }\n]", r"input: expected .*\[1540\].* found .*\[60\]"),
        ("preference_encoder", DEFAULT, "[ 1540 ] zero", "[ 60 ] zero", r"warmup 'one' inputs: expected .*1540.*60"),
        ("preference_encoder", DEFAULT, "[ 1540 ]", "[ -1 ]", r"USER_TAG_COUNTS dims: expected \[N\].* found \[-1\]"),
        (
            "preference_encoder",
            DEFAULT,
            '"USER_TAG_COUNTS"',
            '"COUNTS"',
            "USER_TAG_COUNTS dims: .* found no such input",
        ),
        (
            "classifier",
            DEFAULT,
            ' label_filename: "tags.txt"',
            "",
            "TAGS label_filename: expected 'tags.txt', found ''",
        ),
        (
            "visual_encoder",
            DEFAULT,
            "policy { all { } }",
            "policy { latest { } }",
            "policy: expected 'all', found 'latest'",
        ),
        ("visual_encoder", GPU, "version_policy { all { } }", "", "version_policy: expected 'all', found 'none, which"),
        ("visual_encoder", DEFAULT, "size: 32", "size: 0", "dynamic batch: expected True, found False"),
        ("visual_encoder", GPU, "max_batch_size: 128", "max_batch_size: 16", "expected at least 32, .* found 16"),
        (
            "visual_encoder",
            GPU,
            "max_queue_delay_microseconds: 2000",
            "default_queue_policy { default_timeout_microseconds: 1000 allow_timeout_override: true }",
            "queue policy: .*default_timeout_microseconds.*allow_timeout_override.*prefetching",
        ),
        (
            "visual_encoder",
            DEFAULT,
            "preferred_batch_size: [ 4 ]",
            "default_queue_policy { max_queue_size: 8 }",
            "queue policy: .*max_queue_size.*prefetching",
        ),
        (
            "visual_encoder",
            DEFAULT,
            "preferred_batch_size: [ 4 ]",
            "priority_levels: 2 default_priority_level: 1",
            "queue policy: .*priority_levels.*prefetching",
        ),
        (
            "visual_encoder",
            GPU,
            " batch_size: 128",
            " batch_size: 256",
            "'largest' batch_size: expected 1 to 128 .* 256",
        ),
        (
            "visual_encoder",
            TENSORRT,
            GROUPED,
            "preferred_batch_size: [ 256 ]",
            "preferred_batch_size: .*1 to 128.* 256",
        ),
        (
            "visual_encoder",
            TENSORRT,
            "IMAGE:128x",
            "IMAGE:64x",
            "max_shapes: expected .*IMAGE:128x224.* found .*IMAGE:64x",
        ),
        (
            "visual_encoder",
            TENSORRT,
            "IMAGE:1x224",
            "IMAGE:8x224",
            "min_shapes: expected .*IMAGE:1x224.* found .*:8x224",
        ),
        (
            "visual_encoder",
            TENSORRT,
            "IMAGE:32x224",
            "IMAGE:999x224",
            "opt_shapes batch: expected 1 to 128 .*found 999",
        ),
        ("preference_encoder", TENSORRT, ":32x1540", ":32x60", "opt_shapes: expected .*32x1540'.* found .*32x60'"),
        ("classifier", TENSORRT, ",USER_PREFERENCE:1x128", "", "min_shapes: expected .*USER_PREFERENCE:1x128.* found"),
        ("classifier", TENSORRT, "trt_profile_opt_shapes", "trt_detailed_build_log", "opt_shapes: expected .* found"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    repository: Path, model: str, file: str, old: str, new: str, message: str
) -> None:
    path = repository / model / file
    edit(path, old, new)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}:? .*{message}"):
        check_repository(repository)


def test_a_profile_in_another_order_fits(repository: Path) -> None:
    text = "VISUAL_ENCODING:1x64x7x7,USER_PREFERENCE:1x128,USER_PRIOR:1x1540"
    edit(repository / "classifier" / TENSORRT, text, ",".join(reversed(text.split(","))))
    check_repository(repository)


def test_a_smaller_request_is_the_platform_teams_choice(repository: Path) -> None:
    edit(repository / "classifier" / DEFAULT, "max_batch_size: 32", "max_batch_size: 8")
    check_repository(repository)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tensorrt_wants_a_release_in_fp16(repository: Path, precision: str) -> None:
    for variant in ("gpu", "native-cpu"):
        check_variant(repository, variant, precision)
    check_variant(repository, "tensorrt", "fp16")
    with pytest.raises(ConfigError, match=rf"tensorrt\.pbtxt: expected an fp16 release, found {precision}: .*fp16`$"):
        check_variant(repository, "tensorrt", precision)


def test_an_unknown_variant_is_refused_with_the_known_ones(repository: Path) -> None:
    with pytest.raises(ConfigError, match=r"no variant 'tpu': expected one of gpu, native-cpu, tensorrt$"):
        check_variant(repository, "tpu", "fp32")


def test_a_variant_of_the_ensemble_is_refused(repository: Path) -> None:
    folder = repository / "tag_recommender" / "configs"
    folder.mkdir()
    shutil.copy(repository / "tag_recommender" / DEFAULT, folder / "gpu.pbtxt")
    with pytest.raises(ConfigError, match=r"tag_recommender/configs/gpu\.pbtxt: expected no variant of the ensemble"):
        check_repository(repository)


def test_what_is_no_repository(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Triton model repository with visual_encoder, "):
        check_repository(tmp_path)
    (repository / "classifier" / DEFAULT).write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"classifier/config\.pbtxt is not a valid model configuration: .*utf-8"):
        check_repository(repository)


def test_the_vocabulary_of_a_variant_counts(repository: Path) -> None:
    edit(repository / "classifier" / GPU, "[ 1540 ] label", "[ 60 ] label")
    with pytest.raises(
        ConfigError, match=r"classifier/configs/gpu\.pbtxt: output TAGS dims: expected \[1540\].*\[60\]"
    ):
        check_vocabulary_size(repository, 1540)


def visual_encoder(folder: Path, image: Sequence[int | str], element_type: int = TensorProto.UINT8) -> Path:
    """An ONNX file with this input, and the contract's output."""
    outputs = [tensor("VISUAL_ENCODING", ("batch", 64, 7, 7))]
    onnx.save(model([], [tensor("IMAGE", image, element_type)], outputs), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("file", [DEFAULT, GPU, TENSORRT])
def test_every_variant_is_compared_with_the_onnx_file(repository: Path, tmp_path: Path, file: str) -> None:
    fits = visual_encoder(tmp_path, ("batch", 224, 224, 3))
    check_config(repository, "visual_encoder", fits)
    edit(repository / "visual_encoder" / file, "[ 224, 224, 3 ] }", "[ 3, 224, 224 ] }")
    with pytest.raises(ConfigError, match=rf"{file}: input: expected .*\[224, 224, 3\].* found .*\[3, 224, 224\]"):
        check_config(repository, "visual_encoder", fits)


def test_an_onnx_file_of_another_type_or_size_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.pbtxt: input: expected .*TYPE_FP32.* found .*TYPE_UINT8"):
        check_config(repository, "visual_encoder", visual_encoder(tmp_path, ("batch", 224, 224, 3), TensorProto.FLOAT))
    with pytest.raises(
        ConfigError, match=r"config\.pbtxt: input: expected .*\[299, 299, 3\].* found .*\[224, 224, 3\]"
    ):
        check_config(repository, "visual_encoder", visual_encoder(tmp_path, ("batch", 299, 299, 3)))
