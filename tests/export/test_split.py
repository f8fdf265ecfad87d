from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.graph.split import split
from tests.tiny import served_settings, tiny_model, tiny_settings
from training.model import ALTReco
from training.presets import preset

N = 50


def examples() -> tuple[Tensor, Tensor]:
    """Three pictures, and counts of a user without history, of a new and of an old user."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=generator)
    counts = torch.zeros(3, N)
    counts[1, 7] = 1
    counts[2] = torch.poisson(torch.full((N,), 3.0), generator)
    return image, counts


@torch.inference_mode()
def assert_exact(model: ALTReco, served: dict[str, nn.Module]) -> Tensor:
    """Compare the three models in turn with the whole one, and return their answers."""
    image, counts = examples()
    answer = served["classifier"](served["visual_encoder"](image), *served["preference_encoder"](counts))
    torch.testing.assert_close(answer, model.recommend(image, counts), rtol=0, atol=1e-5)
    return answer


def test_the_fold_is_exact_borders_included() -> None:
    model = tiny_model(N)
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
    model = tiny_model(N)
    served = split(model)
    assert_exact(model, served)
    prior = served["preference_encoder"](examples()[1])[1]
    assert not prior[0].any()
    assert prior[1:].std(1).min() > 0.1


def test_addition_folds_as_well() -> None:
    torch.manual_seed(0)
    model = ALTReco(replace(tiny_settings().model, integration="addition"), N).eval()
    served = split(model)
    assert_exact(model, served)
    assert served["classifier"].m.abs().max() > 1e-3


def test_a_model_without_the_path_has_a_prior_of_zeros() -> None:
    torch.manual_seed(0)
    model = ALTReco(tiny_settings().model, N).eval()
    served = split(model)
    assert_exact(model, served)
    preference, prior = served["preference_encoder"](examples()[1])
    assert preference.any()
    assert torch.equal(prior, torch.zeros(3, N))


def test_a_model_without_u_e_is_personalized_by_its_prior() -> None:
    torch.manual_seed(0)
    model = ALTReco(replace(preset("small/A1+hier").model, backbone=served_settings().model.backbone), N).eval()
    assert model.preference_encoder is None
    served = split(model)
    assert_exact(model, served)
    preference, prior = served["preference_encoder"](examples()[1])
    assert torch.equal(preference, torch.zeros(3, 128))
    assert prior.any()
    assert not served["classifier"].m.any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_preference": False, "generator": False}, "neither a user preference nor a history path"),
        ({"integration": "multiplication"}, "no folded split"),
    ],
)
def test_what_cannot_be_served_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        split(ALTReco(replace(tiny_settings().model, **changes), N))
