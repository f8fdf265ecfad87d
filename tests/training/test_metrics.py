from dataclasses import fields

import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, precision_recall_fscore_support
from torch import Tensor

from training.errors import DataError
from training.metrics import Ranked, merge, rank, summarize, tagging_metrics


def random_case(pictures: int, tags: int, density: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tie-free scores, truth with untagged pictures, and 7 users."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.stack([torch.randperm(tags, generator=generator) for _ in range(pictures)]).double()
    truth = (torch.rand(pictures, tags, generator=generator) < density).float()
    return scores, truth, torch.randint(0, 7, (pictures,), generator=generator)


def test_hand_computed_case() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4]])
    truth = torch.tensor([[1, 0, 1, 1], [1, 0, 0, 0]])
    metrics = tagging_metrics(scores, truth, ks=(1, 3))
    assert metrics["precision@1"] == pytest.approx(1 / 2)
    assert metrics["recall@1"] == pytest.approx((1 / 3 + 0) / 2)
    assert metrics["accuracy@1"] == pytest.approx(1 / 2)
    assert metrics["precision@3"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["recall@3"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["accuracy@3"] == pytest.approx(1 / 2)
    # places of the first picture's tags: 1, 3, 4; of the second's: 4
    assert metrics["MAP"] == pytest.approx(((1 + 2 / 3 + 3 / 4) / 3 + 1 / 4) / 2)
    assert metrics["MRR"] == pytest.approx((1 + 1 / 4) / 2)
    assert metrics["nDCG@1"] == pytest.approx((1 + 0) / 2)
    log3 = 1.5849625007211562  # log2
    assert metrics["nDCG@3"] == pytest.approx(((1 + 1 / 2) / (1 + 1 / log3 + 1 / 2) + 0) / 2)


def test_hand_computed_classes() -> None:
    scores = torch.tensor([[4.0, 3, 2, 1, 0], [4, 3, 2, 1, 0], [0, 4, 3, 2, 1]])
    truth = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0, 0, 1, 1, 0]])
    metrics = tagging_metrics(scores, truth, ks=(2,))
    # The two best are 01, 01, 12; the last tag has no picture and is no class; tag 3 is never predicted.
    precision, recall = (2 / 2 + 1 / 3 + 1 / 1 + 0) / 4, (2 / 2 + 1 / 1 + 1 / 1 + 0 / 2) / 4
    assert metrics["C-P@2"] == pytest.approx(precision)
    assert metrics["C-R@2"] == pytest.approx(recall)
    assert metrics["C-F1@2"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert metrics["O-P@2"] == metrics["precision@2"] == pytest.approx(4 / 6)
    assert metrics["O-R@2"] == pytest.approx(4 / 6)
    assert metrics["O-F1@2"] == pytest.approx(4 / 6)


def test_no_hit_at_all() -> None:
    metrics = tagging_metrics(torch.tensor([[2.0, 1, 0]]), torch.tensor([[0, 0, 1]]), ks=(2,))
    assert metrics.pop("MAP") == metrics.pop("MRR") == pytest.approx(1 / 3)
    assert set(metrics.values()) == {0.0}


def test_ties_rank_by_index() -> None:
    truth = torch.tensor([[0, 1, 0, 1]])
    metrics = tagging_metrics(torch.zeros(1, 4), truth, ks=(1, 2))
    assert (metrics["precision@1"], metrics["precision@2"]) == (0, 1 / 2)
    assert metrics["MRR"] == 1 / 2
    wide = torch.zeros(1, 1000, dtype=torch.bool)
    wide[0, 5] = True
    assert tagging_metrics(wide * -1.0 + 1, wide, ks=(10,))["MRR"] == 1 / 1000
    assert tagging_metrics(torch.zeros(1, 1000), wide, ks=(10,))["MRR"] == pytest.approx(1 / 6)


def test_a_tag_without_pictures_costs_its_place_but_is_no_class() -> None:
    scores = torch.tensor([[3.0, 2, 1]])
    metrics = tagging_metrics(scores, torch.tensor([[0, 1, 0]]), ks=(2,))
    assert metrics["O-P@2"] == 1 / 2
    assert metrics["C-P@2"] == metrics["C-R@2"] == metrics["C-F1@2"] == 1


def test_pictures_without_tags_do_not_count() -> None:
    scores, truth, users = random_case(40, 12, density=0.15)
    tagged = truth.sum(1) > 0
    assert 0 < tagged.sum() < 40
    kept = tagging_metrics(scores[tagged], truth[tagged], users=users[tagged])
    assert tagging_metrics(scores, truth, users=users) == kept


def test_users_count_alike_however_many_pictures_they_have() -> None:
    scores = torch.tensor([[2.0, 1, 0]]).repeat(4, 1)
    truth = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]])
    users = torch.tensor([70, 3, 70, 70])
    metrics = tagging_metrics(scores, truth, ks=(2,), users=users)
    assert metrics["precision@2"] == pytest.approx((1 + 0 + 1 / 2 + 1) / 4)
    assert metrics["precision@2/user"] == pytest.approx(((1 + 1 / 2 + 1) / 3 + 0) / 2)
    assert metrics["recall@2/user"] == pytest.approx(((1 + 1 + 2 / 3) / 3 + 0) / 2)
    assert metrics["accuracy@2/user"] == pytest.approx((1 + 0) / 2)
    without_users = {name: value for name, value in metrics.items() if "/user" not in name}
    assert tagging_metrics(scores, truth, ks=(2,)) == without_users


