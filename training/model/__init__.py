"""The networks of the paper, section IV: F, U_E, U_D, C, G and D."""

from training.model.adversarial import Discriminator, Generator
from training.model.altreco import ALTReco, Prediction
from training.model.classifier import Classifier
from training.model.preference import PreferenceDecoder, PreferenceEncoder
from training.model.visual_encoder import VisualEncoder

__all__ = [
    "ALTReco",
    "Classifier",
    "Discriminator",
    "Generator",
    "Prediction",
    "PreferenceDecoder",
    "PreferenceEncoder",
    "VisualEncoder",
]
