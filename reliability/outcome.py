"""The outcome of a scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A condition that must hold, and whether it did."""

    what: str
    held: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done to the server, in a sentence or two; figures with their units; and the checks."""

    title: str
    did: str
    figures: Mapping[str, str]
    checks: Sequence[Check]

    @property
    def missed(self) -> list[str]:
        """The checks that failed."""
        return [check.what for check in self.checks if not check.held]
