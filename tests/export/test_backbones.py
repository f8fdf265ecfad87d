"""Backbones other than ResNet: the visual encoder as ONNX answers as it does in PyTorch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from altreco_client import contract
from torch import nn

from export.errors import ExportError
from export.graph.onnx_model import export_onnx
from export.graph.split import split
from tests.tiny import tiny_settings
from tests.training.backbones import config
from training.model import ALTReco
from training.settings import BackboneSettings

N = 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "pixels"), [("swin", {}), ("dinov2", {"mean": (0.5,) * 3, "std": (0.5,) * 3, "size": 252})]
)
def test_a_backbone_with_attention_is_exported(tmp_path: Path, model_type: str, pixels: dict[str, object]) -> None:
    torch.manual_seed(0)
    backbone = BackboneSettings(config=config(model_type), **pixels)
    model = ALTReco(replace(tiny_settings().model, backbone=backbone), N).eval()
    image = torch.randint(0, 256, (5, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():  # before the export, with the fused attention
        encoding = model.visual_encoder(image)
        expected = model.classifier.image_part(encoding)
    path = tmp_path / "model.onnx"
    export_onnx(split(model)["visual_encoder"], contract.VISUAL_ENCODER, N, path, {})
    (found,) = onnxruntime.InferenceSession(path).run(None, {"IMAGE": image.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)
    assert expected.std() > 0.01


class Unknown(nn.Module):
    """An operation that ONNX lacks, on the batch."""

    def forward(self, encoding: torch.Tensor, preference: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(preference.T @ preference).real[None] + prior


def test_a_model_that_onnx_cannot_express_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^classifier cannot be written as ONNX: [^\n]+$"):
        export_onnx(Unknown(), contract.CLASSIFIER, contract.PREFERENCE_DIM, tmp_path / "model.onnx", {})
    assert not (tmp_path / "model.onnx").exists()
