"""What came of a fault."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that must hold, and whether it did."""

    what: str
    held: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one fault: what was done to the server in a sentence or two, figures with their units, what must hold."""

    title: str
    did: str
    figures: Mapping[str, str]
    checks: Sequence[Check]

    @property
    def missed(self) -> list[str]:
        """What should have held and did not."""
        return [check.what for check in self.checks if not check.held]
