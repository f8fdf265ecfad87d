"""Contestants that take turns, so that what happens to the machine meanwhile happens to all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def order(contestants: Sequence[T], number: int) -> list[T]:
    """The order of a round, counted from 0: forwards and backwards in turn, and every two rounds another one first."""
    start = number // 2 % len(contestants)
    turned = [*contestants[start:], *contestants[:start]]
    return turned[::-1] if number % 2 else turned


def by_turns(contestants: Mapping[str, Callable[[], T]], rounds: int, *, title: str = "") -> dict[str, list[T]]:
    """Call each contestant once a round; its values, one a round. A title shows a progress bar."""
    values: dict[str, list[T]] = {name: [] for name in contestants}
    with tqdm(total=rounds * len(contestants), desc=title, unit="turn", disable=not title) as bar:
        for number in range(rounds):
            for name in order(list(contestants), number):
                values[name].append(contestants[name]())
                bar.update()
    return values
