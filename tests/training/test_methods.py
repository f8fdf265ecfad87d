import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from training.errors import DataError, SettingsError
from training.methods import fasttag, neighbours
from training.methods.fasttag import FastTag, FastTagSettings, fit
from training.methods.late_fusion import choose_weight, fuse
from training.methods.neighbours import neighbour_votes
from training.methods.popularity import most_frequent, own_most_frequent
from training.methods.ranking_losses import softmax_loss, warp_loss
from training.metrics import tagging_metrics


def ranking(scores: Tensor) -> list[list[int]]:
    return scores.argsort(dim=1, descending=True, stable=True).tolist()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_most_frequent_tags_are_everybodys() -> None:
    assert ranking(most_frequent(torch.tensor([1.0, 9, 4]), 2)) == [[1, 2, 0], [1, 2, 0]]


@pytest.mark.parametrize("largest", [1, 3, 70_000], ids=lambda n: f"divided by {n}")
def test_own_tags_go_first_and_everybodys_fill_up(largest: int) -> None:
    total = torch.tensor([5.0, 1e6, 2, 30, 30])
    histories = torch.tensor([[1.0, 2, 0, 0, 3], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0]]) / largest
    assert ranking(own_most_frequent(histories, total)) == [[4, 1, 0, 3, 2], [1, 3, 4, 0, 2], [3, 2, 1, 4, 0]]


def test_own_counts_that_are_close_keep_their_order_against_any_total() -> None:
    histories = torch.tensor([[60_001.0, 60_000.0]])
    assert ranking(own_most_frequent(histories / 60_001, torch.tensor([1.0, 1e9]))) == [[0, 1]]


def test_votes_weigh_the_cosine_of_the_nearest() -> None:
    train_features = torch.tensor([[5.0, 0], [3, 4], [0, 1], [-1, 0]])
    train_tags = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    votes = neighbour_votes(torch.tensor([[2.0, 0]]), train_features, train_tags, k=2)
    torch.testing.assert_close(votes, torch.tensor([[1.0, 0.6 / 1.6, 0.0]]))
    against = neighbour_votes(torch.tensor([[2.0, 0]]), train_features[3:], train_tags[3:], k=1)
    assert against.tolist() == [[0, 0, 0]], "the opposite has no vote"


def test_votes_equal_scikit_learn_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    features, train_features = random(30, 5, seed=1).abs(), random(80, 5, seed=2).abs()
    train_tags = (random(80, 11, seed=3) > 0.5).double()
    votes = neighbour_votes(features, train_features, train_tags, k=7)
    expected = KNeighborsRegressor(7, metric="cosine", algorithm="brute", weights=lambda distance: 1 - distance)
    expected.fit(train_features.numpy(), train_tags.numpy())
    torch.testing.assert_close(votes, torch.from_numpy(expected.predict(features.numpy())))
    monkeypatch.setattr(neighbours, "CHUNK_NUMBERS", 4 * 80)
    torch.testing.assert_close(neighbour_votes(features, train_features, train_tags, k=7), votes)


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_pictures_are_refused(k: int) -> None:
    with pytest.raises(DataError, match=f"{k} neighbours: expected 1 to 3"):
        neighbour_votes(torch.ones(1, 2), torch.ones(3, 2), torch.ones(3, 5), k)


def test_softmax_loss_shares_the_target_among_the_tags() -> None:
    logits = torch.tensor([[1.0, 2, 0], [0, 0, 0], [0, 5, 0]])
    tags = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    total = math.log(math.e + math.e**2 + 1)
    first = -(0.5 * (1 - total) + 0.5 * (0 - total))
    assert softmax_loss(logits, tags).item() == pytest.approx((first + math.log(3) + 0) / 3)


