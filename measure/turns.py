"""Contestants that take turns, so that other work on the machine affects all of them alike."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from measure.progress import progress_bar

T = TypeVar("T")


def order(contestants: Sequence[T], number: int) -> list[T]:
    """Return the order in a round (from 0). Odd rounds are reversed, and every two rounds the first one changes."""
    start = number // 2 % len(contestants)
    turned = [*contestants[start:], *contestants[:start]]
    return turned[::-1] if number % 2 else turned


def by_turns(
    contestants: Mapping[str, Callable[[], T]], rounds: int, *, title: str = "", limit_s: float = math.inf
) -> dict[str, list[T]]:
    """Call each contestant once per round; return its values by round. With a title, show progress.

    After the first round, no round begins that would end later than `limit_s`, if it takes as long as those before.
    """
    started_s = time.monotonic()
    values: dict[str, list[T]] = {name: [] for name in contestants}
    with progress_bar(title=title, total=rounds * len(contestants), unit="turn", disable=not title) as bar:
        for number in range(rounds):
            if number and (time.monotonic() - started_s) * (number + 1) / number > limit_s:
                break
            for name in order(list(contestants), number):
                values[name].append(contestants[name]())
                bar.update()
    return values
