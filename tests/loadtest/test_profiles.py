from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from loadtest.errors import LoadtestError
from loadtest.load.profiles import Profile, Stage, load_profile


def profile(*stages: Stage, rate: float = 100) -> Profile:
    return Profile(rate=rate, stages=stages)


def test_the_named_profiles() -> None:
    durations = {name: load_profile(name).duration_s for name in ("smoke", "steady", "ramp", "spike", "soak")}
    assert durations["steady"] == 120
    assert durations["smoke"] < durations["spike"] < durations["soak"]


def test_levels_follow_the_stages() -> None:
    shape = profile(Stage(name="up", duration_s=10, level=0, to=2), Stage(name="high", duration_s=5, level=2))
    assert [shape.level(t) for t in (0, 5, 12, 15)] == [0, 1, 2, None]
    assert shape.phases(np.array([0, 9.9, 10, 20])).tolist() == [0, 0, 1, 1]
    assert shape.peak_rate == 200


def test_arrivals_are_a_poisson_process() -> None:
    """Gaps of a constant rate are exponential."""
    times = profile(Stage(name="steady", duration_s=50)).arrivals(np.random.default_rng(0))
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert stats.kstest(np.diff(times), stats.expon(scale=0.01).cdf).pvalue > 0.01


def test_arrivals_follow_a_ramp() -> None:
    """In the first half of a ramp from 0, a quarter of them."""
    times = profile(Stage(name="up", duration_s=100, level=0, to=1)).arrivals(np.random.default_rng(0))
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert np.mean(times < 50) == pytest.approx(0.25, abs=0.02)
    assert (np.diff(times) >= 0).all()
    down = profile(Stage(name="down", duration_s=100, level=1, to=0)).arrivals(np.random.default_rng(0))
    assert np.mean(down < 50) == pytest.approx(0.75, abs=0.02)


def test_arrivals_are_drawn_by_the_seed_and_none_in_a_pause() -> None:
    steady = profile(Stage(name="pause", duration_s=5, level=0), Stage(name="steady", duration_s=50))
    times = steady.arrivals(np.random.default_rng(0))
    assert times.min() > 5
    np.testing.assert_array_equal(times, steady.arrivals(np.random.default_rng(0)))


def test_another_load_or_duration() -> None:
    ramp = load_profile("ramp")
    shorter = ramp.changed(users=3, duration_s=ramp.duration_s / 2)
    assert (shorter.load, shorter.users, shorter.peak_rate) == ("closed", 3, None)
    assert [stage.duration_s * 2 for stage in shorter.stages] == [stage.duration_s for stage in ramp.stages]
    with pytest.raises(LoadtestError, match="profile ramp: rate is -1, expected more than 0"):
        ramp.changed(rate=-1)


STAGE = 'stages = [{ name = "a", duration_s = 1 }]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = 1\nstage = []", "there is no stage, expected stages, name"),
        ("rate = 1", "stages is missing"),
        ("rate = 1\nstages = []", "stages are missing"),
        ('rate = 1\nstages = [{ name = "a", duration_s = "1" }]', r"stages\[0\].duration_s is '1', expected a number"),
        ('rate = 1\nstages = [{ name = "a", duration_s = 0 }]', r"stages\[0\].duration_s is 0, expected seconds above"),
        ('rate = 1\nstages = [{ name = "a", duration_s = inf }]', r"stages\[0\].duration_s is inf, expected seconds"),
        ('rate = 1\nstages = [{ name = "a", duration_s = 1, levle = 2 }]', r"there is no stages\[0\].levle"),
        (STAGE, "rate and users: expected one of them"),
        (STAGE + "rate = 1\nusers = 1", "rate and users: expected one of them"),
        (STAGE + "rate = inf", "rate is inf, expected more than 0"),
        (STAGE + "users = 1.5", "users is 1.5, expected a whole number"),
        (STAGE + "rate = 1\nthink_time_s = 1", "think_time_s is for users"),
        ("rate = ", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_profile(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "profile.toml"
    file.write_text(text)
    with pytest.raises(LoadtestError, match=f"{file}.*{message}"):
        load_profile(str(file))


def test_profiles_that_are_not_there() -> None:
    with pytest.raises(LoadtestError, match=r"there is no profile 'stedy', expected ramp, .*, or a \.toml file"):
        load_profile("stedy")
    with pytest.raises(LoadtestError, match=r"cannot read the profile nowhere/steady\.toml: No such file"):
        load_profile("nowhere/steady.toml")
