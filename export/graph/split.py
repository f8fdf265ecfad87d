"""The folded split of the network into the three served models (design: "The folded split").

The classifier's first convolution is linear in its input, the concatenation of e and the tiled u_p:

    conv(e + tile(u_p)) = conv_e(e) + bias + M u_p        ("+" on the left: concatenation)

conv_e and the bias move to the end of the visual encoder, M to the front of the classifier. M is computed once and
includes the zero padding of the borders. The tensor between the models is 64 x 7 x 7 for every backbone. Addition in
place of concatenation folds in the same way. A product of e and u_p is not linear in both and cannot be folded.

The history path's prior, w_t r_t, is added to the logits after the fold. The preference encoder computes it, because
it has the counts.
"""

import math

import torch
from altreco_client.contract import ENCODING_SHAPE, PREFERENCE_DIM
from torch import Tensor, nn
from torch.nn import functional

from export.errors import ExportError
from training.model import ALTReco, Classifier, VisualEncoder


class ServedVisualEncoder(nn.Module):
    """`visual_encoder`: IMAGE uint8 [batch, 224, 224, 3] to VISUAL_ENCODING float [batch, 64, 7, 7]."""

    def __init__(self, visual_encoder: VisualEncoder, classifier: Classifier) -> None:
        """Share F's weights and copy e's part of the first convolution."""
        super().__init__()
        self.visual_encoder = visual_encoder
        convolution = classifier.conv1
        self.weight = nn.Parameter(convolution.weight[:, : visual_encoder.channels].detach().clone())
        self.bias = convolution.bias

    def forward(self, image: Tensor) -> Tensor:
        """Return conv_e(F(image)) + bias."""
        return functional.conv2d(self.visual_encoder(image), self.weight, self.bias, padding=1)


class ServedPreferenceEncoder(nn.Module):
    """`preference_encoder`: USER_TAG_COUNTS [batch, N] to USER_PREFERENCE [batch, 128] and USER_PRIOR [batch, N].

    Zeros stand for what the model does not have: U_E or the history path.
    """

    def __init__(self, model: ALTReco) -> None:
        """Share the weights of U_E and the history path."""
        super().__init__()
        self.preference_encoder, self.history_path = model.preference_encoder, model.history_path

    def forward(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return u_p and w_t r_t. Both bound the counts, so that each row is finite and depends on itself alone."""
        if self.preference_encoder is None:
            preference = counts.new_zeros(counts.shape[0], PREFERENCE_DIM)
        else:
            preference = self.preference_encoder(counts)
        return preference, torch.zeros_like(counts) if self.history_path is None else self.history_path(counts)


class ServedClassifier(nn.Module):
    """`classifier`: VISUAL_ENCODING, USER_PREFERENCE and USER_PRIOR to TAGS [batch, N], 0 to 1."""

    def __init__(self, classifier: Classifier) -> None:
        """Share C's weights and compute M."""
        super().__init__()
        self.classifier = classifier
        self.m = nn.Parameter(_fold(classifier))

    def forward(self, encoding: Tensor, preference: Tensor, prior: Tensor) -> Tensor:
        """Return T_p as probabilities."""
        logits = self.classifier.tail(encoding + (preference @ self.m).reshape(-1, *ENCODING_SHAPE))
        return torch.sigmoid(logits + prior)


def _fold(classifier: Classifier) -> Tensor:
    """Compute M, float [128, 64 * 7 * 7]: the response of u_p's part of the convolution to each tiled unit vector.

    Zero for a classifier that does not take u_p.
    """
    if classifier.integration is None:
        return torch.zeros(PREFERENCE_DIM, math.prod(ENCODING_SHAPE))
    return classifier.preference_map().detach()


def split(model: ALTReco) -> dict[str, nn.Module]:
    """Split the model into the three served models, by name. They share its weights and are in evaluation mode.

    Raises ExportError for a variant that cannot be served as an ensemble.
    """
    model.eval()
    # Traced with the fused attention, a graph may hold the batch size; the weights are the same.
    model.visual_encoder.backbone.set_attn_implementation("eager")
    if model.preference_encoder is None and model.history_path is None:
        raise ExportError(
            "this model has neither a user preference nor a history path (A1) and cannot be personalized; "
            "export A2 to A6, or a variant with the path"
        )
    if model.classifier.integration == "multiplication":
        raise ExportError("this model multiplies e and u_p, which has no folded split; train with concatenation")
    return {
        "visual_encoder": ServedVisualEncoder(model.visual_encoder, model.classifier).eval(),
        "preference_encoder": ServedPreferenceEncoder(model).eval(),
        "classifier": ServedClassifier(model.classifier).eval(),
    }
