from collections import Counter

import pytest

from measure.progress import progress_bar
from measure.turns import by_turns, order


@pytest.mark.parametrize("contestants", ["ab", "abc", "abcd"])
def test_every_contestant_is_first_and_last_as_often_as_any_other(contestants: str) -> None:
    rounds = [order(contestants, number) for number in range(2 * len(contestants))]
    assert all(sorted(turned) == list(contestants) for turned in rounds)
    assert Counter(turned[0] for turned in rounds) == dict.fromkeys(contestants, 2)
    assert Counter(turned[-1] for turned in rounds) == dict.fromkeys(contestants, 2)


def test_the_order_changes_from_one_round_to_the_next() -> None:
    assert [order("ab", number) for number in range(4)] == [list("ab"), list("ba"), list("ba"), list("ab")]


def test_values_are_kept_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    called: list[str] = []
    contestants = {name: lambda name=name: called.append(name) or len(called) for name in "ab"}
    assert by_turns(contestants, 3) == {"a": [1, 4, 6], "b": [2, 3, 5]}
    assert called == list("abbaba")
    assert capsys.readouterr().err == ""
    by_turns(contestants, 1, title="race")
    assert "race" in capsys.readouterr().err


def test_a_log_gets_a_line_at_the_start_and_at_the_end_instead_of_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(100_000), "count", unit="number")) == [*range(100_000)]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert [line.partition(" [")[0] for line in lines] == ["count: 0/100000", "count: 100000/100000"]
