from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_settings
from training.methods.late_fusion import fuse
from training.metrics import tagging_metrics
from training.model import ALTReco, HistoryPath, normalized

N = 40
TOTAL = torch.arange(N).float() ** 2
"""Counts of each tag over the training pictures; none has the first."""

USERS = torch.arange(N).float()
"""Training users of each tag."""


def path(*, population: bool = True, trained: bool = True) -> HistoryPath:
    """Fitted to TOTAL and USERS; `trained`: with random weights of about the size that training gives."""
    torch.manual_seed(0)
    made = HistoryPath(N, population=population)
    made.start_from(TOTAL, USERS)
    if trained:
        with torch.no_grad():
            made.a.normal_(0, 0.1)
            made.b.normal_(0, 0.1)
            if made.population is not None:
                made.population.decode.weight.normal_(0, 0.5)
                made.population.encode.bias.normal_()
    return made


def histories(rows: int = 8) -> torch.Tensor:
    """Raw counts, most of them 0; no row without any."""
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(1, 9, (rows, N), generator=generator) * (torch.rand(rows, N, generator=generator) < 0.2)
    counts[:, 3] += 1
    return counts.float()


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def network(history_path: str, **changes: object) -> ALTReco:
    torch.manual_seed(0)
    model = ALTReco(replace(tiny_settings().model, history_path=history_path, **changes), N)
    model.start_from(pictures=1000, total=TOTAL, users=USERS, histories=histories())
    return model.eval()


