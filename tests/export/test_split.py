from dataclasses import replace

import pytest
import torch

from export.errors import ExportError
from export.graph.split import split
from tests.tiny import tiny_model, tiny_settings
from training.model import ALTReco


def test_the_fold_is_exact_borders_included() -> None:
    model = tiny_model(50)
    classifier = model.classifier
    encoding = torch.randn(4, model.visual_encoder.channels, 7, 7)
    preference = torch.rand(4, 128) * 2 - 1
    tiled = preference[:, :, None, None].expand(-1, -1, 7, 7)
    expected = classifier.conv1(torch.cat([encoding, tiled], dim=1))

    served = split(model)
    visual, folded = served["visual_encoder"], served["classifier"]
    visual_part = torch.nn.functional.conv2d(encoding, visual.weight, visual.bias, padding=1)
    joined = visual_part + (preference @ folded.m).reshape(-1, 64, 7, 7)
    torch.testing.assert_close(joined, expected, rtol=0, atol=1e-5)
    # The border sees fewer tiles than the middle: a fold that forgot the padding would pass without this.
    response = (preference @ folded.m).reshape(-1, 64, 7, 7)
    assert (response[:, :, 0, 0] - response[:, :, 3, 3]).abs().max() > 0.01


def test_the_served_chain_answers_as_the_whole_model() -> None:
    model = tiny_model(50)
    image = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    history = torch.rand(2, 50)
    served = split(model)
    with torch.inference_mode():
        chained = served["classifier"](served["visual_encoder"](image), served["preference_encoder"](history))
        torch.testing.assert_close(chained, model.recommend(image, history), rtol=0, atol=1e-5)


def test_addition_folds_as_well() -> None:
    torch.manual_seed(0)
    model = ALTReco(replace(tiny_settings().model, integration="addition"), 50).eval()
    image = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    history = torch.rand(2, 50)
    served = split(model)
    with torch.inference_mode():
        preference = served["preference_encoder"](history)
        chained = served["classifier"](served["visual_encoder"](image), preference)
        torch.testing.assert_close(chained, model.recommend(image, history), rtol=0, atol=1e-5)
        other = served["classifier"](served["visual_encoder"](image), preference.flip(0))
    assert (chained - other).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_preference": False, "generator": False}, "no user preference"),
        ({"integration": "multiplication"}, "no folded split"),
    ],
)
def test_what_cannot_be_served_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        split(ALTReco(replace(tiny_settings().model, **changes), 50))