def test_warp_loss_weighs_the_mean_violation_by_the_rank() -> None:
    logits = torch.tensor([[1.0, 0.5, 1.5, -2.0], [3.0, 0, 0, 0], [0.0, 9, 9, 9]])
    tags = torch.tensor([[1.0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    # The first picture's tag 0 is violated by 0.5 and 1.5, its tag 3 by 3.5 and 4.5; the second picture's by none.
    weight = 1 + 1 / 2
    first = weight * (0.5 + 1.5) / 2 + weight * (3.5 + 4.5) / 2
    assert warp_loss(logits, tags).item() == pytest.approx(first / 3)
    just = warp_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert just.item() == 0, "a margin of exactly 1 is enough"


@pytest.mark.parametrize("loss", [softmax_loss, warp_loss])
def test_ranking_losses_train_and_have_finite_gradients(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    tags = (random(20, 15) > 1).float()
    tags[0] = 0
    tags[1] = 1  # no negative
    logits = torch.zeros(20, 15, requires_grad=True)
    for _ in range(100):
        (gradient,) = torch.autograd.grad(loss(logits, tags), logits)
        assert gradient.isfinite().all()
        logits = (logits - 5 * gradient).detach().requires_grad_()
    for row, truth in list(zip(logits, tags, strict=True))[2:]:
        if truth.any():
            assert row[truth > 0].min() > row[truth == 0].max()
    extreme = torch.tensor([[1e30, -1e30]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(extreme, torch.tensor([[0.0, 1]])), extreme)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [softmax_loss, warp_loss])
def test_a_batch_without_any_tag_has_no_loss_and_no_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    value = loss(logits, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == gradient.abs().max().item() == 0


def fasttag_loss(model: FastTag, features: Tensor, tags: Tensor, settings: FastTagSettings) -> Tensor:
    """The loss as the docstring defines it, the expectation summed over all ways to blank out."""
    pictures, n = tags.shape
    reached = model.scores(features) - tags @ model.enrichment.T
    expected = torch.zeros((), dtype=features.dtype)
    for kept in product((0.0, 1.0), repeat=n):
        chance = math.prod(1 - settings.blank_out if keep else settings.blank_out for keep in kept)
        completed = (tags * torch.tensor(kept, dtype=tags.dtype)) @ model.enrichment.T
        expected = expected + chance * (tags - completed).square().sum() / pictures
    ridge = settings.ridge * features.var(0, correction=0).mean() * model.weights.square().sum()
    return reached.square().sum() / pictures + ridge + settings.enrichment * expected


@pytest.mark.parametrize("settings", [FastTagSettings(), FastTagSettings(blank_out=0.2, enrichment=3.0, ridge=0.01)])
def test_fasttag_is_where_its_loss_has_no_slope(settings: FastTagSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasttag, "CHUNK_PICTURES", 16)
    features = 3 * random(50, 3, seed=1) + 20
    tags = (features @ random(3, 5, seed=2) + random(50, 5, seed=3) > 10).double()
    assert 0.2 < tags.mean() < 0.8
    model = fit(features, tags, settings)
    parts = {name: value.requires_grad_() for name, value in vars(model).items()}
    slopes = torch.autograd.grad(fasttag_loss(FastTag(**parts), features, tags, settings), list(parts.values()))
    for name, slope in zip(parts, slopes, strict=True):
        assert slope.abs().max() < 1e-9, name
    nudged = FastTag(**{**parts, "enrichment": model.enrichment + 0.01})
    (slope,) = torch.autograd.grad(fasttag_loss(nudged, features, tags, settings), parts["enrichment"])
    assert slope.abs().max() > 1e-3, "elsewhere it has"


def test_fasttags_features_to_tags_are_a_ridge_regression_on_completed_tags() -> None:
    features, tags = random(60, 4, seed=1) + 5, (random(60, 6, seed=2) > 0).double()
    settings = FastTagSettings(ridge=0.3)
    model = fit(features, tags, settings)
    alpha = 60 * settings.ridge * features.var(0, correction=0).mean().item()
    ridge = Ridge(alpha=alpha).fit(features.numpy(), (tags @ model.enrichment.T).numpy())
    torch.testing.assert_close(model.scores(features), torch.from_numpy(ridge.predict(features.numpy())))


def test_fasttag_recovers_a_linear_relation() -> None:
    tags = (random(400, 6, seed=1) > 0.8).double()
    features = tags @ random(6, 9, seed=2) - 4
    model = fit(features[:300].float(), tags[:300].to(torch.uint8), FastTagSettings(ridge=1e-6))
    scores, truth = model.scores(features[300:].float()), tags[300:].bool()
    assert scores.dtype == torch.float32
    assert scores[truth].min() > scores[~truth].max()


def test_fasttag_completes_with_tags_that_go_together_and_ignores_unused_ones() -> None:
    tags = torch.zeros(90, 4)
    tags[:40, :2] = 1  # sea and beach
    tags[40:80, 2] = 1  # dog; nobody uses the fourth
    features = tags @ random(4, 3, seed=1).float() + 0.1 * random(90, 3, seed=2).float()
    model = fit(features, tags, FastTagSettings())
    completed = model.enrichment @ torch.tensor([1.0, 0, 0, 0])
    assert completed[1] > 0.3
    assert completed[2].abs() < 0.1
    assert model.enrichment[3].abs().max() == model.enrichment[:, 3].abs().max() == 0
    assert model.scores(features)[:, 3].abs().max() == 0


@pytest.mark.parametrize("wrong", [{"blank_out": 0.0}, {"blank_out": 1.0}, {"enrichment": 0.0}, {"ridge": -1.0}])
def test_fasttag_settings_without_a_solution_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is .*: expected more than 0"):
        FastTagSettings(**wrong)


def test_fasttag_refuses_pictures_that_all_look_the_same() -> None:
    with pytest.raises(DataError, match="all 9 training pictures have the same features"):
        fit(torch.ones(9, 3), torch.ones(9, 2), FastTagSettings())


def test_fusion_follows_the_formula() -> None:
    total = torch.tensor([5.0, 2.0, 0.0])
    visual = torch.tensor([[0.5, 0.25, 0.1]])
    scores = fuse(visual, torch.tensor([[0.0, 2.0, 0.0]]), total, weight=0.5)
    everybody = (0.6, 0.3, 0.1)
    user = ((0 + 6) / 12, (2 + 3) / 12, (0 + 1) / 12)
    expected = [math.log(p) + 0.5 * math.log(u / a) for p, u, a in zip((0.5, 0.25, 0.1), user, everybody, strict=True)]
    assert scores.tolist() == [pytest.approx(expected)]


def test_without_weight_or_history_the_visual_net_decides_even_at_probability_zero() -> None:
    visual = torch.tensor([[0.5, 0.0, 0.7], [0.1, 0.2, 1e-30]])
    histories = torch.tensor([[0.0, 0, 0], [9, 0, 90]])
    total = torch.tensor([5.0, 1, 100])
    alone = fuse(visual, histories, total, weight=0.0)
    assert alone.isfinite().all()
    torch.testing.assert_close(alone[:, 0], visual[:, 0].log())
    torch.testing.assert_close(fuse(visual, histories, total, weight=1.0)[0], alone[0])


def fusion_case(*, user_knows: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures whose tags either the user's history or the visual net knows; the other is noise."""
    tags = (random(80, 30, seed=1) > 1).float()
    noise = random(80, 30, seed=2).abs().float()
    visual = torch.sigmoid(noise if user_knows else 4 * tags + noise)
    histories = 20 * tags if user_knows else (5 * noise).floor()
    return visual, histories, torch.full((30,), 100.0), tags


def test_the_weight_follows_who_knows() -> None:
    assert choose_weight(*fusion_case(user_knows=False)) == 0
    visual, histories, total, tags = fusion_case(user_knows=True)
    assert choose_weight(visual, histories, total, tags, weights=(0.0, 0.01, 1.0)) == 1
    fused = (tagging_metrics(fuse(visual, histories, total, weight), tags) for weight in (0.0, 1.0))
    without, with_user = (metrics["precision@5"] for metrics in fused)
    assert with_user > 1.5 * without


def test_of_equal_weights_the_first_is_chosen() -> None:
    visual, histories, total, tags = fusion_case(user_knows=True)
    assert choose_weight(visual, torch.zeros_like(histories), total, tags, weights=(0.3, 0.1, 0.7)) == 0.3
