"""The tags that a model knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .checks import checked_tag
from .errors import InvalidHistory
from .text import shown


@dataclass(frozen=True)
class Vocabulary:
    """The N tags, in the order of the model's tensors."""

    tags: tuple[str, ...]
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tags. Raises ValueError for a repeated tag, and for one that no history can hold."""
        object.__setattr__(self, "index", {tag: i for i, tag in enumerate(self.tags)})
        if len(self.index) != len(self.tags):
            raise ValueError(f"a vocabulary holds each tag once: {len(self.tags) - len(self.index)} repeated")
        for number, tag in enumerate(self.tags, start=1):
            try:
                checked = checked_tag(tag)
            except InvalidHistory as error:
                raise ValueError(f"number {number}, {error}") from error
            if checked != tag:
                raise ValueError(
                    f"number {number}, tag {shown(tag)}: expected {shown(checked)}, without white space around it and "
                    "in Unicode form NFC, as in histories"
                )

    def __len__(self) -> int:
        """The number of tags, N."""
        return len(self.tags)
