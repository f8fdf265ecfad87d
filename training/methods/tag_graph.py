"""Tag graph, after Lee et al. (Multi-Label Zero-Shot Learning with Structured Knowledge Graphs, CVPR 2018): beliefs
about tags spread along a graph of tags, one edge a step.

    h_v^0 = F_I(image, label_v);  a_v = sum over edges u -> v of F_R(label_u, label_v) h_u;  h_v <- GRU(a_v, h_v)
    logit_v^t = F_O(h_v^t, h_v^0)

Differs from the original: all tags are seen in training, and the graph comes from the training pictures (tags that
occur together more, or less, than by chance) instead of WordNet, with learned label vectors instead of GloVe's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NEAR, FAR, MIN_PICTURES = 10, 5, 5
"""Edges into each tag: from those it occurs with most and least, against chance, where so many pictures say so."""
WIDTH, HIDDEN, OUT, BELIEF = 64, 64, 32, 5
STEPS = 5
"""T."""
EPOCHS, BATCH, LEARNING_RATE = 10, 50, 1e-3


@dataclass(frozen=True)
class Edges:
    """Edge i goes from tag `source[i]` to tag `target[i]`, int64 [E]."""

    source: Tensor
    target: Tensor


def find_edges(tags: Tensor, min_pictures: int = MIN_PICTURES) -> tuple[Edges, Edges]:
    """Edges between tags that attract and that repel each other, from training pictures' `tags` 0/1 [M, N].

    Attraction of u and v is their pointwise mutual information log(n_uv n / (n_u n_v)), where n_uv pictures have both.
    An attracting pair needs `min_pictures` with both, a repelling one as many expected by chance.
    """
    tags = tags.float()
    together, pictures = tags.T @ tags, tags.sum(0)
    expected = pictures[:, None] * pictures / len(tags)
    information = (together / expected).log().nan_to_num(nan=0.0)  # -inf: never together
    others = ~torch.eye(len(pictures), dtype=torch.bool)
    attract = (together >= min_pictures) & (information > 0) & others
    repel = (expected >= min_pictures) & (information < 0) & others
    return _best(information, attract, NEAR), _best(-information, repel, FAR)


def _best(information: Tensor, allowed: Tensor, count: int) -> Edges:
    """The best `count` allowed of each row; of equals, the smaller index."""
    ranked = information.masked_fill(~allowed, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :count]
    target, place = allowed.gather(1, ranked).nonzero(as_tuple=True)
    return Edges(ranked[target, place], target)


class TagGraph(nn.Module):
    """The network after the features x [pictures, D]. `steps`: T; 0 leaves out the graph."""

    def __init__(self, channels: int, tags: int, edges: tuple[Edges, Edges], steps: int = STEPS) -> None:
        """`channels`: D; `tags`: N; `edges`: attracting and repelling ones."""
        super().__init__()
        self.steps, self.edges = steps, edges
        self.image, self.label = nn.Linear(channels, WIDTH), nn.Embedding(tags, WIDTH)
        self.belief = nn.Sequential(nn.Linear(2 * WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, BELIEF))  # F_I
        self.relations = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)) for _ in edges
        )  # F_R
        self.gru = nn.GRUCell(BELIEF, BELIEF)
        self.output = nn.Sequential(nn.Linear(2 * BELIEF, OUT), nn.ReLU(), nn.Linear(OUT, 1))  # F_O

    def forward(self, features: Tensor) -> Tensor:
        """Logits [T, pictures, N] after each step; with T = 0, [1, pictures, N] before any."""
        return self.answers(self.beliefs(features))

    def beliefs(self, features: Tensor) -> Tensor:
        """h^0, [pictures, N, BELIEF]."""
        weight, bias = self.belief.get_parameter("0.weight"), self.belief.get_parameter("0.bias")
        of_image, of_label = weight.split(WIDTH, dim=1)  # one product for each picture and each tag, not pair
        hidden = functional.linear(self.image(features), of_image, bias)[:, None]
        return self.belief[1:](hidden + functional.linear(self.label.weight, of_label))

    def answers(self, beliefs: Tensor) -> Tensor:
        """Logits of all steps from h^0."""
        source = torch.cat([edges.source for edges in self.edges])
        target = torch.cat([edges.target for edges in self.edges])
        weights = torch.cat([self._weights(f, edges) for f, edges in zip(self.relations, self.edges, strict=True)])
        by_tag = beliefs.transpose(0, 1).contiguous()  # [N, pictures, BELIEF]
        now, logits = by_tag, []
        for _ in range(self.steps):
            heard = torch.zeros_like(now).index_add_(0, target, now[source] * weights[:, :, None])
            now = self.gru(heard.flatten(0, 1), now.flatten(0, 1)).view_as(now)
            logits.append(self._logits(now, by_tag))
        return torch.stack(logits or [self._logits(by_tag, by_tag)])

    def _weights(self, relation: nn.Module, edges: Edges) -> Tensor:
        """F_R of each edge, [E, 1]."""
        return relation(torch.cat([self.label(edges.source), self.label(edges.target)], dim=1))

    def _logits(self, now: Tensor, first: Tensor) -> Tensor:
        return self.output(torch.cat([now, first], dim=2))[:, :, 0].T


def fit(features: Tensor, tags: Tensor, *, steps: int, seed: int, epochs: int = EPOCHS) -> TagGraph:
    """Train on `features` [M, D] of training pictures with `tags` 0/1 [M, N]: the mean over the steps of the BCE."""
    torch.manual_seed(seed)
    network = TagGraph(features.shape[1], tags.shape[1], find_edges(tags), steps)
    with torch.no_grad():
        network.output.get_parameter("2.bias").copy_(torch.logit(tags.mean().clamp(1e-5, 1 - 1e-5)))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(BATCH):
            logits = network(features[rows])
            loss = functional.binary_cross_entropy_with_logits(logits, tags[rows].float().expand_as(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def scores(network: TagGraph, features: Tensor) -> Tensor:
    """Logits after the last step, [pictures, N]."""
    return torch.cat([network(part)[-1] for part in features.split(BATCH)])