@pytest.mark.parametrize("size", [1, 7, 50])
def test_batches_are_worth_the_whole(size: int) -> None:
    case = random_case(50, 30, density=0.05)
    whole = rank(*case)
    parts = merge([rank(*batch) for batch in zip(*(tensor.split(size) for tensor in case), strict=True)])
    for field in fields(Ranked):
        torch.testing.assert_close(getattr(parts, field.name), getattr(whole, field.name), rtol=0, atol=0)
    assert summarize(parts) == summarize(whole)


@pytest.mark.parametrize(
    ("pictures", "tags", "density"), [(1, 10, 0.5), (60, 12, 0.3), (200, 40, 0.1), (90, 300, 0.02)]
)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_equal_to_scikit_learn(pictures: int, tags: int, density: float, k: int) -> None:
    scores, truth, _ = random_case(pictures, tags, density, seed=pictures + k)
    metrics = tagging_metrics(scores, truth, ks=(k,))
    tagged = truth.sum(1) > 0
    best = (scores[tagged] >= tags - k).int().numpy()  # scores are 0 to N - 1
    ranked, relevant = scores[tagged].numpy(), truth[tagged].numpy()
    classes = relevant.any(0).nonzero()[0]
    macro = precision_recall_fscore_support(relevant, best, average="macro", labels=classes, zero_division=0)
    micro = precision_recall_fscore_support(relevant, best, average="micro", zero_division=0)
    samples = precision_recall_fscore_support(relevant, best, average="samples", zero_division=0)
    assert (metrics[f"C-P@{k}"], metrics[f"C-R@{k}"]) == pytest.approx(macro[:2])
    assert [metrics[f"{name}@{k}"] for name in ("O-P", "O-R", "O-F1")] == pytest.approx(micro[:3])
    assert (metrics[f"precision@{k}"], metrics[f"recall@{k}"]) == pytest.approx(samples[:2])
    assert metrics[f"nDCG@{k}"] == pytest.approx(ndcg_score(relevant, ranked, k=k))
    assert metrics["MAP"] == pytest.approx(label_ranking_average_precision_score(relevant, ranked))


@pytest.mark.parametrize("k", [0, 5])
def test_a_k_beyond_the_tags_is_refused(k: int) -> None:
    with pytest.raises(DataError, match="expected every k from 1 to 4"):
        tagging_metrics(torch.zeros(1, 4), torch.ones(1, 4), ks=(3, k))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="scores contain NaN"):
        tagging_metrics(torch.tensor([[0.1, torch.nan]]), torch.ones(1, 2), ks=(1,))


def test_no_tagged_picture_is_refused_but_not_in_a_single_batch() -> None:
    empty = rank(torch.zeros(2, 10), torch.zeros(2, 10), torch.zeros(2).long())
    with pytest.raises(DataError, match="no picture has a tag"):
        summarize(empty)
    some = rank(*random_case(5, 10, density=0.5))
    assert summarize(merge([empty, some])) == summarize(some)
