"""What the loop must know of what it trains: how a batch becomes a loss, and how to judge the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from dsrface.types import Batch


@dataclass(frozen=True)
class Validation:
    """Result of validating one set of weights.

    Args:
        metrics: On validation images.
        score: What the best checkpoint is picked by, higher is better; NaN stops the run.
        tie: Decides between equal scores, higher is better.
        is_eligible: Whether these weights may be the best; random ones may not.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    score: float = 0.0
    tie: float = 0.0
    is_eligible: bool = True

    def beats(self, other: Validation) -> bool:
        """Return whether these weights are to be kept instead of the best so far."""
        return self.is_eligible and (self.score, self.tie) > (other.score, other.tie)


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate.

    Args:
        name: For logs, e.g. `"backbone"`.
        params: The parameters.
        lr_fractions: Per phase of the run, the group's learning rate as a fraction of the highest; 0: frozen.
    """

    name: str
    params: list[nn.Parameter]
    lr_fractions: tuple[float, ...] = (1.0,)


class Task(nn.Module):
    """Base of the two things we train. Its parameters and buffers are what a checkpoint holds.

    Everything frozen (a teacher, a DSR, a loss network) must be kept out of the module tree, e.g. in a tuple.
    """

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the mean loss over the batch, and metrics as 0-d tensors on the device, detached."""
        raise NotImplementedError

    def param_groups(self) -> list[ParamGroup]:
        """Return all trained parameters, each in one group."""
        return [ParamGroup("model", list(self.parameters()))]

    def unaveraged(self) -> frozenset[str]:
        """Return the names of parameters that are validated and saved as they are, not averaged."""
        return frozenset()

    def set_phase(self, phase: int) -> None:
        """Switch to a phase: sets `requires_grad`; called before a phase's first step and on resume."""

    def compile_networks(self) -> None:
        """Compile the trained networks in place, for `engine.compile`."""

    def validate(self, *, step: int, samples_dir: Path, is_last: bool) -> Validation:
        """Judge the present weights on validation data; the loop has put the averaged weights in place.

        Raises:
            TrainingError: the network has collapsed.
        """
        raise NotImplementedError

    def save_model(self, path: Path, *, step: int) -> None:
        """Write the network for use (without training state) to `path`, a safetensors file."""
        raise NotImplementedError

    def memory(self) -> dict[str, bool]:
        """Return what the task must remember over a resume besides its tensors."""
        return {}

    def recall(self, memory: dict[str, bool]) -> None:
        """Restore what `memory` gave."""

    def save_first_batch(self, batch: Batch, path: Path) -> None:
        """Write an image of the run's first batch as the network sees it."""

    def describe(self, indices: list[int]) -> list[str]:
        """Return the names of training samples, for messages."""
        return [str(index) for index in indices]
