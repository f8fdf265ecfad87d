import pytest
import torch

from training.metrics import hits_at, tagging_metrics


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


def test_ties_rank_by_index() -> None:
    truth = torch.tensor([[0, 1, 0, 1]])
    assert hits_at(torch.zeros(1, 4), truth, 2).tolist() == [[0, 1]]


def test_pictures_without_tags_do_not_count() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    truth = torch.tensor([[1, 0], [0, 0]])
    assert tagging_metrics(scores, truth, ks=(1,))["precision@1"] == 1
