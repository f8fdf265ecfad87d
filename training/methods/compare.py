"""The comparison methods as runs of the ablation: each turns a Task into metrics on the test split."""

from collections.abc import Callable, Mapping
from itertools import product

import torch
from torch import Tensor

from training.data.concepts import MONTHS, PLACES, TIMES, YEARS
from training.data.manifest import Manifest
from training.evaluate import FUSION, WITHOUT, Metrics, evaluate, fused, groups, rank_by_group, summarize_all
from training.methods import clare, cnn_rnn, contagnet, dlsr, fasttag, prompt, tag_graph
from training.methods.late_fusion import choose_weight, fuse
from training.methods.neighbours import neighbour_votes
from training.methods.popularity import own_most_frequent
from training.methods.task import Seen, Task, best, precision
from training.metrics import KS, summarize

OWN, NEIGHBOURS, FASTTAG = "own most frequent tags", "visual neighbours", "FastTag"
CONTEXT, PERMUTED, VISUAL = "context", "permuted contexts", "visual net"
PATH, GREEDY, BY_PROBABILITY, END_TO_END = "path", "greedy", "path by probability", "end to end"
GROUPED, ONE_GROUP = "groups", "one group"
TWO_VIEWS, PICTURES_ALONE = "two views", "pictures alone"
JOINT, RIDGE = "joint", "ridge regression"
GRAPH, NO_GRAPH = "graph", "no graph"
"""What the runs measure."""

K_NEIGHBOURS = 50
PLACE_WORDS = frozenset(word for words in PLACES for word in words)
TIME_WORDS = frozenset((*TIMES, *MONTHS, *YEARS))
BY_CONTEXT = ("with place", "without place", "place words", "time words", "other words")
"""precision@5 of these, by name `precision@5, NAME`: of pictures with or without a place, or among some tags alone."""

Scores = Mapping[str, Tensor]
"""What is measured to scores of the test pictures, [pictures, N]."""


def without_training(task: Task) -> Metrics:
    """Metrics of the methods that train nothing, and of late fusion with each kind of history."""
    train, validation, test, total = task.train, task.validation, task.test, task.histories.total()
    weight = choose_weight(validation.scores, validation.counts, total, validation.tags)
    measured = evaluate(
        task.visual_net, task.manifest, task.histories, workers=task.workers, quiet=True, fusion_weight=weight
    )
    scores = {
        OWN: own_most_frequent(test.counts, total),
        NEIGHBOURS: neighbour_votes(test.features, train.features, train.tags, min(K_NEIGHBOURS, len(train.tags))),
        FASTTAG: fasttag.fit(train.features, train.tags, fasttag.FastTagSettings()).scores(test.features),
    }
    fusions = {method: of_method for method, of_method in measured.items() if FUSION in method}
    fusions |= {f"{group}{fused(WITHOUT)}": measured[f"{group}{WITHOUT}"] for group in groups(measured)}
    return {**_measured(task, scores), **fusions}


def of_prompt(task: Task) -> Metrics:
    """PROMPT with the number of groups and the damping chosen on validation pictures, and with one group."""
    users = prompt.unit_histories(task.histories.sample(prompt.MAX_USERS))
    train = task.train

    def candidates(groups: int, seen: Seen) -> prompt.Candidates:
        of_train, of_seen = (
            prompt.assign(prompt.unit_histories(some.counts), centres[groups])
            if groups > 1
            else torch.full_like(some.users, prompt.EVERYBODY)
            for some in (train, seen)
        )
        return prompt.find_candidates(seen.scores, seen.features, of_seen, train.features, train.tags, of_train)

    def scores(numbers: tuple[int, ...]) -> Tensor:
        found = {groups: candidates(groups, task.validation) for groups in numbers}
        options = product(numbers, prompt.KEEP)
        chosen, keep = best(options, lambda option: prompt.walked(found[option[0]], option[1]), task.validation.tags)
        return prompt.walked(candidates(chosen, task.test), keep)

    centres = {groups: prompt.group_centres(users, groups) for groups in prompt.GROUPS}
    return _measured(task, {GROUPED: scores(prompt.GROUPS), ONE_GROUP: scores((1,))})


def of_cnn_rnn(task: Task) -> Metrics:
    """CNN-RNN on A1's features, and end to end from there."""
    train, validation, test = task.train, task.validation, task.test

    def figure(network: cnn_rnn.CnnRnn) -> float:
        return precision(cnn_rnn.search(network, validation.features).scores(), validation.tags, cnn_rnn.PATH)

    network = cnn_rnn.fit(train.features, train.tags, figure, seed=task.settings.seed)
    paths = cnn_rnn.search(network, test.features)
    scores = {
        PATH: paths.scores(),
        BY_PROBABILITY: paths.scores(by_probability=True),
        GREEDY: cnn_rnn.search(network, test.features, width=1).scores(),
    }
    features = cnn_rnn.fit_end_to_end(task, network)
    return _measured(task, {**scores, END_TO_END: cnn_rnn.search(network, features).scores()})


