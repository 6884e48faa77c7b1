"""Margin heads: ArcFace, CosFace and AdaFace, computed in fp32 even under autocast, with their true gradient.

In every head the class weights and the embedding are normalised, the margin is applied to the true class
only, and the result is multiplied by `scale`. Nothing divides it afterwards: a temperature on top of a margin
head caps the probability of the true class (`reachable_probability`), and with it what the network can learn.

With very many classes a step can do with some of them: those of its batch and others drawn for each step
(Partial FC, An et al. 2021, arXiv:2010.05222). The gradient of the class weights is then sparse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, distributed, nn
from torch.nn import functional

from dsrface.config.catalogue import HEADS, load
from dsrface.errors import UsageError

DEFAULT_SCALE = 64.0
# 1 - cos^2 is cut here: sqrt has no finite gradient at 0, and fp32 cannot resolve less anyway.
_MIN_SIN_SQUARED = 1e-6
# AdaFace, as published: the share of the norms' spread that falls inside [-1, 1], and the weight of the
# newest batch in their running mean and std.
_CONCENTRATION, _MOMENTUM = 0.333, 0.01


class MarginHead(nn.Module):
    """What the heads share: normalised class weights `weight` [C, D], cosines, the one-hot margin.

    Args:
        num_classes: Persons that are trained on.
        embedding_dim: Width of the embedding.
        scale: Factor on the cosine before the cross-entropy.
        margin: In radians (arcface, adaface) or as a cosine (cosface).
    """

    sample_fraction = 1.0  # share of the classes that a step's softmax is over

    def __init__(self, *, num_classes: int, embedding_dim: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.normal_(self.weight, std=embedding_dim**-0.5)

    def forward(self, embeddings: Float[Tensor, "b d"], labels: Int64[Tensor, " b"]) -> Float[Tensor, "b c"]:
        """Return scaled fp32 logits with the margin on the true class; for the loss, not for accuracy."""
        return self.logits(self.cosines(embeddings), embeddings, labels)

    def logits(
        self, cosines: Float[Tensor, "b c"], embeddings: Float[Tensor, "b d"], labels: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b c"]:
        """Return scaled fp32 logits of `cosines`, with the margin on the true class.

        Args:
            cosines: To all classes, or to some of them.
            embeddings: What they are of.
            labels: Column of each true class.
        """
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            true = cosines.gather(1, labels[:, None])
            with_margin = self.margined(true, embeddings)
            logits: Tensor = self.scale * cosines.scatter(1, labels[:, None], with_margin)
            return logits

    def cosines(
        self, embeddings: Float[Tensor, "b d"], classes: Int64[Tensor, " s"] | None = None
    ) -> Float[Tensor, "b c"]:
        """Return fp32 cosines to all or some classes, without margin and scale: for accuracy."""
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            weight = self.weight if classes is None else self._rows(classes)
            normalised = functional.normalize(embeddings.float(), dim=1)
            # rounding can leave a cosine just outside [-1, 1]; the clamp is where acos and sqrt need it
            return functional.linear(normalised, functional.normalize(weight.float(), dim=1))

    def draw_classes(self, labels: Int64[Tensor, " b"]) -> Int64[Tensor, " s"] | None:
        """Return the classes of a step, ascending: all those of `labels`, the others drawn; None for all."""
        num_classes = self.weight.shape[0]
        if self.sample_fraction >= 1:
            return None
        present = torch.unique(labels)
        order = torch.rand(num_classes, device=labels.device)
        order[present] = 2.0
        num_drawn = max(len(present), round(self.sample_fraction * num_classes))
        return order.topk(num_drawn, sorted=False).indices.sort().values

    def _rows(self, classes: Int64[Tensor, " s"]) -> Float[Tensor, "s d"]:
        # Between processes gradients are averaged as one dense buffer; MPS knows no sparse ones.
        is_distributed = distributed.is_available() and distributed.is_initialized()
        is_sparse = not is_distributed and self.weight.device.type in {"cpu", "cuda"}
        return functional.embedding(classes, self.weight, sparse=is_sparse)

    def margined(self, true: Float[Tensor, "b 1"], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Return the true class's cosine with the margin applied, unscaled."""
        raise NotImplementedError

    @torch.no_grad()
    def init_from_class_means(self, parts: Iterable[tuple[Tensor, Tensor]]) -> int:
        """Set each class's weight to the mean of its normalised embeddings.

        A class without any embedding keeps its random weight.

        Args:
            parts: Float embeddings [N, D] and int64 labels [N], a part of the images after the other.

        Returns:
            The number of classes that were set.
        """
        sums = torch.zeros_like(self.weight, dtype=torch.float32)
        present = torch.zeros(len(sums), dtype=torch.bool, device=sums.device)
        for embeddings, labels in parts:
            rows = labels.to(sums.device)
            sums.index_add_(0, rows, functional.normalize(embeddings.float(), dim=1).to(sums.device))
            present[rows] = True
        self.weight[present] = functional.normalize(sums[present], dim=1).to(self.weight.dtype)
        return int(present.sum())


