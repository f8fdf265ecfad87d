"""What is recommended for one picture as its owner's history grows, and to two users."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from altreco_client import Reason, Tag
from altreco_client.images import load_crop
from altreco_client.reasons import reason
from numpy.typing import NDArray

from training.data.histories import Histories
from training.data.manifest import Manifest
from training.data.past import past_pictures
from training.data.shards import picture_of
from training.model import ALTReco

SHARES = (0, 25, 50, 75, 100)
"""Per cent of a user's past pictures, in the manifest's order, that the history counts (Table XII)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is recommended when `share` per cent of the owner's past pictures, the first `pictures`, are counted.

    `added`: the tags that were not in the history of the step before, most used first. `tags`: best first.
    `came_up`: those of `tags` that were not recommended in the step before.
    """

    share: int
    pictures: int
    added: tuple[str, ...]
    tags: tuple[Tag, ...]
    came_up: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is recommended to a user with the full history, and why; `used`: the history's tags, most used first."""

    user: str
    used: tuple[str, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """One picture, `image` as in the manifest: its owner's growing history, and one or two users (Figure 4).

    `file`: its path, or its bytes.
    """

    image: str
    file: Path | bytes
    owner: str
    own_tags: tuple[str, ...]
    steps: tuple[Step, ...]
    answers: tuple[Answer, ...]


@torch.inference_mode()
def explore(
    model: ALTReco, manifest: Manifest, histories: Histories, row: int, *, users: tuple[int, int] | None, k: int
) -> Exploration:
    """The best k tags of a picture for its owner's growing history and for `users`.

    Without `users`: for the owner and the user with the least similar history. Raises InvalidImage.
    """
    owner = int(manifest.users[row])
    shown = list(dict.fromkeys(users or (owner, histories.least_similar(owner))))
    pictures, grown = _grow(manifest, owner)
    full = [histories.tag_counts(user) for user in shown]
    scores = _scores(model, manifest, row, [*grown, *full])
    tags = [_best(manifest, own, k) for own in scores]
    alone = dict(zip(manifest.vocabulary.tags, scores[0].tolist(), strict=True))  # the first share is 0
    return Exploration(
        image=manifest.images[row],
        file=picture_of(manifest, row),
        owner=manifest.user_names[owner],
        own_tags=tuple(manifest.vocabulary.tags[i] for i in manifest.tags[row]),
        steps=_steps(manifest, pictures, grown, tags[: len(SHARES)]),
        answers=tuple(
            Answer(
                user=manifest.user_names[user],
                used=_most_used(manifest, counts),
                reasons=tuple(reason(tag, alone[tag.name]) for tag in best),
            )
            for user, counts, best in zip(shown, full, tags[len(SHARES) :], strict=True)
        ),
    )


def _grow(manifest: Manifest, user: int) -> tuple[list[int], list[NDArray[np.float32]]]:
    """For each share the number of pictures, rounded up, and their tags' counts, float32 [N]."""
    past = past_pictures(manifest)
    rows = past.of(user)
    pictures = [math.ceil(len(rows) * share / 100) for share in SHARES]
    return pictures, [past.tag_counts(rows[:number]) for number in pictures]


def _scores(model: ALTReco, manifest: Manifest, row: int, counts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """T_p for each of the histories, float32 [histories, N]; the picture is encoded once."""
    image = load_crop(picture_of(manifest, row))
    encoding = model.visual_encoder(torch.tensor(image)[None])
    histories = torch.from_numpy(np.stack(counts))
    return model.recommend_encoded(encoding.expand(len(histories), -1, -1, -1), histories).numpy()


def _best(manifest: Manifest, scores: NDArray[np.float32], k: int) -> tuple[Tag, ...]:
    names = manifest.vocabulary.tags
    return tuple(Tag(names[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k])


def _steps(
    manifest: Manifest, pictures: list[int], grown: list[NDArray[np.float32]], tags: list[tuple[Tag, ...]]
) -> tuple[Step, ...]:
    names = [frozenset(tag.name for tag in best) for best in tags]
    return tuple(
        Step(
            share=SHARES[i],
            pictures=pictures[i],
            added=_most_used(manifest, np.where(grown[max(0, i - 1)] == 0, grown[i], 0)),
            tags=tags[i],
            came_up=names[i] - names[max(0, i - 1)],
        )
        for i in range(len(SHARES))
    )


def _most_used(manifest: Manifest, counts: NDArray[np.float32]) -> tuple[str, ...]:
    order = np.argsort(-counts, kind="stable")
    return tuple(manifest.vocabulary.tags[i] for i in order[: np.count_nonzero(counts)])
