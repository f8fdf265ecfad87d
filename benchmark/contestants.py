"""What is measured: model repositories with the committed configs and a model of random weights, folded or not."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from altreco_client import contract
from google.protobuf import text_format
from torch import Tensor, nn

from export.config import CONFIG_FILE, ensemble_config, read_config, vocabulary_size
from export.onnx_model import export_onnx
from export.repository import label_lines, labels_file, model_files
from export.split import split
from training.model import ALTReco, Classifier
from training.presets import preset

VERSION = 1
DAMPING = 0.2
"""Of the last normalization of each bottleneck of the random model."""
STATISTICS_BATCHES, STATISTICS_BATCH = 3, 8


class UnfoldedClassifier(nn.Module):
    """C as it was trained: e [batch, channels, 7, 7] and u_p [batch, 128], which it tiles, to TAGS [batch, N]."""

    def __init__(self, classifier: Classifier) -> None:
        """Share C's weights."""
        super().__init__()
        self.classifier = classifier

    def forward(self, encoding: Tensor, preference: Tensor) -> Tensor:
        """T_p as probabilities."""
        return torch.sigmoid(self.classifier(encoding, preference))


def random_model(preset_name: str, tags: int) -> ALTReco:
    """The preset's model with random weights, in evaluation mode; `tags` is N."""
    torch.manual_seed(0)
    model = ALTReco(preset(preset_name).model, tags)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(STATISTICS_BATCHES):
            model.visual_encoder(torch.randint(0, 256, (STATISTICS_BATCH, *contract.IMAGE.dims), dtype=torch.uint8))
        # With all of each block's output, random weights amplify int8's rounding from block to block as trained ones do
        # not: the export would keep layers in float, and what is timed would not be an int8 model.
        for name, weight in model.visual_encoder.named_parameters():
            if name.endswith("layer.2.normalization.weight"):
                weight.mul_(DAMPING)
    return model.eval()


def folded(preset_name: str, configs: Path, folder: Path) -> Path:
    """A repository in `folder` with the split that is released; the sections of a run share it. Raises ExportError."""
    repository = folder / "folded"
    if not repository.exists():
        model = random_model(preset_name, vocabulary_size(configs))
        _copy_configs(configs, repository)
        _write(repository, contract.COMPONENTS, split(model))
    return repository


def unfolded(preset_name: str, configs: Path, folder: Path) -> Path:
    """The same with a visual encoder that ends in e, [channels, 7, 7]: the whole first convolution is in C."""
    repository = folder / "unfolded"
    model = random_model(preset_name, vocabulary_size(configs))
    _copy_configs(configs, repository)
    dims = (model.visual_encoder.channels, *contract.ENCODING_SHAPE[1:])
    for component in contract.COMPONENTS:
        config = read_config(repository, component.name)
        warmups = [pair for warmup in config.model_warmup for pair in warmup.inputs.items()]
        for name, entry in (*((entry.name, entry) for entry in (*config.input, *config.output)), *warmups):
            if name == contract.VISUAL_ENCODING.name:
                entry.dims[:] = dims
        (repository / component.name / CONFIG_FILE).write_text(text_format.MessageToString(config), encoding="utf-8")
    assert model.preference_encoder is not None
    modules: dict[str, nn.Module] = {
        contract.VISUAL_ENCODER.name: model.visual_encoder,
        contract.PREFERENCE_ENCODER.name: model.preference_encoder,
        contract.CLASSIFIER.name: UnfoldedClassifier(model.classifier),
    }
    encoding = replace(contract.VISUAL_ENCODING, dims=dims)
    models = [
        replace(component, inputs=_with(component.inputs, encoding), outputs=_with(component.outputs, encoding))
        for component in contract.COMPONENTS
    ]
    _write(repository, models, {name: module.eval() for name, module in modules.items()})
    return repository


def _copy_configs(configs: Path, repository: Path) -> None:
    for model in (*contract.COMPONENTS, contract.TAG_RECOMMENDER):
        (repository / model.name / str(VERSION)).mkdir(parents=True)
        shutil.copy(configs / model.name / CONFIG_FILE, repository / model.name)


def _write(repository: Path, models: Sequence[contract.Model], modules: dict[str, nn.Module]) -> None:
    tags = vocabulary_size(repository)
    labels_file(repository).write_text(label_lines([f"tag-{i}" for i in range(tags)]), encoding="utf-8")
    files = model_files(repository, VERSION)
    for model in models:
        export_onnx(modules[model.name], model, tags, files[model.name], {})
    ensemble = repository / contract.TAG_RECOMMENDER.name / CONFIG_FILE
    ensemble.write_text(ensemble_config(repository, VERSION), encoding="utf-8")


def _with(tensors: Sequence[contract.Tensor], changed: contract.Tensor) -> tuple[contract.Tensor, ...]:
    return tuple(changed if tensor.name == changed.name else tensor for tensor in tensors)
