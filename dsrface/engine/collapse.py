"""Whether an embedding still tells persons apart, and when to stop because it no longer does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dsrface.errors import TrainingError

MAX_IMPOSTOR_COSINE = 0.95
MIN_EFFECTIVE_RANK = 1.25  # about what a mean cosine of 0.95 gives; few persons allow no high rank
MIN_D_PRIME = 0.5


def effective_rank(embeddings: Float[Tensor, "n d"]) -> float:
    """Return the effective number of directions that embeddings spread over.

    Args:
        embeddings: L2-normalised, not centred, so a constant embedding has rank 1.

    Returns:
        exp(entropy of the normalised squared singular values), from 1 to min(n, d).

    Source:
        Roy and Vetterli 2007, on the spectrum of the second moment.
    """
    values = torch.linalg.svdvals(embeddings.double()).square()
    share = values / values.sum().clamp_min(1e-30)
    return float(torch.exp(-(share * share.clamp_min(1e-30).log()).sum()))


class CollapseGuard:
    """Stops a run whose embedding was healthy and has become the same for everybody.

    A backbone from scratch begins as good as constant, so only what was healthy once can collapse; but a run
    that ends without ever having been healthy is a collapse too.
    """

    def __init__(self) -> None:
        self.was_healthy = False

    def check(self, metrics: Mapping[str, float], *, step: int, is_last: bool) -> None:
        """Look at one validation.

        Args:
            metrics: With `impostor_mean`, `effective_rank` and `d_prime`.
            step: For the message.
            is_last: Whether training ends here.

        Raises:
            TrainingError: id `collapse`.
        """
        cosine, rank, d_prime = metrics["impostor_mean"], metrics["effective_rank"], metrics["d_prime"]
        # A NaN is no health either, hence the form of the comparison.
        is_spread = cosine < MAX_IMPOSTOR_COSINE and rank > MIN_EFFECTIVE_RANK
        is_healthy = is_spread or d_prime > MIN_D_PRIME  # narrow, yet it tells persons apart
        if is_healthy:
            self.was_healthy = True
        elif self.was_healthy or is_last:
            raise TrainingError(
                f"The embedding has collapsed at step {step}: two strangers have a mean cosine of "
                f"{cosine:.3f} (limit {MAX_IMPOSTOR_COSINE}), the effective rank is {rank:.2f} "
                f"(limit {MIN_EFFECTIVE_RANK}), d' is {d_prime:.2f} (limit {MIN_D_PRIME}).",
                id="collapse",
                where=f"step {step}",
                hint="Lower optim.lr or backbone_options.lr_fraction, raise anchor.weight; best.json names "
                "the last good weights.",
            )
