"""The comparison of models that answer almost alike, on known and new users."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.sections.quality import CHECKPOINT, compare, render_quality
from tests.tiny import write_tiny_data
from training.data.histories import build_histories
from training.data.manifest import SPLITS, read_manifest

TAGS = 60
NEWCOMER = 3


def exact(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores that fall with the tag's index, and no two alike."""
    return np.tile(np.linspace(0.9, 0.1, TAGS, dtype=np.float32), (len(image), 1))


def reordered(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same five best tags in another order."""
    scores = exact(image, counts)
    scores[:, [0, 4]] = scores[:, [4, 0]]
    return scores


def wrong_for_dark_pictures(image: NDArray[np.uint8], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Another best tag wherever the first pixel is dark."""
    scores = exact(image, counts)
    scores[image[:, 0, 0, 0] < 128, -1] = 1.0
    return scores


def test_five_best_tags_and_differences_of_known_and_new_users(tmp_path: Path) -> None:
    write_tiny_data(tmp_path / "data", TAGS)
    manifest = read_manifest(tmp_path / "data")
    split, theirs = manifest.split.copy(), manifest.users == NEWCOMER
    split[theirs & (split == SPLITS.index("train"))] = SPLITS.index("history")
    manifest = replace(manifest, split=split)
    models = {CHECKPOINT: exact, "reordered": reordered, "wrong": wrong_for_dark_pictures}
    users = compare(models, manifest, build_histories(manifest), pictures=1000)
    assert {title: of["pictures"] for title, of in users.items()} == {"known users": 6, "new users": 2}
    shares = []
    for of in users.values():
        assert of["models"][CHECKPOINT]["same_five"] == of["models"]["reordered"]["same_five"] == 1
        assert of["models"][CHECKPOINT]["max_abs_difference"] == 0
        assert of["models"]["reordered"]["max_abs_difference"] == pytest.approx(4 * 0.8 / 59, abs=1e-5)
        shares.append((of["pictures"], of["models"]["wrong"]["same_five"]))
    assert 0 < sum(pictures * share for pictures, share in shares) < 8
    report = "\n".join(render_quality({"preset": "tiny", "users": users}))
    assert "6 of known users and 2 of new users" in report
    known, new = (of["models"]["reordered"]["precision_at_5"] for of in users.values())
    assert f"| reordered | {known:.4f} | {new:.4f} | 100.0% | 100.0% | 0.0542 |" in report
    checkpoint = next(line for line in report.splitlines() if line.startswith(f"| {CHECKPOINT} "))
    assert checkpoint.endswith("|  |  |  |")  # it is what the others are compared with
