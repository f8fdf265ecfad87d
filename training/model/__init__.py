"""The networks of the paper, section IV: F, U_E, U_D, C, G and D."""

from training.model.adversarial import Discriminator, Generator
from training.model.altreco import ALTReco, AutoEncoder, Prediction
from training.model.classifier import Classifier
from training.model.preference import PreferenceDecoder, PreferenceEncoder
from training.model.visual_encoder import VisualEncoder, pretrained_backbone

__all__ = [
    "ALTReco",
    "AutoEncoder",
    "Classifier",
    "Discriminator",
    "Generator",
    "Prediction",
    "PreferenceDecoder",
    "PreferenceEncoder",
    "VisualEncoder",
    "pretrained_backbone",
]