def of_dlsr(task: Task) -> Metrics:
    """DLSR with its penalties chosen on validation pictures, with and without the view of tags."""
    train, validation, test = task.train, task.validation, task.test
    tags = train.tags.float()
    together = tags.T @ tags
    views: dict[float, Tensor] = {}
    for l2 in dlsr.L2:
        views[l2] = dlsr.tag_weights(together, l2, start=next(reversed(views.values()), None))
    first = {l1: dlsr.from_pictures(validation.features, train.features, train.tags, l1) for l1 in dlsr.L1}
    second = {(l1, l2): first[l1] @ views[l2] for l1, l2 in product(dlsr.L1, dlsr.L2)}

    def scores(thetas: tuple[float, ...]) -> Tensor:
        options = product(dlsr.L1, dlsr.L2, thetas)
        l1, l2, theta = best(options, lambda o: first[o[0]] + o[2] * second[o[:2]], validation.tags)
        seen = dlsr.from_pictures(test.features, train.features, train.tags, l1)
        return seen + theta * (seen @ views[l2])

    return _measured(task, {TWO_VIEWS: scores(dlsr.THETA), PICTURES_ALONE: scores((0.0,))})


def of_clare(task: Task) -> Metrics:
    """CLARE with its penalties chosen on validation pictures, and without groups."""
    train, validation, test = task.train, task.validation, task.test
    labels = clare.labels_of(task.manifest, task.train_rows)
    groups = clare.group_tags(labels, train.tags)
    targets = torch.cat([labels, train.tags.float()], dim=1)
    mean = train.features.mean(0)

    def scores(a: tuple[float, ...]) -> Tensor:
        fits = {
            option: clare.fit(train.features - mean, targets, groups, *option)[:, labels.shape[1] :]
            for option in product(a, clare.B)
        }
        share = train.tags.mean(0)
        chosen = best(fits, lambda option: (validation.features - mean) @ fits[option] + share, validation.tags)
        return (test.features - mean) @ fits[chosen] + share

    return _measured(task, {JOINT: scores(clare.A), RIDGE: scores((0.0,))})


def of_tag_graph(task: Task) -> Metrics:
    """Tag graph, and the same network without the graph."""
    train, features = task.train, task.test.features

    def scores(steps: int) -> Tensor:
        network = tag_graph.fit(train.features, train.tags, steps=steps, seed=task.settings.seed)
        return tag_graph.scores(network, features)

    return _measured(task, {GRAPH: scores(tag_graph.STEPS), NO_GRAPH: scores(0)})


def of_contagnet(task: Task, encoding: contagnet.Encoding) -> Metrics:
    """ConTagNet, with the contexts of others, A1 and late fusion, also by what the pictures' contexts say."""
    of_rows, rows = contagnet.contexts(task.manifest, encoding), task.manifest.rows("test")
    network = contagnet.fit(task, of_rows)
    validation, test, total = task.validation, task.test, task.histories.total()
    weight = choose_weight(validation.scores, validation.counts, total, validation.tags)
    scores = {
        CONTEXT: contagnet.scores(task, network, of_rows, rows),
        PERMUTED: contagnet.scores(task, network, of_rows.permuted(rows), rows),
        VISUAL: test.scores,
        FUSION: fuse(test.scores, test.counts, total, weight),
    }
    return _with_context(task, scores, _measured(task, scores))


METHODS = "methods"
"""The run of `without_training`."""

RUNS: Mapping[str, Callable[[Task], Metrics]] = {
    METHODS: without_training,
    "prompt": of_prompt,
    "cnn-rnn": of_cnn_rnn,
    "dlsr": of_dlsr,
    "clare": of_clare,
    "tag-graph": of_tag_graph,
    "contagnet-raw": lambda task: of_contagnet(task, "raw"),
    "contagnet-cyclic": lambda task: of_contagnet(task, "cyclic"),
}


def lacking(manifest: Manifest) -> dict[str, str]:
    """The runs that this data set is not enough for, each with what it lacks."""
    found = {run: contagnet.lacks(manifest) for run in ("contagnet-raw", "contagnet-cyclic")}
    found["clare"] = clare.lacks(manifest)
    return {run: reason for run, reason in found.items() if reason}


def _measured(task: Task, scores: Scores) -> Metrics:
    return summarize_all(rank_by_group(scores, task.test.tags, task.test.users, task.histories))


def _with_context(task: Task, scores: Scores, metrics: Metrics) -> Metrics:
    """Add BY_CONTEXT, as far as there are such pictures, and at least ten such tags."""
    context, words = task.manifest.context, task.manifest.vocabulary.tags
    assert context is not None
    tags, users = task.test.tags, task.test.users
    placed = torch.from_numpy(context.has_place[task.manifest.rows("test")])
    of_place = torch.tensor([word in PLACE_WORDS for word in words])
    of_time = torch.tensor([word in TIME_WORDS for word in words])
    everything, every_tag = torch.ones_like(placed), torch.ones_like(of_place)
    parts = (
        *((placed, every_tag), (~placed, every_tag)),
        *((everything, some) for some in (of_place, of_time, ~(of_place | of_time))),
    )
    found = {method: dict(of_method) for method, of_method in metrics.items()}
    for name, (pictures, columns) in zip(BY_CONTEXT, parts, strict=True):
        if columns.sum() < max(KS):
            continue
        some = {method: of_method[pictures][:, columns] for method, of_method in scores.items()}
        for method, ranked in rank_by_group(some, tags[pictures][:, columns], users[pictures], task.histories).items():
            if len(ranked.relevant):
                found[method][f"precision@5, {name}"] = summarize(ranked)["precision@5"]
    return found
