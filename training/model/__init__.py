"""The networks of the paper, section IV: F, U_E, U_D, C, G and D; and the history path."""

from training.model.adversarial import Discriminator, Generator
from training.model.altreco import ALTReco, AutoEncoder, Prediction
from training.model.classifier import Classifier
from training.model.history_path import HistoryPath
from training.model.preference import PreferenceDecoder, PreferenceEncoder, normalized
from training.model.visual_encoder import VisualEncoder, pretrained_backbone

__all__ = [
    "ALTReco",
    "AutoEncoder",
    "Classifier",
    "Discriminator",
    "Generator",
    "HistoryPath",
    "Prediction",
    "PreferenceDecoder",
    "PreferenceEncoder",
    "VisualEncoder",
    "normalized",
    "pretrained_backbone",
]
