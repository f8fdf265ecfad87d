"""What a real Triton does with `--model-config-name`, and with a repository that `init` made."""

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
from altreco_client import TagRecommender
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from deploy.local import ModelLoadError, Server, ServerStartError
from export.config import check_repository, parse_config, read_config
from tests.kept import FEW_TAGS, Kept
from tests.servers import serving

COMPONENTS = ("visual_encoder", "preference_encoder", "classifier")


@pytest.fixture(scope="module")
def released(kept: Kept) -> Path:
    """A repository that `init` made, with release 1. Tests that change it copy it."""
    return kept.few_tags()


@pytest.fixture
def repository(released: Path, tmp_path: Path) -> Path:
    return shutil.copytree(released, tmp_path / "model_repository")


def served(repository: Path, variant: str | None = None) -> AbstractContextManager[Server]:
    """In strict mode: configs must be complete."""
    return serving(repository, extra_args=("--model-config-name", variant) if variant else ())


def served_configs(server: Server) -> dict[str, pb.ModelConfig]:
    with triton.InferenceServerClient(server.grpc_url) as client:
        return {name: client.get_model_config(name).config for name in (*COMPONENTS, "tag_recommender")}


def recommended(server: Server) -> dict[str, float]:
    with TagRecommender(server.grpc_url, deadline_s=30) as recommender:
        assert len(recommender.vocabulary) == FEW_TAGS
        answer = recommender.recommend(np.full((224, 224, 3), 99, np.uint8), {"tag-3": 2.0}, k=5)
    return {tag.name: tag.score for tag in answer.tags}


def test_a_new_repository_is_served_after_its_first_release(released: Path) -> None:
    with served(released) as server:
        assert len(recommended(server)) == 5


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there may be a GPU")
@pytest.mark.parametrize("variant", ["gpu", "tensorrt"])
def test_triton_reads_the_committed_variants_and_misses_a_gpu(released: Path, variant: str) -> None:
    with pytest.raises(ModelLoadError, match="has kind KIND_GPU but no GPUs are available"), served(released, variant):
        pass


@pytest.mark.parametrize("variant", ["gpu", "tensorrt"])
def test_the_committed_variants_load_but_for_the_hardware(repository: Path, variant: str) -> None:
    for model in COMPONENTS:
        config = parse_config(repository / model / "configs" / f"{variant}.pbtxt")
        config.ClearField("optimization")
        for group in config.instance_group:
            group.kind = group.KIND_CPU
        (repository / model / "configs" / "here.pbtxt").write_text(text_format.MessageToString(config))
    check_repository(repository)
    with served(repository, "here") as server:
        configs = served_configs(server)
        answer = recommended(server)
    assert [configs[model].max_batch_size for model in COMPONENTS] == [128, 128, 128]
    assert configs["visual_encoder"].instance_group[0].count == (2 if variant == "gpu" else 1)
    # The ensemble has no variant: it is the release's, whatever the name.
    assert configs["tag_recommender"].max_batch_size == 32
    assert list(configs["tag_recommender"].version_policy.specific.versions) == [1]
    assert len(answer) == 5


def test_the_variant_for_the_native_backend_is_served_as_committed(released: Path) -> None:
    with served(released, "native-cpu") as server:
        (group,) = served_configs(server)["visual_encoder"].instance_group
        answer = recommended(server)
    assert (group.kind, group.count) == (group.KIND_CPU, 2)
    assert len(answer) == 5


def test_a_variant_of_one_model_leaves_the_others_as_they_are(repository: Path) -> None:
    text = (repository / "visual_encoder" / "config.pbtxt").read_text()
    (repository / "visual_encoder" / "configs" / "large.pbtxt").write_text(text.replace("size: 32", "size: 48"))
    check_repository(repository)
    with served(repository, "large") as server:
        configs = served_configs(server)
    assert [configs[model].max_batch_size for model in COMPONENTS] == [48, 32, 32]


def test_triton_refuses_the_batch_that_the_check_refuses(repository: Path) -> None:
    text = (repository / "visual_encoder" / "config.pbtxt").read_text()
    (repository / "visual_encoder" / "configs" / "small.pbtxt").write_text(text.replace("size: 32", "size: 16"))
    with pytest.raises(
        ValueError, match=r"small\.pbtxt: max_batch_size: expected at least 32, the ensemble's, found 16"
    ):
        check_repository(repository)
    with (
        pytest.raises(ServerStartError, match="ensemble tag_recommender allows maximum batch size 32"),
        served(repository, "small"),
    ):
        pass
    assert read_config(repository, "tag_recommender").max_batch_size == 32
