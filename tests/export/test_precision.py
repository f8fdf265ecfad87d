import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from altreco_client import contract
from numpy.typing import NDArray
from onnx import TensorProto

from export.config import check_config
from export.errors import ExportError
from export.gates import TOLERANCES
from export.golden import Inputs, replay
from export.graph.onnx_files import onnx_recommender
from export.graph.onnx_model import OPSET, export_onnx, metadata_of
from export.graph.precision import apply_precision
from export.graph.split import split
from export.manifest import PRECISIONS, Precision
from tests.tiny import REPOSITORY, TAGS, tiny_model
from training.model import ALTReco

METADATA = {"origin": "a test", "version": "7"}
SATURATED = 2
"""Convolutions at most that int8 leaves in float on a CPU without VNNI, whose sums of products saturate at 16 bits."""
MEAN_BOUNDS = {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.02}
"""Largest mean difference of a probability from that of the files as exported; the gate bounds the largest one."""

Files = dict[str, Path]


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of 16 x 16 pixels: noise of single pixels is all the same to a convolution."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 14, 14, 3), np.uint8)
    return small.repeat(16, 1).repeat(16, 2)


def drawn_counts(batch: int) -> NDArray[np.float32]:
    """Raw counts, float32 [batch, N], of which nine in ten are 0."""
    rng = np.random.default_rng(1)
    return (rng.geometric(0.2, (batch, TAGS)) * (rng.random((batch, TAGS)) < 0.1)).astype(np.float32)


def counts_of(one: float, others: float) -> NDArray[np.float32]:
    counts = np.full(TAGS, others, np.float32)
    counts[3] = one
    return counts


COUNTS = {
    "no history": counts_of(0, 0),
    "one tag": counts_of(1, 0),
    "less than one": counts_of(1e-3, 0),
    "all tags": counts_of(1, 1),
    "a large count": counts_of(1e6, 2),
    "a huge count": counts_of(3.4e38, 2),
    "huge counts": counts_of(3.4e38, 3e38),
}
BAD_COUNTS = (np.nan, np.inf, -np.inf, -1.0, -3e38)


def export(model: ALTReco, folder: Path) -> Files:
    modules = split(model)
    files = {component.name: folder / component.name / "model.onnx" for component in contract.COMPONENTS}
    for component in contract.COMPONENTS:
        files[component.name].parent.mkdir(parents=True)
        export_onnx(modules[component.name], component, TAGS, files[component.name], METADATA)
    return files


def copy(files: Files, folder: Path) -> Files:
    for name, path in files.items():
        (folder / name).mkdir(parents=True)
        shutil.copy(path, folder / name)
    return {name: folder / name / path.name for name, path in files.items()}


@pytest.fixture(scope="module")
def trained() -> ALTReco:
    return tiny_model()


@pytest.fixture(scope="module")
def exported(trained: ALTReco, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return export(trained, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def converted(exported: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Files]:
    folder = tmp_path_factory.mktemp("converted")
    files = {precision: copy(exported, folder / precision) for precision in PRECISIONS}
    kept = [apply_precision(files[precision], precision, lambda: pictures(16)) for precision in PRECISIONS]
    assert kept[:2] == [(), ()]
    assert len(kept[2]) <= SATURATED
    return files


def weights(path: Path) -> set[int]:
    """Element types of the tensors with more than a few numbers."""
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) > 64}


def assert_near(answer: NDArray[np.float32], expected: NDArray[np.float32], precision: Precision) -> None:
    difference = np.abs(answer - expected)
    print(f"{precision}: max {difference.max():.2g}, mean {difference.mean():.2g}")
    assert difference.max() <= TOLERANCES[precision].pytorch
    assert difference.mean() <= MEAN_BOUNDS[precision]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_answers_as_the_exported_files(
    exported: Files, converted: dict[Precision, Files], precision: Precision, batch: int
) -> None:
    images, counts = pictures(batch, seed=1), drawn_counts(batch)
    expected = onnx_recommender(exported)(images, counts)
    answer = onnx_recommender(converted[precision])(images, counts)
    assert expected.std() > 0.1  # or any answer would be near
    assert_near(answer, expected, precision)


def test_the_exported_split_answers_as_pytorch_for_every_history(trained: ALTReco, exported: Files) -> None:
    names = (*COUNTS, "an ordinary history")
    inputs = Inputs(names=names, image=pictures(8, seed=2), counts=np.stack([*COUNTS.values(), drawn_counts(1)[0]]))
    with torch.inference_mode():
        expected = trained.recommend(torch.from_numpy(inputs.image), torch.from_numpy(inputs.counts)).numpy()
    assert np.isfinite(expected).all()
    difference = replay(inputs, expected, onnx_recommender(exported))  # in batches of 1, 3 and 8
    assert difference.value < 1e-4, difference.where


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bad_counts_give_a_finite_answer_and_change_no_other(
    converted: dict[Precision, Files], precision: Precision
) -> None:
    recommend = onnx_recommender(converted[precision])
    images, counts = pictures(1 + len(BAD_COUNTS), seed=2), drawn_counts(1 + len(BAD_COUNTS))
    expected = recommend(images, counts)[0]
    for row, bad in enumerate(BAD_COUNTS, start=1):
        counts[row, :5] = bad
    answer = recommend(images, counts)
    np.testing.assert_allclose(answer[0], expected, rtol=0, atol=1e-6)
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_prior_is_computed_in_float32_in_every_precision(
    exported: Files, converted: dict[Precision, Files], precision: Precision
) -> None:
    expected, prior = (
        onnxruntime.InferenceSession(str(files["preference_encoder"])).run(
            ["USER_PRIOR"], {"USER_TAG_COUNTS": np.stack(list(COUNTS.values()))}
        )[0]
        for files in (exported, converted[precision])
    )
    np.testing.assert_allclose(prior, expected, rtol=1e-6, atol=1e-6)
    assert prior.any(1).tolist() == [name != "no history" for name in COUNTS]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_signature_config_operator_sets_and_metadata_stay(
    exported: Files, converted: dict[Precision, Files], precision: Precision
) -> None:
    for name, path in converted[precision].items():
        before, after = onnx.load(exported[name]), onnx.load(path)
        for kind in ("input", "output"):
            values = [[(v.name, v.type) for v in getattr(model.graph, kind)] for model in (before, after)]
            assert values[0] == values[1]
        assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", OPSET)]
        assert {node.domain for node in after.graph.node} == {""}
        assert metadata_of(path) == METADATA
        check_config(REPOSITORY, name, path)


