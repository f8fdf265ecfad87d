import torch

from tests.tiny import tiny_settings
from training.model import ALTReco

N = 300


def test_the_network_starts_from_the_data() -> None:
    torch.manual_seed(0)
    frequency = torch.rand(N) * 0.1
    histories = torch.rand(50, N) * (torch.rand(50, N) < 0.05)
    model = ALTReco(tiny_settings().model, N)
    model.start_from(frequency, histories)
    prediction = model.eval()(torch.zeros(50, 224, 224, 3, dtype=torch.uint8), histories)
    # The biases dominate at first, so the averages over users are close to the data's.
    assert (torch.sigmoid(model.classifier.fc2.bias) - frequency).abs().max() < 1e-4
    assert (torch.sigmoid(model.generator.fc.bias) - frequency).abs().max() < 1e-4
    assert (torch.sigmoid(prediction.history).mean(0) - histories.mean(0)).abs().mean() < 0.02
    # u_p tells the users apart from the beginning.
    assert model.preference_encoder(histories).std(0).mean() > 0.2
