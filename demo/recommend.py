"""Ask the server about a few test pictures, each for its owner, for another user, and without a history."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from altreco_client import Reason, Tag, TagRecommender, explain, prepare

from training import figures
from training.data.histories import Histories
from training.data.manifest import Manifest

PICTURES = 3
"""The last one is a new user's, if there are any."""
K = 5


@dataclass(frozen=True)
class Answer:
    """The tags for one user, with reasons. `history`: tag to count, most used first."""

    user: str
    history: Mapping[str, float]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Row:
    """A test picture with its owner's own tags, the answers for the owner and for another user, and the tags for a user
    without a history.
    """

    image: Path
    own_tags: tuple[str, ...]
    answers: tuple[Answer, ...]
    cold: tuple[Tag, ...]

    def __str__(self) -> str:
        """Format for the terminal, with the marks of EXPLANATION."""
        lines = [f"{self.image.name}  own tags: {', '.join(self.own_tags)}"]
        for answer in self.answers:
            tags = [figures.reason(reason, self.own_tags) for reason in answer.reasons]
            lines.append(f"  {answer.user:>25}: {', '.join(tags)}")
        cold = [f"{tag.name}{'*' if tag.name in self.own_tags else ''} {tag.score:.2f}" for tag in self.cold]
        return "\n".join([*lines, f"  {'no history':>25}: {', '.join(cold)}"])


EXPLANATION = f"""* a tag that the owner gave
{figures.REASONS}"""


def recommend_rows(recommender: TagRecommender, manifest: Manifest, histories: Histories) -> list[Row]:
    """One row for each of PICTURES pictures of different users."""
    rows = []
    for row in _pictures(manifest, histories):
        image = manifest.root / manifest.images[row]
        prepared = prepare(image)
        owner = int(manifest.users[row])
        other = histories.least_similar(owner)  # personalization shows best there
        title = "owner, new user" if histories.is_new[owner] else "owner"
        cold = recommender.recommend(prepared, None, len(manifest.vocabulary))
        answers = [
            Answer(user, history, explain(recommender.recommend(prepared, history, K), cold))
            for user, history in (
                (f"{manifest.user_names[owner]} ({title})", _history(owner, manifest, histories)),
                (manifest.user_names[other], _history(other, manifest, histories)),
            )
        ]
        own_tags = tuple(manifest.vocabulary.tags[i] for i in manifest.tags[row])
        rows.append(Row(image, own_tags, tuple(answers), cold.tags[:K]))
    return rows


def _pictures(manifest: Manifest, histories: Histories) -> list[int]:
    """Test pictures spread over the users, the last one of a new user if there are any."""
    rows = manifest.rows("test")
    _, first = np.unique(manifest.users[rows], return_index=True)
    candidates = rows[np.sort(first)]
    is_new = histories.is_new[manifest.users[candidates]]
    known, new = candidates[~is_new], candidates[is_new][:1]
    spread = np.linspace(0, len(known) - 1, PICTURES - len(new)).astype(int)
    return [*known[spread].tolist(), *new.tolist()]


def _history(user: int, manifest: Manifest, histories: Histories) -> dict[str, float]:
    indices, counts = histories.used(user)
    order = np.argsort(-counts, kind="stable")
    return {manifest.vocabulary.tags[indices[i]]: float(counts[i]) for i in order}
