import torch
from torch.nn import functional

from training.methods.dlsr import from_pictures, picture_weights, tag_weights


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_no_picture_weight_can_be_improved() -> None:
    neighbours = functional.normalize(normal(3, 20, 8), dim=2)
    x, l1 = functional.normalize(normal(3, 8, seed=1), dim=1), 0.1
    weights = picture_weights(x, neighbours, l1)
    slope = torch.einsum("pkd,pd->pk", neighbours, x - torch.einsum("pkd,pk->pd", neighbours, weights))
    assert weights.min() >= 0
    assert (weights > 0).any(1).all()
    assert (slope[weights > 0] - l1).abs().max() < 1e-3
    assert slope[weights == 0].max() <= l1 + 1e-3


def test_a_training_picture_is_reconstructed_from_itself() -> None:
    features, tags = normal(30, 40), (normal(30, 6, seed=1) > 0).float()
    torch.testing.assert_close(from_pictures(features, features, tags, 1e-4), tags, atol=0.02, rtol=0)


def test_without_any_weight_the_shares_answer() -> None:
    features, tags = normal(30, 4), (normal(30, 6, seed=1) > 0.5).to(torch.uint8)
    scores = from_pictures(normal(3, 4, seed=2), features, tags, 10.0)
    torch.testing.assert_close(scores, tags.float().mean(0).expand(3, -1))


def test_the_order_of_the_training_pictures_does_not_matter() -> None:
    features, tags, asked = normal(250, 6), (normal(250, 5, seed=1) > 0).float(), normal(4, 6, seed=2)
    order = torch.randperm(250)
    torch.testing.assert_close(
        from_pictures(asked, features[order], tags[order], 0.03),
        from_pictures(asked, features, tags, 0.03),
        atol=1e-4,
        rtol=0,
    )


def test_tags_that_go_together_speak_for_each_other() -> None:
    tags = torch.zeros(60, 5)
    tags[:20, :2] = 1  # always together
    tags[20:40, 2] = 1
    tags[30:50, 3] = 1  # nobody uses the last
    weights = tag_weights(tags.T @ tags, 1.0)
    assert (weights.diagonal() == 0).all()
    assert weights[0, 1] > 0.5
    assert weights[1, 0] > 0.5
    assert weights[4].abs().max() == weights[:, 4].abs().max() == 0
    assert weights.min() == 0


def test_tag_weights_are_where_the_loss_of_the_tags_has_no_slope() -> None:
    tags = (normal(50, 8) > 0.3).float()
    l2, l3 = 2.0, 1.0
    weights = tag_weights(tags.T @ tags, l2, l3)
    point = weights.clone().requires_grad_()
    loss = (tags - tags @ point).square().sum() / 2 + l2 * point.sum() + l3 / 2 * point.square().sum()
    (slope,) = torch.autograd.grad(loss, point)
    free = ~torch.eye(8, dtype=torch.bool)
    assert slope[free & (weights > 0)].abs().max() < 2e-2
    assert slope[free & (weights == 0)].min() > -2e-2
    again = tag_weights(tags.T @ tags, l2, l3, start=tag_weights(tags.T @ tags, 5.0, l3))
    torch.testing.assert_close(again, weights, atol=1e-3, rtol=0)
