"""Contestants that take turns, so that changes of the machine affect all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from measure.progress import progress_bar

T = TypeVar("T")


def order(contestants: Sequence[T], number: int) -> list[T]:
    """Return the order in a round (from 0): odd rounds are reversed, and every two rounds another one is first."""
    start = number // 2 % len(contestants)
    turned = [*contestants[start:], *contestants[:start]]
    return turned[::-1] if number % 2 else turned


def by_turns(contestants: Mapping[str, Callable[[], T]], rounds: int, *, title: str = "") -> dict[str, list[T]]:
    """Call each contestant once per round; return its values by round. With a title, show progress."""
    values: dict[str, list[T]] = {name: [] for name in contestants}
    with progress_bar(title=title, total=rounds * len(contestants), unit="turn", disable=not title) as bar:
        for number in range(rounds):
            for name in order(list(contestants), number):
                values[name].append(contestants[name]())
                bar.update()
    return values
