"""A model repository without the folded split, for comparison, with the same random weights and configs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from altreco_client import contract
from google.protobuf import text_format
from torch import Tensor, nn

from export.config import CONFIG_FILE, read_config, vocabulary_size
from export.full_size import copy_configs, random_model, write_models
from export.graph.split import ServedPreferenceEncoder
from training.model import Classifier


class UnfoldedClassifier(nn.Module):
    """C as trained: maps e [batch, channels, 7, 7], u_p [batch, 128] and the prior to TAGS [batch, N]."""

    def __init__(self, classifier: Classifier) -> None:
        """Share C's weights."""
        super().__init__()
        self.classifier = classifier

    def forward(self, encoding: Tensor, preference: Tensor, prior: Tensor) -> Tensor:
        """Return T_p as probabilities."""
        return torch.sigmoid(self.classifier(encoding, preference) + prior)


def unfolded(preset_name: str, configs: Path, folder: Path) -> Path:
    """Make a repository whose visual encoder returns e, [channels, 7, 7]; C has the whole first convolution."""
    repository = folder / "unfolded"
    model = random_model(preset_name, vocabulary_size(configs))
    copy_configs(configs, repository)
    dims = (model.visual_encoder.channels, *contract.ENCODING_SHAPE[1:])
    for component in contract.COMPONENTS:
        config = read_config(repository, component.name)
        warmups = [pair for warmup in config.model_warmup for pair in warmup.inputs.items()]
        for name, entry in (*((entry.name, entry) for entry in (*config.input, *config.output)), *warmups):
            if name == contract.VISUAL_ENCODING.name:
                entry.dims[:] = dims
        (repository / component.name / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")
    modules: dict[str, nn.Module] = {
        contract.VISUAL_ENCODER.name: model.visual_encoder,
        contract.PREFERENCE_ENCODER.name: ServedPreferenceEncoder(model),
        contract.CLASSIFIER.name: UnfoldedClassifier(model.classifier),
    }
    encoding = replace(contract.VISUAL_ENCODING, dims=dims)
    models = [
        replace(component, inputs=_with(component.inputs, encoding), outputs=_with(component.outputs, encoding))
        for component in contract.COMPONENTS
    ]
    write_models(repository, models, {name: module.eval() for name, module in modules.items()})
    return repository


def _with(tensors: Sequence[contract.Tensor], changed: contract.Tensor) -> tuple[contract.Tensor, ...]:
    return tuple(changed if tensor.name == changed.name else tensor for tensor in tensors)
