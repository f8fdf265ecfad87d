"""The full network of Figure 3 without its adversary D, which has an optimizer of its own."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.model.adversarial import Generator
from training.model.classifier import Classifier
from training.model.preference import PreferenceDecoder, PreferenceEncoder
from training.model.visual_encoder import VisualEncoder
from training.settings import ModelSettings


@dataclass(frozen=True)
class Prediction:
    """Logits, float [batch, N] each: T_p, T_g and the reconstructed u_h before their sigmoids; None: no such part."""

    personalized: Tensor | None
    generalized: Tensor | None
    history: Tensor | None


class ALTReco(nn.Module):
    """F, U_E, U_D, C and G (paper, section IV), as far as the settings have them."""

    def __init__(self, settings: ModelSettings, tags: int) -> None:
        """`tags` is N."""
        super().__init__()
        self.visual_encoder = VisualEncoder(settings.backbone)
        self.preference_encoder = PreferenceEncoder(tags) if settings.user_preference else None
        self.preference_decoder = PreferenceDecoder(tags, skips=settings.skips) if settings.user_preference else None
        self.classifier = Classifier(self.visual_encoder.channels, tags, settings)
        self.generator = Generator(self.visual_encoder.channels, tags) if settings.generator else None
        for head in (self.preference_encoder, self.preference_decoder, self.classifier, self.generator):
            if head is not None:
                head.apply(_initialize)
        # A third less time a step on CPU; torch's stubs do not know this overload.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def start_from(self, frequency: Tensor, histories: Tensor) -> None:
        """Fit the initial weights to the data: shares of pictures with each tag, float [N], and some u_h, float [., N].

        C and G begin by saying the shares, and U_D the mean history: with far more absent tags than present ones, the
        first steps would otherwise go into learning to say no, and in U_D's case they leave u_p the same for every
        user (measured: a deviation of 0.0005 over users instead of 0.87, and no personalization). U_E's first layer
        begins with outputs of the size of 1: u_h is so sparse that by fan-in alone they would be far smaller.
        """
        self.classifier.fc2.bias.copy_(_log_odds(frequency))
        if self.generator is not None:
            self.generator.fc.bias.copy_(_log_odds(frequency))
        if self.preference_encoder is not None and self.preference_decoder is not None:
            size = histories.norm(dim=1).mean()
            nn.init.normal_(self.preference_encoder.layers[0].get_parameter("weight"), std=math.sqrt(2) / size.item())
            self.preference_decoder.last.bias.copy_(_log_odds(histories.mean(0)))

    def forward(self, image: Tensor, history: Tensor) -> Prediction:
        """Everything that the losses need, from images uint8 [batch, 224, 224, 3] and u_h float [batch, N]."""
        encoding = self.visual_encoder(image)
        preference = reconstruction = None
        if self.preference_encoder is not None and self.preference_decoder is not None:
            activations = self.preference_encoder.activations(history)
            preference, reconstruction = activations[-1], self.preference_decoder(activations)
        return Prediction(
            personalized=self.classifier(encoding, preference),
            generalized=None if self.generator is None else self.generator(encoding),
            history=reconstruction,
        )

    def recommend(self, image: Tensor, history: Tensor) -> Tensor:
        """T_p as probabilities, float [batch, N]: what is served."""
        return self.recommend_encoded(self.visual_encoder(image), history)

    def recommend_encoded(self, encoding: Tensor, history: Tensor) -> Tensor:
        """The same from e, for one picture and many histories."""
        preference = None if self.preference_encoder is None else self.preference_encoder(history)
        return torch.sigmoid(self.classifier(encoding, preference))


class AutoEncoder(nn.Module):
    """U_E and U_D of a model alone, for training them before the rest (the paper's A3)."""

    def __init__(self, model: ALTReco) -> None:
        """Share the model's weights."""
        super().__init__()
        assert model.preference_encoder is not None
        assert model.preference_decoder is not None
        self.encoder, self.decoder = model.preference_encoder, model.preference_decoder

    def forward(self, image: Tensor, history: Tensor) -> Prediction:
        """The reconstruction of `history`, float [batch, N]; `image` is not looked at."""
        return Prediction(None, None, self.decoder(self.encoder.activations(history)))


def _initialize(module: nn.Module) -> None:
    """Glorot's uniform weights, the default of the paper's Keras. PyTorch's own are a third as large in variance, and
    a history all but vanishes in U_E's four layers.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _log_odds(share: Tensor) -> Tensor:
    """The logit whose sigmoid is `share`; shares of 0 and 1 stay finite."""
    return torch.logit(share.clamp(1e-5, 1 - 1e-5))
