import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from training.errors import DataError
from training.methods.cnn_rnn import CnnRnn, Paths, fit, search, sequence_loss, sequences


def random_network(tags: int, seed: int, features: int = 3) -> CnnRnn:
    torch.manual_seed(seed)
    network = CnnRnn(features, torch.rand(tags) * 9, 10).double().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.8)
    return network


def normal(pictures: int) -> Tensor:
    return torch.randn(pictures, 3, dtype=torch.float64)


@torch.no_grad()
def log_probabilities(network: CnnRnn, features: Tensor, paths: Tensor) -> Tensor:
    """Compute the log-probabilities [paths] of paths int64 [paths, steps] for one picture, teacher-forced."""
    given = torch.cat([torch.full_like(paths[:, :1], network.start), paths[:, :-1]], dim=1)
    logs, _ = network(features.expand(len(paths), -1), given)
    return logs.gather(2, paths[:, :, None])[:, :, 0].sum(1)


def test_a_search_as_wide_as_all_paths_is_exhaustive() -> None:
    paths = torch.tensor(list(permutations(range(5), 3)))
    greedy_misses = 0
    for seed in range(20):
        network, features = random_network(5, seed), normal(1)
        logs = log_probabilities(network, features, paths)
        found = search(network, features, width=60, length=3)
        assert found.tags[0].tolist() == paths[logs.argmax()].tolist(), f"seed {seed}"
        assert found.logs.sum().item() == pytest.approx(logs.max().item(), abs=1e-5)
        greedy_misses += search(network, features, width=1, length=3).logs.sum().item() < logs.max().item() - 1e-5
    assert greedy_misses > 0, "else the width would not matter"


def test_one_path_takes_the_likeliest_tag_at_each_step() -> None:
    network, features = random_network(7, 3), normal(6)
    found = search(network, features, width=1, length=4)
    for picture, path in enumerate(found.tags.tolist()):
        taken: list[int] = []
        for _ in range(4):
            with torch.no_grad():
                logs, _ = network(features[picture : picture + 1], torch.tensor([[network.start, *taken]]))
            allowed = logs[0, -1, :7].index_fill(0, torch.tensor(taken, dtype=torch.int64), -torch.inf)
            taken.append(int(allowed.argmax()))
        assert path == taken


class Garden(nn.Module):
    """p(a) = 0.6, p(b) = 0.4; after a, all of ten tags are alike; after b comes c."""

    tags, start = 12, 12
    a, b, c = 0, 1, 2

    def forward(self, features: Tensor, given: Tensor, state: object = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        chances = torch.full((len(given), 13), 1e-9)
        chances[given[:, 0] == self.start, :2] = torch.tensor([0.6, 0.4])
        chances[given[:, 0] == self.a, 2:12] = 0.1
        chances[given[:, 0] == self.b, self.c] = 1
        return chances.log()[:, None], (torch.zeros(1, len(given), 1), torch.zeros(1, len(given), 1))


def test_a_wider_search_finds_what_begins_less_likely() -> None:
    found = [search(Garden(), torch.zeros(1, 1), width=width, length=2) for width in (1, 2, 5)]  # type: ignore[arg-type]
    assert found[0].tags[0, 0] == Garden.a
    assert found[1].tags.tolist() == [[Garden.b, Garden.c]]
    totals = [paths.logs.sum().item() for paths in found]
    assert totals == sorted(totals)
    assert totals[1] == pytest.approx(math.log(0.4))


def test_a_path_has_the_probability_that_it_says_and_no_tag_twice() -> None:
    network, features = random_network(12, 4), normal(5)
    found = search(network, features)
    assert found.tags.shape == (5, 10)
    for picture, path in enumerate(found.tags.tolist()):
        assert len(set(path)) == 10
        assert max(path) < 12, "neither start nor end"
        (expected,) = log_probabilities(network, features[picture : picture + 1], torch.tensor([path])).tolist()
        assert found.logs[picture].sum().item() == pytest.approx(expected, abs=1e-5)


def test_fewer_tags_than_a_path_are_refused() -> None:
    with pytest.raises(DataError, match="predicts 10 tags for each picture, the vocabulary has only 7"):
        search(random_network(7, 0), normal(1))


def test_the_path_ranks_first_and_the_first_step_ranks_the_others() -> None:
    paths = Paths(torch.tensor([[4, 1]]), torch.tensor([[-2.0, -0.1]]), torch.tensor([[0.2, 0.1, 0.4, 0.0, 0.3]]))
    assert paths.scores().argsort(descending=True).tolist() == [[4, 1, 2, 0, 3]]
    assert paths.scores(by_probability=True).argsort(descending=True).tolist() == [[1, 4, 2, 0, 3]]


def test_tags_are_shown_from_the_most_frequent_on() -> None:
    tags = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    found = sequences(tags, torch.tensor([2.0, 5, 1, 5]))
    assert found.tolist() == [[1, 3, 0, 4], [4, -1, -1, -1], [2, 4, -1, -1]]
    many = sequences(torch.ones(1, 30), torch.arange(30.0))
    assert many.tolist() == [[*range(29, 9, -1), 30]]


def test_the_loss_is_the_mean_over_steps_then_over_pictures() -> None:
    network, features = random_network(4, 5), normal(2)
    tags = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1]])
    following = sequences(tags, tags.sum(0))
    with torch.no_grad():
        first, _ = network(features[:1], torch.tensor([[network.start, 0, 1]]))
        second, _ = network(features[1:], torch.tensor([[network.start, 3]]))
    of_first = -(first[0, 0, 0] + first[0, 1, 1] + first[0, 2, 4]) / 3
    of_second = -(second[0, 0, 3] + second[0, 1, 4]) / 2
    expected = ((of_first + of_second) / 2).item()
    assert sequence_loss(network, features, following).item() == pytest.approx(expected, rel=1e-5)


def test_training_learns_sequences_and_renumbering_tags_permutes_scores() -> None:
    torch.manual_seed(0)
    features = 5 * torch.eye(8)
    tags = torch.zeros(8, 12)
    tags[:, 0] = 1
    for picture in range(8):
        tags[picture, 1 + picture % 6] = tags[picture, 7 + picture % 5] = 1
    total = tags.sum(0)
    network = fit(features, tags, None, seed=0, epochs=300)
    found = search(network, features, length=3)
    assert torch.equal(found.tags, sequences(tags, total)[:, :3])

    order = torch.randperm(12)
    renumbered = CnnRnn(8, total[order], 8).eval()
    weights = network.state_dict()
    weights["embedding.weight"] = weights["embedding.weight"][[*order.tolist(), 12, 13]]
    weights["bias"] = weights["bias"][[*order.tolist(), 12]]
    renumbered.load_state_dict(weights)
    torch.testing.assert_close(search(renumbered, features).scores(), search(network, features).scores()[:, order])