def test_fp16_holds_float16(exported: Files, converted: dict[Precision, Files]) -> None:
    for name, path in converted["fp16"].items():
        of_the_prior = {TensorProto.FLOAT} if name == "preference_encoder" else set()
        assert weights(exported[name]) == {TensorProto.FLOAT}
        assert weights(path) == {TensorProto.FLOAT16} | of_the_prior
    sizes = [sum(path.stat().st_size for path in files.values()) for files in (converted["fp16"], exported)]
    assert sizes[0] < 0.55 * sizes[1]


def test_int8_holds_signed_weights_per_channel_and_unsigned_activations(converted: dict[Precision, Files]) -> None:
    graph = onnx.load(converted["int8"]["visual_encoder"]).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    quantized = [node for node in convolutions if node.input[1] in producers]
    assert len(convolutions) == 13
    assert len(quantized) >= 13 - SATURATED
    for node in quantized:
        activation, weight = (producers[name] for name in node.input[:2])
        assert (activation.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert (types[activation.input[2]], dims[activation.input[2]]) == (TensorProto.UINT8, [])
        channels = dims[weight.input[0]][0]
        assert (types[weight.input[0]], dims[weight.input[1]]) == (TensorProto.INT8, [channels])


def test_int8_leaves_the_small_models_in_float(converted: dict[Precision, Files]) -> None:
    for name in ("preference_encoder", "classifier"):
        assert weights(converted["int8"][name]) == {TensorProto.FLOAT}
        assert converted["int8"][name].read_bytes() == converted["fp32"][name].read_bytes()


@pytest.mark.slow
def test_what_quantization_ruins_stays_in_float(tmp_path: Path) -> None:
    model = tiny_model()
    first, second = (layer.convolution for layer in model.visual_encoder.backbone.encoder.stages[2].layers[0].layer)
    norm = model.visual_encoder.backbone.encoder.stages[2].layers[0].layer[0].normalization
    # One channel is 10,000 times as large, and used as much less: the same function, but all other channels round to 0.
    for parameter in (norm.weight, norm.bias):
        parameter.data[0] *= 1e4
    second.weight.data[:, 0] /= 1e4
    files = export(model, tmp_path / "fp32")
    ruined = copy(files, tmp_path / "int8")
    kept = apply_precision(ruined, "int8", lambda: pictures(16))

    graph = onnx.load(files["visual_encoder"]).graph
    names = {node.name: node.input[1] for node in graph.node if node.op_type == "Conv"}
    layers = [name for name, weight in names.items() if "stages.2.layers.0.layer" in weight]
    assert (len(layers), first.out_channels) == (2, 16)
    assert set(layers) <= set(kept)
    assert len(kept) <= 4
    quantized = {
        node.name: node.input[1] for node in onnx.load(ruined["visual_encoder"]).graph.node if node.name in layers
    }
    assert all(quantized[name] == names[name] for name in layers)  # the float weights, not a DequantizeLinear's

    images, counts = pictures(2, seed=1), drawn_counts(2)
    assert_near(onnx_recommender(ruined)(images, counts), onnx_recommender(files)(images, counts), "int8")


@pytest.mark.parametrize(
    ("calibration", "found"),
    [(pictures(15), r"found 15 of \[224, 224, 3\]"), (pictures(16)[:, :112], r"found 16 of \[112, 224, 3\]")],
)
def test_too_few_pictures_are_refused(
    exported: Files, tmp_path: Path, calibration: NDArray[np.uint8], found: str
) -> None:
    files = copy(exported, tmp_path)
    with pytest.raises(ExportError, match=rf"at least 16 of \[224, 224, 3\], {found}; name a data set"):
        apply_precision(files, "int8", lambda: calibration)
    assert_untouched(exported, files)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_error_leaves_all_files_as_they_were(exported: Files, tmp_path: Path, precision: Precision) -> None:
    files = copy(exported, tmp_path)
    # The last file cannot be written beside: by then the others are.
    (files["classifier"].parent / ".model.onnx.partial").mkdir()
    with pytest.raises(OSError, match="partial"):
        apply_precision(files, precision, lambda: pictures(16))
    (files["classifier"].parent / ".model.onnx.partial").rmdir()
    assert_untouched(exported, files)


def assert_untouched(exported: Files, files: Files) -> None:
    for name, path in files.items():
        assert path.read_bytes() == exported[name].read_bytes()
        assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
