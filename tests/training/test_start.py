from dataclasses import replace

import torch

from tests.tiny import tiny_settings
from training.model import ALTReco, normalized

N = 300


def test_the_network_starts_from_the_data() -> None:
    torch.manual_seed(0)
    total, users = (torch.rand(N) * 100).round(), torch.randint(0, 50, (N,)).float()
    frequency = total / 1000
    counts = torch.randint(1, 9, (50, N)) * (torch.rand(50, N) < 0.05)
    histories = normalized(counts)
    model = ALTReco(replace(tiny_settings().model, history_path="path"), N)
    model.start_from(pictures=1000, total=total, users=users, histories=counts)
    prediction = model.eval()(torch.zeros(50, 224, 224, 3, dtype=torch.uint8), counts)
    # The biases dominate at first, so the averages over users are close to the data's.
    assert (torch.sigmoid(model.classifier.fc2.bias) - frequency).abs().max() < 1e-4
    assert (torch.sigmoid(model.generator.fc.bias) - frequency).abs().max() < 1e-4
    assert (torch.sigmoid(prediction.history).mean(0) - histories.mean(0)).abs().mean() < 0.02
    # u_p tells the users apart from the beginning.
    assert model.preference_encoder(counts).std(0).mean() > 0.2
    torch.testing.assert_close(model.history_path.shares, (total + 1) / (total + 1).sum())
    assert torch.equal(model.history_path.users, users)
