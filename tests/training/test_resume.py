from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pytest
import torch

from tests.tiny import tiny_settings
from tests.training.runs import ended, start
from training.checkpoint import load_checkpoint
from training.data.synthetic import SyntheticSettings, generate
from training.errors import CheckpointError
from training.options import Options
from training.train import train

# Adam divides by gradients' sizes, so a last bit more or less in a sum, which differs from process to process, grows.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
SETTINGS = replace(
    tiny_settings(optimizer="adamw", learning_rate=1e-3, schedule="one_cycle", epochs=3, batch_size=10),
    joint=False,
    autoencoder_epochs=2,
    patience=5,
    validation_share=0.1,
)
OPTIONS = Options(workers=0, save_every=1, quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(pictures=60, users=6, tags=200)
    return generate(tmp_path_factory.mktemp("data") / "set", settings, processes=1, quiet=True)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_an_unbroken_run(data: Path, tmp_path: Path) -> None:
    """And refuses other settings meanwhile."""
    unbroken, killed = tmp_path / "unbroken.pt", tmp_path / "killed.pt"
    assert ended(start(SETTINGS, data, unbroken, OPTIONS)) == 0

    state = killed.with_suffix(".state")
    for number in (3, 9, 6):  # in the auto-encoder's phase, and twice in the network's
        place = ("training.loop", "save_state", number)
        assert ended(start(SETTINGS, data, killed, OPTIONS, killed_at=place)) == -SIGKILL
        assert state.exists()
        assert not killed.exists()
    before = state.read_bytes()
    with pytest.raises(CheckpointError, match=r"unfinished run of other settings \(seed 0, now 1\)"):
        train(replace(SETTINGS, seed=1), data, killed, options=OPTIONS)
    assert state.read_bytes() == before
    assert ended(start(SETTINGS, data, killed, OPTIONS)) == 0

    one, other = load_checkpoint(unbroken), load_checkpoint(killed)
    for name, weight in one.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], weight, **CLOSE, msg=name)
    assert not state.exists()
