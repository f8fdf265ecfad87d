from dataclasses import replace

import pytest
import torch
from altreco_client import Vocabulary

from tests.tiny import tiny_settings
from training.checkpoint import Checkpoint
from training.errors import CheckpointError
from training.model import ALTReco
from training.settings import ModelSettings, resnet
from training.transfer import start_from_checkpoint

OLD, NEW = Vocabulary(("sea", "sky", "dog", "cat")), Vocabulary(("cat", "boat", "sea"))


def network(tags: int, seed: int, **changes: object) -> ALTReco:
    torch.manual_seed(seed)
    model = ALTReco(replace(tiny_settings().model, **changes), tags)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    return model


def checkpoint(model: ALTReco) -> Checkpoint:
    return Checkpoint(model=model, settings=tiny_settings(), vocabulary=OLD, metrics={})


def test_another_vocabulary_keeps_the_weights_of_the_shared_tags() -> None:
    source, target = network(4, seed=0, history_path="hier"), network(3, seed=1, history_path="hier")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    kept = start_from_checkpoint(target, NEW, checkpoint(source))
    assert (kept.shared_tags, kept.tensors) == (2, kept.of_tensors)

    torch.testing.assert_close(target.classifier.conv1.weight, source.classifier.conv1.weight, rtol=0, atol=0)
    for layer in ("classifier.fc2", "generator.fc", "preference_decoder.last"):
        for kind in ("weight", "bias"):
            name = f"{layer}.{kind}"
            now, then = target.state_dict()[name], source.state_dict()[name]
            assert torch.equal(now[0], then[3]), "cat"
            assert torch.equal(now[1], before[name][1]), "boat is new"
            assert torch.equal(now[2], then[0]), "sea"
    name = "preference_encoder.layers.0.weight"
    assert torch.equal(target.state_dict()[name][:, 2], source.state_dict()[name][:, 0])
    assert torch.equal(target.state_dict()[name][:, 1], before[name][:, 1])

    old, new = source.history_path, target.history_path
    for now, then, name in (
        (new.a, old.a, "a"),
        (new.b, old.b, "b"),
        (new.population.decode.weight, old.population.decode.weight, "population.decode.weight"),
        (new.population.encode.weight.T, old.population.encode.weight.T, "population.encode.weight"),
    ):
        was = before[f"history_path.{name}"]
        assert torch.equal(now[[0, 2]], then[[3, 0]]), name
        assert torch.equal(now[1], was[:, 1] if name.endswith("encode.weight") else was[1]), name
    assert torch.equal(new.population.encode.bias, old.population.encode.bias)
    assert new.shares.tolist() == pytest.approx([1 / 3] * 3), "the new data's"
    assert new.users.tolist() == [0, 0, 0], "the new data's"


def test_another_variant_keeps_what_fits() -> None:
    source, target = network(4, seed=0, user_preference=False, generator=False), network(4, seed=1)
    before = target.classifier.conv1.weight.clone()
    kept = start_from_checkpoint(target, OLD, checkpoint(source))
    assert kept.tensors < kept.of_tensors
    assert torch.equal(target.classifier.conv1.weight, before), "it has u_p's channels too"
    assert torch.equal(target.classifier.fc2.weight, source.classifier.fc2.weight)


def test_another_backbone_is_refused() -> None:
    wide = ModelSettings(backbone=resnet(embedding_size=24, hidden_sizes=(24,), depths=(1,), layer_type="basic"))
    torch.manual_seed(0)
    with pytest.raises(CheckpointError, match="nothing of the visual encoder fits"):
        start_from_checkpoint(ALTReco(wide, 4), OLD, checkpoint(network(4, seed=0)))
