"""The full network of Figure 3 without its adversary D, which has an optimizer of its own; with a history path."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.model.adversarial import Generator
from training.model.classifier import Classifier
from training.model.history_path import HistoryPath
from training.model.preference import PreferenceDecoder, PreferenceEncoder, normalized
from training.model.visual_encoder import VisualEncoder
from training.settings import ModelSettings


@dataclass(frozen=True)
class Prediction:
    """Logits, float [batch, N] each: T_p, T_g and the reconstructed u_h before their sigmoids; None: no such part."""

    personalized: Tensor | None
    generalized: Tensor | None
    history: Tensor | None


class ALTReco(nn.Module):
    """F, U_E, U_D, C and G (paper, section IV) and the history path, as far as the settings have them.

    Histories are raw counts: how often the user used each tag, float [batch, N], 0 without a history.
    """

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
        self.history_path = None
        if settings.history_path != "none":
            self.history_path = HistoryPath(tags, population=settings.history_path == "hier")
        # A third less time a step on CPU; torch's stubs do not know this overload.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def start_from(self, *, pictures: int, total: Tensor, users: Tensor, histories: Tensor) -> None:
        """Fit the initial weights and the history path's buffers to the training data.

        `pictures`: how many there are. `total` and `users`, float [N]: how many pictures, and how many users, have each
        tag. `histories`: raw counts of some users, float [., N].

        At first, C and G predict each tag's share of the pictures, and U_D the mean history. As most tags are absent
        from most pictures, the first steps would otherwise be spent on predicting that; with U_D, u_p would then stay
        the same for every user (measured: a standard deviation over users of 0.0005 instead of 0.87, and no
        personalization). The outputs of U_E's first layer start at about 1. u_h is so sparse that initial weights
        scaled by fan-in alone would make them far smaller.
        """
        frequency = total / pictures
        self.classifier.fc2.bias.copy_(_log_odds(frequency))
        if self.generator is not None:
            self.generator.fc.bias.copy_(_log_odds(frequency))
        if self.preference_encoder is not None and self.preference_decoder is not None:
            u_h = normalized(histories)
            size = u_h.norm(dim=1).mean()
            nn.init.normal_(self.preference_encoder.layers[0].get_parameter("weight"), std=math.sqrt(2) / size.item())
            self.preference_decoder.last.bias.copy_(_log_odds(u_h.mean(0)))
        if self.history_path is not None:
            self.history_path.start_from(total, users)

    @property
    def personalized(self) -> bool:
        """Whether the history has any part in the answer."""
        return self.preference_encoder is not None or self.history_path is not None

    def forward(self, image: Tensor, counts: Tensor) -> Prediction:
        """Return everything that the losses need, for images uint8 [batch, 224, 224, 3]."""
        encoding = self.visual_encoder(image)
        preference = reconstruction = None
        if self.preference_encoder is not None and self.preference_decoder is not None:
            activations = self.preference_encoder.activations(counts)
            preference, reconstruction = activations[-1], self.preference_decoder(activations)
        return Prediction(
            personalized=self._with_prior(self.classifier(encoding, preference), counts),
            generalized=None if self.generator is None else self.generator(encoding),
            history=reconstruction,
        )

    def recommend(self, image: Tensor, counts: Tensor) -> Tensor:
        """Return T_p as probabilities, float [batch, N]: what is served."""
        return self.recommend_encoded(self.visual_encoder(image), counts)

    def recommend_encoded(self, encoding: Tensor, counts: Tensor) -> Tensor:
        """Return the same from e, for one picture and many histories."""
        preference = None if self.preference_encoder is None else self.preference_encoder(counts)
        return torch.sigmoid(self._with_prior(self.classifier(encoding, preference), counts))

    def _with_prior(self, logits: Tensor, counts: Tensor) -> Tensor:
        if self.history_path is None:
            return logits
        # Not in the history path itself: torch.onnx.export takes no autocast.
        with torch.autocast("cuda" if counts.is_cuda else "cpu", enabled=False):
            return logits.float() + self.history_path(counts)


class AutoEncoder(nn.Module):
    """U_E and U_D of a model alone, for training them before the rest (the paper's A3)."""

    def __init__(self, model: ALTReco) -> None:
        """Share the model's weights."""
        super().__init__()
        assert model.preference_encoder is not None
        assert model.preference_decoder is not None
        self.encoder, self.decoder = model.preference_encoder, model.preference_decoder

    def forward(self, image: Tensor, counts: Tensor) -> Prediction:
        """Return the reconstruction of u_h alone; `image` is not used."""
        return Prediction(None, None, self.decoder(self.encoder.activations(counts)))


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
