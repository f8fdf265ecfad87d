import math

import pytest
import torch

from training.losses import discriminator_loss, jitter, network_losses
from training.model import Discriminator, Prediction
from training.settings import LossSettings


class Judge(torch.nn.Module):
    """A discriminator whose logit is the first tag's confidence times 10."""

    def forward(self, tags: torch.Tensor) -> torch.Tensor:
        return tags[:, 0] * 10


def losses(**settings: object) -> dict[str, torch.Tensor]:
    logits = torch.tensor([[0.0, 2.0]])
    prediction = Prediction(personalized=logits, generalized=logits, history=logits)
    return network_losses(
        prediction, torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.5]]), Judge(), LossSettings(**settings)
    )


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


def test_jitter_keeps_labels_apart() -> None:
    tags = torch.tensor([[0.0, 1.0]]).expand(1000, 2)
    jittered = jitter(tags)
    assert 0 <= jittered[:, 0].min() < 0.05
    assert 0.25 < jittered[:, 0].max() <= 0.3
    assert 0.7 <= jittered[:, 1].min() < 0.75
    assert 0.95 < jittered[:, 1].max() <= 1.0


def test_discriminator_learns_to_tell_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(30)
    generalized = torch.randn(64, 30, requires_grad=True)
    tags = (torch.rand(64, 30) < 0.2).float()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-3)
    history = []
    for _ in range(60):
        loss = discriminator_loss(generalized, tags, discriminator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[0] == pytest.approx(2 * math.log(2), abs=0.1)
    assert history[-1] < history[0] / 2
    assert generalized.grad is None