class ArcFaceHead(MarginHead):
    """cos(theta + m) on the true class.

    Beyond theta = pi - m, where cos(theta + m) would rise again, it goes on as cos(theta) - m sin(m), which
    decreases.

    Source: Deng et al. 2019, arXiv:1801.07698.
    """

    def margined(self, true: Float[Tensor, "b 1"], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Return cos(theta + m), with the gradient of that very expression."""
        del embeddings
        sine = (1.0 - true.square()).clamp_min(_MIN_SIN_SQUARED).sqrt()
        shifted = true * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = true - self.margin * math.sin(self.margin)
        return torch.where(true > -math.cos(self.margin), shifted, beyond)


class CosFaceHead(MarginHead):
    """cos(theta) - m on the true class.

    Source: Wang et al. 2018, arXiv:1801.09414.
    """

    def margined(self, true: Float[Tensor, "b 1"], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Return cos(theta) - m."""
        del embeddings
        return true - self.margin


class AdaFaceHead(MarginHead):
    """cos(theta - m q) - m (1 + q): the margin follows the embedding's norm, a stand-in for image quality.

    q = clip(h (norm - mean) / std, -1, 1) with running mean and std of the norms. The running statistics are
    buffers; with torch.distributed they are computed over all ranks, so they stay equal on every rank. They
    move with every micro-batch, and the margins with them: for this head alone, accumulated micro-batches
    are not quite one big batch.

    Args:
        num_classes: Persons that are trained on.
        embedding_dim: Width of the embedding.
        scale: Factor on the cosine.
        margin: m.

    Source: Kim et al. 2022, arXiv:2204.00964.
    """

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(self, *, num_classes: int, embedding_dim: int, scale: float, margin: float) -> None:
        super().__init__(num_classes=num_classes, embedding_dim=embedding_dim, scale=scale, margin=margin)
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_std", torch.tensor(100.0))

    def margined(self, true: Float[Tensor, "b 1"], embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Return cos(theta - m q) - m (1 + q); no gradient flows through q."""
        norms = embeddings.detach().float().norm(dim=1, keepdim=True).clamp(1e-3, 100.0)
        if self.training:
            self._update(norms)
        quality = ((norms - self.norm_mean) / (self.norm_std + 1e-3) * _CONCENTRATION).clamp(-1.0, 1.0)
        # acos has no finite gradient at +-1; the cut is the one of ArcFace, expressed as a cosine
        limit = math.sqrt(1.0 - _MIN_SIN_SQUARED)
        angle = (true.clamp(-limit, limit).acos() - self.margin * quality).clamp(1e-3, math.pi - 1e-3)
        out: Tensor = angle.cos() - self.margin * (1.0 + quality)
        return out

    @torch.no_grad()
    def _update(self, norms: Tensor) -> None:
        # About the running mean, which all ranks share: so fp32, the most that MPS has, keeps the digits.
        norms = norms - self.norm_mean
        moments = torch.stack([torch.ones_like(norms).sum(), norms.sum(), norms.square().sum()])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(moments)
        count, total, squares = moments.unbind()
        mean = total / count
        variance = ((squares - count * mean.square()) / (count - 1).clamp_min(1)).clamp_min(0)
        self.norm_mean.add_(mean, alpha=_MOMENTUM)
        self.norm_std.lerp_(variance.sqrt(), _MOMENTUM)


def build_head(
    kind: str,
    *,
    num_classes: int,
    embedding_dim: int = 512,
    scale: float = DEFAULT_SCALE,
    margin: float | None = None,
    sample_fraction: float = 1.0,
) -> MarginHead:
    """Return a margin head.

    Args:
        kind: Key of `HEADS`.
        num_classes: Persons that are trained on.
        embedding_dim: Width of the embedding.
        scale: Factor on the cosine.
        margin: None takes the kind's published one.
        sample_fraction: Share of the classes that a step's softmax is over, in (0, 1].

    Raises:
        UsageError: unknown kind.
    """
    if kind not in HEADS:
        raise UsageError(
            f"There is no head {kind!r}.", id="unknown-head", hint=f"Choose one of: {', '.join(HEADS)}."
        )
    entry = HEADS[kind]
    chosen = entry.margin if margin is None else margin
    head: MarginHead = load(entry.build)(
        num_classes=num_classes, embedding_dim=embedding_dim, scale=scale, margin=chosen
    )
    head.sample_fraction = sample_fraction
    return head


def reachable_probability(scale: float, num_classes: int) -> float:
    """Return the highest softmax probability the true class can get: its cosine at 1, every other at 0.

    518 classes: 0.014 at scale 2, 0.096 at scale 4, 1.0 at scale 64. Below about 0.5 the loss pulls for ever
    on samples that are already right.
    """
    return 1.0 / (1.0 + (num_classes - 1) * math.exp(-scale))
