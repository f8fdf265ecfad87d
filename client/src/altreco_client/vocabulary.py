"""The tags that a model knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vocabulary:
    """The N tags, in the order of the model's tensors."""

    tags: tuple[str, ...]
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tags; raises ValueError for a repeated tag."""
        object.__setattr__(self, "index", {tag: i for i, tag in enumerate(self.tags)})
        if len(self.index) != len(self.tags):
            raise ValueError(f"a vocabulary holds each tag once: {len(self.tags) - len(self.index)} repeated")

    def __len__(self) -> int:
        """The number of tags, N."""
        return len(self.tags)
