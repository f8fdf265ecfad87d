import pytest
import torch
from torch import Tensor

from training.methods.prompt import (
    EVERYBODY,
    Candidates,
    assign,
    co_occurrence,
    find_candidates,
    group_centres,
    unit_histories,
    walked,
)


def test_co_occurrence_is_not_symmetric() -> None:
    tags = torch.tensor([[1.0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]])
    given = co_occurrence(tags.T @ tags)
    assert given[0].tolist() == pytest.approx([0, 3 / 4, 1 / 4])
    assert given[1].tolist() == pytest.approx([1, 0, 1 / 3])
    assert given[2].tolist() == [0, 0, 0], "a tag of one picture says nothing"


def candidates(links: Tensor, scores: Tensor) -> Candidates:
    size = len(scores)
    return Candidates(
        torch.arange(size)[None], scores[None], links[None], torch.full((1, size), -1.0, dtype=scores.dtype)
    )


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.85])
def test_the_walk_ends_where_its_steps_lead(keep: float) -> None:
    torch.manual_seed(1)
    links = torch.rand(6, 6, dtype=torch.float64) * (torch.rand(6, 6) > 0.4)
    links[2] = 0
    start = torch.rand(6, dtype=torch.float64)
    steps = torch.where(links.any(1, keepdim=True), links / links.sum(1, keepdim=True), 1 / 6)
    expected = start
    for _ in range(300):
        expected = keep * steps.T @ expected + (1 - keep) * start
    found = walked(candidates(links, start), keep)[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert found.sum().item() == pytest.approx(start.sum().item())
    if keep == 0:
        torch.testing.assert_close(found, start)


def test_the_walk_prefers_tags_that_belong_together() -> None:
    links = torch.ones(4, 4) - torch.eye(4)
    links[3] = links[:, 3] = 0
    found = walked(candidates(links, torch.ones(4)), 0.5)[0]
    assert found[:3].min() > found[3]


def dialects() -> tuple[Tensor, Tensor, Tensor]:
    """Two groups who say sea or ocean (0 or 1) beside beach (2), and dog or puppy (3 or 4): histories, tags, owners."""
    words = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]), torch.tensor([[0.0, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
    owners = torch.arange(8).repeat_interleave(10)
    pictures = torch.arange(80) % 2
    tags = torch.stack([words[owner % 2][kind] for owner, kind in zip(owners.tolist(), pictures.tolist(), strict=True)])
    histories = torch.stack([tags[owners == owner].sum(0) for owner in range(8)])
    return histories, tags, owners


def answers(histories: Tensor, tags: Tensor, owners: Tensor, groups: int, asked: Tensor) -> Tensor:
    """Scores of one picture of the sea for each history asked; A1 is sure of the beach alone."""
    centres = group_centres(unit_histories(histories), groups)
    of_train = assign(unit_histories(histories[owners]), centres)
    of_asked = assign(unit_histories(asked), centres)
    if groups == 1:
        of_train, of_asked = torch.full_like(of_train, EVERYBODY), torch.full_like(of_asked, EVERYBODY)
    beach = tags[:, 2:3]
    features = torch.cat([beach, 1 - beach], dim=1) + 0.01
    visual = torch.tensor([0.1, 0.1, 0.9, 0.0, 0.0]).expand(len(asked), -1)
    looks = torch.tensor([[1.01, 0.01]]).expand(len(asked), -1)
    return walked(find_candidates(visual, looks, of_asked, features, tags, of_train), 0.5)


def test_each_group_gets_its_own_word() -> None:
    histories, tags, owners = dialects()
    own = answers(histories, tags, owners, 2, histories[:2])
    assert own[0, 0] > own[0, 1]
    assert own[1, 1] > own[1, 0]
    together = answers(histories, tags, owners, 1, histories[:2])
    torch.testing.assert_close(together[0], together[1])


def test_a_user_without_a_history_is_like_everybody() -> None:
    histories, tags, owners = dialects()
    assert assign(torch.zeros(1, 5), group_centres(unit_histories(histories), 2)).tolist() == [EVERYBODY]
    nobody = answers(histories, tags, owners, 2, torch.zeros(1, 5))
    torch.testing.assert_close(nobody, answers(histories, tags, owners, 1, torch.zeros(1, 5)))


def test_renumbering_tags_permutes_scores() -> None:
    torch.manual_seed(0)
    tags = (torch.rand(60, 9) < torch.linspace(0.1, 0.6, 9)).float()
    visual, features = torch.rand(4, 9), torch.rand(4, 5)
    known, groups = torch.rand(60, 5), torch.arange(60) % 2
    order = torch.randperm(9)
    asked = torch.tensor([0, 1, EVERYBODY, 0])
    plain = walked(find_candidates(visual, features, asked, known, tags, groups), 0.7)
    renumbered = walked(find_candidates(visual[:, order], features, asked, known, tags[:, order], groups), 0.7)
    torch.testing.assert_close(renumbered, plain[:, order])


def test_tags_beyond_the_candidates_come_last_and_by_frequency() -> None:
    torch.manual_seed(0)
    tags = (torch.rand(200, 70) < torch.linspace(0.01, 0.3, 70)).float()
    found = find_candidates(
        torch.rand(1, 70), torch.rand(1, 5), torch.tensor([EVERYBODY]), torch.rand(200, 5), tags, torch.zeros(200)
    )
    scores = walked(found, 0.5)[0]
    chosen = torch.zeros(70, dtype=torch.bool).index_fill(0, found.tags[0], True)
    assert chosen.sum() == 50
    assert scores[chosen].min() >= 0 > scores[~chosen].max()
    frequency = tags.mean(0)[~chosen]
    torch.testing.assert_close(scores[~chosen], frequency - 1)
