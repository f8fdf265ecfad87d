import math

import pytest
import torch

from training.methods.tag_graph import Edges, TagGraph, find_edges, fit, scores

NONE = Edges(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


def chain(tags: int) -> Edges:
    return Edges(torch.arange(tags - 1), torch.arange(1, tags))


def graph(tags: int, edges: tuple[Edges, Edges], steps: int) -> TagGraph:
    torch.manual_seed(0)
    network = TagGraph(4, tags, edges, steps).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.7)
    return network.eval()


def test_beliefs_spread_one_edge_a_step() -> None:
    steps = 3
    network = graph(steps + 2, (chain(steps + 2), NONE), steps)
    beliefs = torch.randn(2, steps + 2, 5, dtype=torch.float64)
    other = beliefs.clone()
    other[:, 0] += 1
    with torch.no_grad():
        one, two = network.answers(beliefs), network.answers(other)
    for step in range(steps):
        moved = (one[step] != two[step]).any(0).tolist()
        assert moved == [tag <= step + 1 for tag in range(steps + 2)]


def test_without_edges_each_tag_is_alone() -> None:
    network = graph(4, (NONE, NONE), 5)
    beliefs = torch.randn(3, 4, 5, dtype=torch.float64)
    other = beliefs.clone()
    other[:, 1] += 1
    with torch.no_grad():
        same = network.answers(beliefs) == network.answers(other)
    assert same[:, :, [0, 2, 3]].all()
    assert not same[:, :, 1].any()


def test_without_steps_it_is_a_plain_network() -> None:
    network, x = graph(4, (chain(4), NONE), 0), torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        labels = network.label.weight.expand(3, -1, -1)
        pairs = torch.cat([network.image(x)[:, None].expand_as(labels), labels], dim=2)
        beliefs = network.belief(pairs)
        expected = network.output(torch.cat([beliefs, beliefs], dim=2))[:, :, 0]
        torch.testing.assert_close(network(x), expected[None])


def test_renumbering_tags_permutes_outputs() -> None:
    order = torch.tensor([2, 0, 3, 1])
    place = order.argsort()
    edges = (chain(4), Edges(torch.tensor([3]), torch.tensor([0])))
    network = graph(4, edges, 2)
    moved = tuple(Edges(place[of.source], place[of.target]) for of in edges)
    renumbered = graph(4, (moved[0], moved[1]), 2)
    weights = network.state_dict()
    renumbered.load_state_dict({**weights, "label.weight": weights["label.weight"][order]})
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(renumbered(x), network(x)[:, :, order])


def test_edges_by_hand() -> None:
    tags = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    attract, repel = find_edges(tags, min_pictures=1)
    assert set(zip(attract.source.tolist(), attract.target.tolist(), strict=True)) == {(0, 1), (1, 0)}
    assert set(zip(repel.source.tolist(), repel.target.tolist(), strict=True)) == {(0, 2), (2, 0), (1, 2), (2, 1)}
    assert math.log(2 * 4 / (2 * 2)) > 0, "the tag of every picture neither attracts nor repels"
    none, _ = find_edges(tags)
    assert len(none.source) == 0, "two pictures are too few"


def test_each_tag_hears_from_the_nearest_ten_and_the_farthest_five() -> None:
    generator = torch.Generator().manual_seed(0)
    tags = torch.rand(400, 40, generator=generator) < 0.3
    attract, repel = find_edges(tags)
    assert attract.target.bincount().max() == 10
    assert repel.target.bincount().max() == 5
    counts = tags.float()
    lift = (counts.T @ counts) * 400 / (counts.sum(0)[:, None] * counts.sum(0))
    lift.fill_diagonal_(0)
    heard = attract.source[attract.target == 7]
    assert sorted(heard.tolist()) == sorted(lift[7].topk(len(heard)).indices.tolist())


@pytest.mark.parametrize("steps", [0, 2])
def test_training_learns_to_tell_pictures_apart(steps: int) -> None:
    features = torch.eye(2).repeat(30, 1)
    tags = torch.tensor([[1.0, 1, 0], [0, 0, 1]]).repeat(30, 1)
    found = scores(fit(features, tags, steps=steps, seed=0, epochs=150), torch.eye(2))
    assert found[0, :2].min() > 0 > found[0, 2]
    assert found[1, 2] > 0 > found[1, :2].max()