@torch.no_grad()
def test_the_prior_is_the_log_ratio_of_the_smoothed_shares() -> None:
    model, counts = path(population=False), histories()
    w, m = model.weights()
    p, s = model.shares, counts.sum(1, keepdim=True)
    torch.testing.assert_close(p, (TOTAL + 1) / (TOTAL.sum() + N))
    torch.testing.assert_close(model(counts), w * torch.log((counts + m * p) / (s + m) / p), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("population", [False, True])
def test_untrained_it_is_late_fusion(population: bool) -> None:
    visual, counts = torch.rand(8, N), histories()
    fused = fuse(visual, counts, TOTAL, weight=1.0)
    prior = path(population=population, trained=False)(counts)
    torch.testing.assert_close(visual.log() + prior, fused, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_the_output_of_the_population_prior_it_is_the_plain_path() -> None:
    plain, hier = path(population=False), path()
    hier.load_state_dict({**hier.state_dict(), **plain.state_dict()})
    assert (hier(histories()) - plain(histories())).abs().max() > 0.1
    hier.population.decode.weight.zero_()
    torch.testing.assert_close(hier(histories()), plain(histories()), rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("population", [False, True])
def test_no_history_gives_exactly_0_and_leaves_the_others_of_the_batch_alone(population: bool) -> None:
    model, counts = path(population=population), histories()
    mixed = counts.clone()
    mixed[1::2] = 0
    prior = model(mixed)
    assert (prior[1::2] == 0).all()
    torch.testing.assert_close(prior[0::2], model(counts)[0::2], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_a_larger_count_never_lowers_its_tag() -> None:
    model = path(population=False)
    counts = histories(1).repeat(20, 1)
    counts[:, 7] = torch.arange(20)
    assert (model(counts)[:, 7].diff() > 0).all()


@torch.no_grad()
def test_own_counts_outgrow_the_population() -> None:
    model = path()
    counts = histories(1)
    few, many = (model.population(c, c.sum(1, keepdim=True)).abs().max() for c in (counts, 1000 * counts))
    assert many < few / 10


@torch.no_grad()
@pytest.mark.parametrize("bad", [3e38, float("inf"), -1.0, float("nan")])
def test_any_count_gives_finite_answers_and_changes_no_other_row(bad: float) -> None:
    model, counts = network("hier"), histories(3)
    model.history_path.load_state_dict(path().state_dict())
    spoilt = counts.clone()
    spoilt[1] = bad
    encoding = model.visual_encoder(images(3))
    answer, spoilt_answer = (model.recommend_encoded(encoding, c) for c in (counts, spoilt))
    assert spoilt_answer.isfinite().all()
    torch.testing.assert_close(spoilt_answer[[0, 2]], answer[[0, 2]], rtol=0, atol=1e-6)
    if not bad > 0:
        spoilt[1] = 0
        torch.testing.assert_close(model.recommend_encoded(encoding, spoilt), spoilt_answer, rtol=0, atol=1e-6)


def test_histories_are_divided_by_their_largest_count() -> None:
    counts = torch.tensor([[2.0, 1, 0], [0, 0, 0], [0, 3e38, 0], [1e-30, 0, 0]])
    assert normalized(counts).tolist() == [[1, 0.5, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


@torch.no_grad()
@pytest.mark.parametrize("variant", ["path", "hier"])
@pytest.mark.parametrize("user_preference", [True, False])
def test_the_model_adds_the_prior_to_the_personalized_logits_alone(variant: str, user_preference: bool) -> None:
    changes = {"user_preference": user_preference}
    model, plain = network(variant, **changes), network("none", **changes)
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    assert model.personalized
    assert plain.personalized == user_preference
    counts, image = histories(2), images(2)
    counts[1] = 0
    prediction, without = model(image, counts), plain(image, counts)
    assert (prediction.personalized - without.personalized)[0].abs().max() > 0.1
    torch.testing.assert_close(
        prediction.personalized, without.personalized + model.history_path(counts), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(prediction.generalized, without.generalized)
    torch.testing.assert_close(model.recommend(image, counts), torch.sigmoid(prediction.personalized))


@torch.no_grad()
def test_the_prior_stays_float32_under_autocast() -> None:
    model, counts, image = network("hier"), histories(2), images(2)
    model.history_path.load_state_dict(path().state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.classifier(model.visual_encoder(image), model.preference_encoder(counts))
        answer = model(image, counts).personalized
    assert (logits.dtype, answer.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(answer, logits.float() + model.history_path(counts))


@pytest.mark.parametrize("population", [False, True])
def test_a_tag_of_no_training_user_keeps_its_weights_whatever_the_training(population: bool) -> None:
    model = path(population=population, trained=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(50):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(histories()), torch.zeros(8, N))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    w, m = model.weights()
    assert (w[0], m[0]) == (1, 10)
    assert (w[20:] - 1).abs().min() > 0.01
    assert (m[20:] - 10).abs().min() > 0.1


def simulated(users: int, favourites: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """30 pictures of each user, who likes 15 of the tags `favourites`: logits of a net without history, tags, counts.

    The counts are those of the user's other pictures.
    """
    generator = torch.Generator().manual_seed(seed)
    liked = torch.zeros(users, TAGS)
    for user in liked:
        user[favourites[torch.randperm(len(favourites), generator=generator)[:15]]] = 1
    tags = (torch.rand(users, 30, TAGS, generator=generator) < 0.25 * liked[:, None]).float()
    counts = tags.sum(1, keepdim=True) - tags
    logits = 1.5 * tags - 3 + torch.randn(tags.shape, generator=generator)
    return logits.flatten(0, 1), tags.flatten(0, 1), counts.flatten(0, 1)


TAGS = 100


@pytest.mark.parametrize("shrunk", [True, False])
def test_forty_epochs_do_not_lower_new_users(shrunk: bool) -> None:
    """The new users like tags that no training user ever used: nothing holds those tags' weights but the shrinkage."""
    logits, tags, counts = simulated(12, torch.arange(60), seed=1)
    new_logits, new_tags, new_counts = simulated(40, torch.arange(TAGS), seed=2)
    torch.manual_seed(0)
    model = HistoryPath(TAGS, population=False)
    used_by = (tags.reshape(12, 30, TAGS).sum(1) > 0).sum(0)
    model.start_from(tags.sum(0), used_by if shrunk else torch.full((TAGS,), 1e9))

    @torch.no_grad()
    def precision() -> float:
        return tagging_metrics(new_logits + model(new_counts), new_tags, ks=(5,))["precision@5"]

    before = precision()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)
    for _ in range(40):
        for batch in torch.randperm(len(tags)).split(25):
            prediction = logits[batch] + model(counts[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(prediction, tags[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if shrunk:
        assert precision() > before - 0.01
    else:
        assert precision() < before - 0.05, "this data no longer shows the fault that the shrinkage cures"
