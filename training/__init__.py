"""Training: model, losses, data, train loop and evaluation."""
