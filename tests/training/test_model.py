import json
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_model, tiny_settings
from training.errors import SettingsError
from training.model import ALTReco, PreferenceDecoder, PreferenceEncoder, VisualEncoder
from training.presets import SERVED, SIZES, VARIANTS, preset
from training.settings import BackboneSettings, from_json, to_json

N = 40


def batch(size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (size, 224, 224, 3), dtype=torch.uint8, generator=generator)
    return image, torch.rand(size, N, generator=generator)


def test_paper_encoder_is_resnet_50_up_to_activation_46() -> None:
    with torch.device("meta"):
        encoder = VisualEncoder(preset("paper").model.backbone)
        encoding = encoder(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert encoding.shape == (1, 2048, 7, 7)
    # ResNet-50 has 23.5 million convolution weights, its last bottleneck 4.46 million.
    assert 19.0e6 < sum(p.numel() for p in encoder.parameters()) < 19.1e6


def test_pixels_are_normalized_by_imagenet_statistics() -> None:
    encoder = tiny_model(N).visual_encoder
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    encoder(torch.full((1, 224, 224, 3), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_shapes_and_ranges() -> None:
    model = tiny_model(N)
    image, history = batch()
    prediction = model(image, history)
    assert prediction.personalized.shape == prediction.generalized.shape == prediction.history.shape == (2, N)
    preference = model.preference_encoder(history)
    assert preference.shape == (2, 128)
    assert preference.abs().max() <= 1
    scores = model.recommend(image, history)
    torch.testing.assert_close(scores, torch.sigmoid(prediction.personalized))


def test_image_and_history_both_matter_and_the_generator_sees_no_user() -> None:
    model = tiny_model(N)
    image, history = batch()
    base = model(image, history)
    other_user = model(image, history.flip(0))
    other_image = model(image.flip(0), history)
    assert (base.personalized - other_user.personalized).abs().max() > 0.1
    assert (base.personalized - other_image.personalized).abs().max() > 0.1
    torch.testing.assert_close(base.generalized, other_user.generalized)


@pytest.mark.parametrize("integration", ["concatenation", "addition", "multiplication"])
def test_integration_brings_picture_and_user_together(integration: str) -> None:
    torch.manual_seed(0)
    model = ALTReco(replace(tiny_settings().model, integration=integration), N).eval()
    encoding, preference = torch.rand(2, 32, 7, 7), torch.rand(2, 128)
    joined = model.classifier._integrate(encoding, preference)
    if integration == "concatenation":
        assert torch.equal(joined[:, :32], encoding)
        assert torch.equal(joined[:, 32:, 3, 6], preference)
    else:
        projected = model.classifier.project(preference)[:, :, None, None]
        expected = encoding + projected if integration == "addition" else encoding * projected
        torch.testing.assert_close(joined, expected)


def test_a_visual_net_ignores_the_history() -> None:
    torch.manual_seed(0)
    model = ALTReco(replace(tiny_settings().model, user_preference=False, generator=False), N).eval()
    image, history = batch()
    prediction = model(image, history)
    assert prediction.generalized is None
    assert prediction.history is None
    assert torch.equal(model.recommend(image, history), model.recommend(image, history.flip(0)))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "convnext", "hidden_sizes": [16, 16, 16, 24], "depths": [1, 1, 1, 1]},
        {
            "model_type": "dinov2",
            "hidden_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "patch_size": 16,
            "image_size": 224,
        },
    ],
    ids=lambda config: config["model_type"],
)
def test_another_backbone_gives_an_encoding_of_7_by_7(config: dict[str, object]) -> None:
    encoder = VisualEncoder(BackboneSettings(config=config)).eval()
    encoding = encoder(batch()[0])
    assert encoding.shape == (2, encoder.channels, 7, 7)
    assert encoder.channels == 24


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(SettingsError, match="no backbone of type 'resnot'"):
        VisualEncoder(BackboneSettings(config={"model_type": "resnot"}))


def test_skips_carry_the_encoders_activations() -> None:
    encoder = PreferenceEncoder(N)
    activations = encoder.activations(torch.rand(3, N))
    changed = [torch.rand_like(a) for a in activations[:-1]] + [activations[-1]]
    with_skips, without = PreferenceDecoder(N, skips=True), PreferenceDecoder(N, skips=False)
    assert not torch.equal(with_skips(activations), with_skips(changed))
    assert torch.equal(without(activations), without(changed))


def test_settings_survive_json() -> None:
    every_preset = [preset(f"{size}/{variant}", seed=3) for size in SIZES for variant in VARIANTS]
    for settings in (*every_preset, tiny_settings()):
        assert from_json(to_json(settings)) == settings
    with pytest.raises(SettingsError, match="not this version's"):
        from_json('{"model": {}}')


def test_settings_from_before_the_history_path_have_none() -> None:
    settings = json.loads(to_json(tiny_settings()))
    del settings["model"]["history_path"], settings["second_stage_steps"]
    assert from_json(json.dumps(settings)) == tiny_settings()


@pytest.mark.parametrize(
    ("changes", "reason"), [({"epochs": 0}, "epochs"), ({"history_dropout": 1.0}, "history_dropout")]
)
def test_settings_that_cannot_train_are_refused(changes: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        preset("small", **changes)


def test_unknown_preset_names_the_known() -> None:
    for name in ("large", "small/A7", "A6"):
        with pytest.raises(SettingsError, match=f"unknown preset '{name}': expected one of paper, small"):
            preset(name)


def test_a_preset_without_a_variant_is_the_full_model() -> None:
    for size in ("paper", "ablation"):
        full = preset(size)
        assert full.model.user_preference
        assert full.model.generator
        assert full.joint
        assert full.model.history_path == "none"
        assert replace(preset(f"{size}/A6"), preset=size) == full
    assert replace(preset(f"small/{SERVED}"), preset="small") == preset("small")


def test_variants_change_what_the_paper_says() -> None:
    visual, joint, apart, cold, personalized = (preset(f"paper/A{i}") for i in range(1, 6))
    assert (visual.model.user_preference, visual.model.generator) == (False, False)
    assert (joint.model.user_preference, joint.model.generator, joint.loss.theta) == (True, False, 0.0)
    assert (apart.joint, apart.loss) == (False, preset("paper").loss)
    assert cold.cold_start
    assert personalized.loss.adversarial_on == "personalized"
    table_ix = {
        (s.model.skips, s.loss.reconstruction)
        for s in map(preset, ("paper", "paper/no-skips-mse", "paper/skips-mse", "paper/no-skips-huber"))
    }
    assert table_ix == {(True, "huber"), (False, "mse"), (True, "mse"), (False, "huber")}


def test_initial_weights_follow_the_seed() -> None:
    models = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        models.append(ALTReco(tiny_settings().model, N))
    first, same, other = (m.classifier.fc2.weight for m in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
