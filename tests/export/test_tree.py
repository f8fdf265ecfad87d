"""What a repository may hold: whoever may write to it must not make a server run or read anything else."""

import os
import re
import shutil
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.__main__ import main
from export.catalogue import list_releases, prune, rollback
from export.config import check_config
from export.errors import ConfigError, ReleaseError
from export.tree import check_fields, check_tree, foreign
from export.verify import verify


@pytest.fixture
def repository(tmp_path: Path, released: Path) -> Path:
    return shutil.copytree(released, tmp_path / "model_repository")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("visual_encoder/1/libtriton_onnxruntime.so", None),
        ("classifier/1/model.py", None),
        ("classifier/1/weights.bin", None),
        ("classifier/libother.so", None),
        ("classifier/configs/lib.so", None),
        ("preference_encoder/tags.txt", None),
        ("tag_recommender/1/model.py", None),
        ("tag_recommender/1/probe/model.py", None),
        ("libtriton_onnxruntime.so", None),
        ("another/config.pbtxt", "another"),
        ("visual_encoder/warmup/data", "visual_encoder/warmup"),
        ("visual_encoder/01/model.onnx", "visual_encoder/01"),
        ("visual_encoder/9/model.onnx", "visual_encoder/9, visual_encoder/9/model.onnx"),
        ("classifier/1/\x1b[2K.so", r"classifier/1/\x1b[2K.so"),
    ],
)
def test_a_file_that_no_release_has_is_refused_by_name(repository: Path, name: str, refused: str | None) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).touch()
    with pytest.raises(ReleaseError, match=re.escape(f"holds what no release has: {refused or name}. Remove it")):
        verify(repository)
    assert main(["probe", str(repository)]) == 1
    assert not (repository / "tag_recommender" / "1" / "probe" / "allowed").exists()


@pytest.mark.parametrize("name", ["lost+found", "..data", ".git"])
def test_a_foreign_folder_is_shown_with_what_to_do(repository: Path, name: str) -> None:
    (repository / name).mkdir()
    with pytest.raises(ReleaseError, match=rf"{re.escape(name)}\. .*use a folder below it \(subPath in Kubernetes\)"):
        verify(repository)
    assert list_releases(repository).splitlines()[-1] == f"no part of a release: {name}"


def test_what_is_no_plain_file_is_refused(repository: Path, tmp_path: Path) -> None:
    for name in ("classifier/1/model.onnx", "visual_encoder/1", "tag_recommender/1/release.json"):
        moved = (repository / name).rename(tmp_path / "outside")
        (repository / name).symlink_to(moved)
        assert name in foreign(repository)
        (repository / name).unlink()
        moved.rename(repository / name)
    (repository / "classifier" / "tags.txt").unlink()
    os.mkfifo(repository / "classifier" / "tags.txt")
    assert foreign(repository) == ["classifier/tags.txt"]


def test_what_commands_leave_where_triton_does_not_look_is_no_fault(repository: Path) -> None:
    for name in (
        "tag_recommender/.staging",
        "classifier/.3.gone",
        "classifier/.4.withdrawn",
        "tag_recommender/1/.probe",
    ):
        (repository / name).mkdir()
        (repository / name / "lib.so").touch()
    (repository / "tag_recommender" / ".config.pbtxt.partial").touch()
    check_tree(repository)


ACCELERATOR = "optimization.execution_accelerators.gpu_execution_accelerator"


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ('runtime: "libother.so"', "runtime"),
        ('default_model_filename: "other.onnx"', "default_model_filename"),
        ('model_operations { op_library_filename: "ops.so" }', "model_operations.op_library_filename"),
        ('model_repository_agents { agents { name: "x" } }', "model_repository_agents.agents.name"),
        ('cc_model_filenames { key: "8.0" value: "x" }', "cc_model_filenames"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        ("sequence_batching { }", "sequence_batching"),
        ('parameters { key: "EXECUTION_ENV_PATH" value: { string_value: "e" } }', "parameters[EXECUTION_ENV_PATH]"),
        ('parameters { key: "execution_mode" value: { string_value: "x" } }', "parameters[execution_mode] 'x'"),
        ('instance_group { name: "x;id" }', "instance_group.name"),
        ('output { name: "TAGS" label_filename: "../../etc/hosts" }', "output.label_filename '../../etc/hosts'"),
        ('model_warmup { inputs { key: "X" value: { input_data_file: "x" } } }', "model_warmup.inputs.input_data_file"),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "openvino" } } }',
            "optimization.execution_accelerators.cpu_execution_accelerator.name",
        ),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" parameters '
            '{ key: "trt_engine_cache_path" value: "/models/classifier" } } } }',
            f"{ACCELERATOR}.parameters[trt_engine_cache_path] '/models/classifier'",
        ),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "cuda" parameters '
            '{ key: "gpu_external_alloc" value: "1" } } } }',
            f"{ACCELERATOR}.parameters[gpu_external_alloc]",
        ),
    ],
)
def test_a_field_that_is_not_on_the_list_is_refused_by_name(field: str, named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"fields and values of FIELDS in export/tree.py, found {named}")):
        check_fields(Path("config.pbtxt"), text_format.Parse(field, pb.ModelConfig()))


def test_a_release_with_such_a_field_is_not_verified(repository: Path) -> None:
    path = repository / "classifier" / "config.pbtxt"
    path.write_text(path.read_text() + 'runtime: "libother.so"')
    with pytest.raises(ConfigError, match=re.escape(f"{path}: expected none but the fields")):
        verify(repository)


def test_the_ensemble_is_what_export_writes(repository: Path) -> None:
    path = repository / "tag_recommender" / "config.pbtxt"
    text = path.read_text()
    last = text.rindex("model_version: 1")
    for changed in (
        text[:last] + text[last:].replace("1", "2", 1),
        text.replace("max_batch_size: 32", "max_batch_size: 64"),
        f'{text}\nruntime: "x"',
    ):
        path.write_text(changed)
        with pytest.raises(ConfigError, match=r"tag_recommender/config\.pbtxt: expected what `export` writes"):
            verify(repository)


def test_weights_outside_the_file_are_refused(repository: Path) -> None:
    path = repository / "classifier" / "1" / "model.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="release.json", size_threshold=0)
    (path.parent / "release.json").unlink()
    with pytest.raises(ConfigError, match="expected all weights inside the file, found a reference to another"):
        check_config(repository, "classifier", path)


@pytest.mark.parametrize("name", [".lock", ".config.pbtxt.partial"])
def test_no_command_writes_through_a_link(two: Path, tmp_path: Path, name: str) -> None:
    repository = shutil.copytree(two, tmp_path / "model_repository")
    outside = tmp_path / "outside"
    outside.write_text("precious")
    link = repository / "tag_recommender" / name
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    for command in (lambda: rollback(repository, 1), lambda: prune(repository, 1)):
        with pytest.raises(
            ReleaseError, match=rf"holds links, which no command follows: tag_recommender/{re.escape(name)}"
        ):
            command()
    assert outside.read_text() == "precious"
