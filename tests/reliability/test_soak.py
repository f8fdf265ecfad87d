"""soak.py for some seconds, and the arithmetic of memory.py."""

from pathlib import Path

import numpy as np
import pytest

from reliability.memory import Course
from reliability.soak import soak


@pytest.mark.slow
@pytest.mark.timing
def test_steady_load_leaves_memory_flat(repository: Path) -> None:
    outcome = soak(repository, seconds=6, every_s=0.2, new_every_s=0.1, visit_every_s=0.5, sample_s=0.1)
    assert outcome.missed == []
    assert int(outcome.figures["clients opened and closed"]) > 2


def test_a_leak_is_seen_and_noise_is_none() -> None:
    moments, noise = np.arange(0.0, 3600.0), np.random.default_rng(0).normal(0, 5, 3600)
    flat, leak = Course(moments, 300 + noise), Course(moments, 300 + 100 * moments / 3600 + noise)
    slope, error = leak.slope()
    assert slope == pytest.approx(100, abs=4 * error)
    assert leak.growth() == pytest.approx(50, abs=2)
    slope, error = flat.slope()
    assert slope == pytest.approx(0, abs=4 * error)
    assert 0 < error < 5
    assert flat.growth() == pytest.approx(0, abs=2)
    assert Course(moments, np.minimum(moments, 800)).growth() == 0, "the first quarter is free"
