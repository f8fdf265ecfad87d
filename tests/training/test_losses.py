import math

import pytest
import torch

from training.losses import discriminator_loss, jitter, judged_tags, network_losses
from training.methods.ranking_losses import softmax_loss, warp_loss
from training.model import Discriminator, Prediction
from training.settings import LossSettings


class Judge(torch.nn.Module):
    """A discriminator whose logit is the first tag's confidence times 10."""

    def forward(self, tags: torch.Tensor) -> torch.Tensor:
        return tags[:, 0] * 10


LOGITS, TAGS, COUNTS = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 2.0]])
EVERYTHING = Prediction(LOGITS, LOGITS, LOGITS)


def losses(prediction: Prediction = EVERYTHING, **settings: object) -> dict[str, torch.Tensor]:
    return network_losses(prediction, TAGS, COUNTS, Judge(), LossSettings(**settings))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_terms_follow_the_equations() -> None:
    terms = losses()
    cross_entropy = -(math.log(sigmoid(0)) + math.log(1 - sigmoid(2))) / 2
    assert terms["personalized"].item() == pytest.approx(cross_entropy)
    assert terms["generalized"].item() == pytest.approx(cross_entropy)
    huber = (0.5 * (sigmoid(0) - 1) ** 2 + 0.5 * (sigmoid(2) - 0.5) ** 2) / 2
    assert terms["reconstruction"].item() == pytest.approx(huber)
    assert losses(reconstruction="mse")["reconstruction"].item() == pytest.approx(2 * huber)
    assert terms["adversarial"].item() == pytest.approx(-math.log(sigmoid(5)))
    saturating = losses(adversarial="saturating")["adversarial"].item()
    assert saturating == pytest.approx(math.log(1 - sigmoid(5)), rel=1e-4)


def test_total_is_the_weighted_sum() -> None:
    terms = losses(alpha=2.0, beta=3.0, gamma=5.0, theta=7.0)
    expected = (
        2 * terms["personalized"] + 3 * terms["generalized"] + 5 * terms["reconstruction"] + 7 * terms["adversarial"]
    )
    assert terms["total"].item() == pytest.approx(expected.item())


def test_parts_that_are_not_there_or_weigh_nothing_cost_nothing() -> None:
    visual_only = losses(Prediction(LOGITS, None, None), beta=0.0, gamma=0.0, theta=0.0)
    assert set(visual_only) == {"personalized", "total"}
    assert visual_only["total"] == visual_only["personalized"]
    assert set(losses(theta=0.0)) == {"personalized", "generalized", "reconstruction", "total"}


def test_the_adversary_judges_the_tags_that_the_settings_name() -> None:
    prediction = Prediction(personalized=torch.tensor([[3.0, 0.0]]), generalized=LOGITS, history=None)
    on_personalized = losses(prediction, adversarial_on="personalized")
    assert on_personalized["adversarial"].item() == pytest.approx(-math.log(sigmoid(10 * sigmoid(3))))
    assert torch.equal(judged_tags(prediction, LossSettings(adversarial_on="personalized")), prediction.personalized)
    assert torch.equal(judged_tags(prediction, LossSettings()), prediction.generalized)


def test_a_ranking_loss_takes_the_place_of_cross_entropy() -> None:
    assert losses(personalized="softmax")["personalized"] == softmax_loss(LOGITS, TAGS)
    assert losses(personalized="warp")["personalized"] == warp_loss(LOGITS, TAGS)


def test_jitter_keeps_labels_apart() -> None:
    noise = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
    jittered = jitter(torch.tensor([[0.0, 1.0]]).expand(3, 2), noise)
    torch.testing.assert_close(jittered, torch.tensor([[0.0, 0.7], [0.15, 0.85], [0.3, 1.0]]))


def test_discriminator_learns_to_tell_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(30)
    generalized = torch.randn(64, 30, requires_grad=True)
    tags = (torch.rand(64, 30) < 0.2).float()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    history = []
    for _ in range(60):
        loss = discriminator_loss(generalized, tags, torch.rand(64, 30), discriminator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[0] == pytest.approx(2 * math.log(2), abs=0.1)
    assert history[-1] < history[0] / 2
    assert generalized.grad is None
