"""Ask the server for a handful of test pictures, each for three users."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import Tag, TagRecommender, prepare

from training.data.histories import Histories
from training.data.manifest import Manifest

PICTURES = 6
K = 5


@dataclass(frozen=True)
class Answer:
    """The tags for one user, whose history is tag to count, most used first."""

    user: str
    history: Mapping[str, float]
    tags: tuple[Tag, ...]


@dataclass(frozen=True)
class Row:
    """A test picture, its owner's own tags, and answers for owner, another user, and one without history."""

    image: Path
    own_tags: tuple[str, ...]
    answers: tuple[Answer, ...]

    def __str__(self) -> str:
        """For the terminal; a star marks a tag that the owner gave."""
        lines = [f"{self.image.name}  own tags: {', '.join(self.own_tags)}"]
        for answer in self.answers:
            tags = [f"{tag.name}{'*' if tag.name in self.own_tags else ''} {tag.score:.2f}" for tag in answer.tags]
            lines.append(f"  {answer.user:>14}: {', '.join(tags)}")
        return "\n".join(lines)


def recommend_rows(recommender: TagRecommender, manifest: Manifest, histories: Histories) -> list[Row]:
    """One row a picture, the pictures from different users."""
    rows = []
    for row in _pictures(manifest):
        image = manifest.root / manifest.images[row]
        prepared = prepare(image)
        owner = int(manifest.users[row])
        other = histories.least_similar(owner)  # personalization shows best there
        answers = [
            Answer(user, history, recommender.recommend(prepared, history, K).tags)
            for user, history in (
                (f"{manifest.user_names[owner]} (owner)", _history(owner, manifest, histories)),
                (manifest.user_names[other], _history(other, manifest, histories)),
                ("no history", {}),
            )
        ]
        own_tags = tuple(manifest.vocabulary.tags[i] for i in manifest.tags[row])
        rows.append(Row(image, own_tags, tuple(answers)))
    return rows


def _pictures(manifest: Manifest) -> list[int]:
    """Test pictures spread over the users."""
    rows = manifest.rows("test")
    _, first = np.unique(manifest.users[rows], return_index=True)
    candidates = rows[np.sort(first)]
    return [int(row) for row in candidates[np.linspace(0, len(candidates) - 1, PICTURES).astype(int)]]


def _history(user: int, manifest: Manifest, histories: Histories) -> dict[str, float]:
    indices, counts = histories.used(user)
    order = np.argsort(-counts, kind="stable")
    return {manifest.vocabulary.tags[indices[i]]: float(counts[i]) for i in order}
