"""A frozen recogniser whose embeddings of HR faces another one learns to give for what it sees of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from dsrface.models.adapters import high_path
from dsrface.models.canary import canary_images
from dsrface.models.preprocess import network_input
from dsrface.types import EMBEDDING_DIM, Preprocess


class Teacher(nn.Module):
    """A recogniser and, where its embedding has another length, a learnt map into its space.

    Args:
        recogniser: On the device; frozen in place. It needs no gradient.
        preprocess: How it wants its images.
        embedding_dim: Length of the embeddings that learn from it.
    """

    def __init__(
        self, recogniser: nn.Module, preprocess: Preprocess, *, embedding_dim: int = EMBEDDING_DIM
    ) -> None:
        super().__init__()
        # In a tuple, so that torch does not take it for a part of what is trained and saved.
        self._frozen = (recogniser.requires_grad_(False).eval(),)
        self._preprocess = preprocess
        weight = next(iter(recogniser.parameters()), torch.zeros(0))
        dim = self._embed(canary_images(preprocess.size_px).to(weight.device)).shape[1]
        self.projection: nn.Module = nn.Identity()
        if dim != embedding_dim:
            self.projection = nn.Linear(embedding_dim, dim, bias=False).to(weight.device)

    def forward(self, embeddings: Float[Tensor, "b d"], high: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Return the mean of 1 - cosine to the teacher's embeddings of HR faces, in [0, 2].

        Args:
            embeddings: What is trained.
            high: Image01 batch of the same faces.
        """
        cosines = functional.cosine_similarity(self.projection(embeddings), self._embed(high), dim=1)
        return 1 - cosines.mean()

    @torch.no_grad()
    def _embed(self, high: Tensor) -> Tensor:
        with high_path(self._frozen[0]):
            embeddings: Tensor = self._frozen[0](network_input(high, self._preprocess))
        return embeddings.float()
