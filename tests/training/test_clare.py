from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from torch import Tensor

from tests.tiny import write_tiny_data
from training.data.manifest import read_manifest
from training.errors import DataError
from training.methods.clare import Groups, fit, group_tags, labels_of, objective, shrunk, solve


def case() -> tuple[Tensor, Tensor, Groups]:
    """Two labels, four tags; tag 2 is in both groups, tag 5 in none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=generator)
    x = x - x.mean(0)
    targets = (x @ torch.randn(6, 6, generator=generator) > 0.5).float()
    groups = Groups(torch.tensor([0, 1, 2, 3, 2, 4]), torch.tensor([0, 1, 0, 0, 1, 1]))
    return x, targets, groups


def test_without_groups_it_is_ridge_regression() -> None:
    x, targets, groups = case()
    ridge = Ridge(alpha=80 * 0.1, fit_intercept=False).fit(x.numpy(), targets.numpy())
    expected = torch.from_numpy(ridge.coef_.T)
    torch.testing.assert_close(fit(x, targets, groups, 0, 0.1), expected, atol=1e-5, rtol=0, check_dtype=False)


def test_no_small_change_improves_the_objective() -> None:
    x, targets, groups = case()
    x, targets = x.double(), targets.double()
    weights = fit(x, targets, groups, 0.2, 0.01)
    assert (weights == 0).any(), "the penalty does something"
    reached = objective(x, targets, weights, groups, 0.2, 0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        nudge = 1e-3 * torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        assert objective(x, targets, weights + nudge, groups, 0.2, 0.01) > reached


def test_shrinking_is_what_its_definition_minimizes() -> None:
    groups = Groups(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    v = torch.tensor([[1.0, -2, 0.3]])
    found = shrunk(v, groups, 0.5)
    for members in ([0, 1], [2]):
        target = v[0, members].double().numpy()
        best = minimize(
            lambda z, target=target: ((z - target) ** 2).sum() / 2 + 0.5 * np.sqrt((z**2).sum() + 1e-16), target
        )
        np.testing.assert_allclose(found[0, members].numpy(), best.x, atol=1e-4)
    assert found[0, 2] == 0


def test_a_huge_penalty_silences_the_groups_alone() -> None:
    x, targets, groups = case()
    weights = fit(x, targets, groups, 100.0, 0.1)
    assert (weights[:, :5] == 0).all()
    torch.testing.assert_close(weights[:, 5], fit(x, targets, groups, 0, 0.1)[:, 5], atol=1e-5, rtol=0)


def test_a_tag_of_two_groups_has_one_weight_in_the_end() -> None:
    _, copies = solve(*case(), 0.02, 0.1)
    torch.testing.assert_close(copies[:, 2], copies[:, 4], atol=1e-3, rtol=0)


def test_a_label_groups_the_tags_that_it_makes_more_frequent() -> None:
    labels = torch.zeros(40, 2)
    labels[:10, 0] = labels[10:, 1] = 1
    tags = torch.zeros(40, 3)
    tags[:8, 0] = 1  # with the first label alone
    tags[::4, 1] = 1  # as often with either
    tags[36:, 2] = 1  # with the second, but on too few pictures
    groups = group_tags(labels, tags.to(torch.uint8))
    assert sorted(zip(groups.label.tolist(), groups.column.tolist(), strict=True)) == [(0, 0), (0, 2), (1, 1)]


def test_data_without_labels_is_refused(tmp_path: Path) -> None:
    write_tiny_data(tmp_path / "data", 20)
    manifest = read_manifest(tmp_path / "data")
    with pytest.raises(DataError, match="CLARE needs class labels of training pictures, expected them in the column"):
        labels_of(manifest, manifest.rows("train"))
