"""Learning rate, averaged weights and the optimiser, each as plain as it can be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from dsrface.config.engine import OptimConfig
from dsrface.engine.task import ParamGroup


@dataclass(frozen=True)
class LrPlan:
    """The learning rate as a pure function of the step: resuming has nothing to restore.

    Args:
        phase_steps: Steps of each phase; every phase has its own warm-up and cosine.
        lr: Highest learning rate, reached exactly at the end of each warm-up.
        warmup_fraction: Share of a phase's steps that ramp up.
        final_fraction: Rate of a phase's last step, as a fraction of `lr`.
    """

    phase_steps: tuple[int, ...]
    lr: float
    warmup_fraction: float
    final_fraction: float

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return sum(self.phase_steps)

    def phase(self, step: int) -> int:
        """Return the phase that step number `step` (0-based) belongs to."""
        first = 0
        for phase, num_steps in enumerate(self.phase_steps):
            first += num_steps
            if step < first:
                return phase
        return len(self.phase_steps) - 1

    def at(self, step: int) -> float:
        """Return the learning rate of step number `step`, 0-based."""
        phase = self.phase(step)
        step -= sum(self.phase_steps[:phase])
        num_steps = self.phase_steps[phase]
        warmup = max(1, round(self.warmup_fraction * num_steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step + 1 - warmup) / max(1, num_steps - warmup)
        return self.lr * (
            self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
        )


def build_optimizer(groups: Sequence[ParamGroup], config: OptimConfig) -> torch.optim.AdamW:
    """Make an AdamW whose groups know their phases' fractions; one-dimensional parameters are not decayed.

    The fused kernel updates everything in one call and needs no gradient check on the host.
    """
    described = []
    for group in groups:
        for is_decayed in (True, False):
            params = [param for param in group.params if (param.ndim > 1) == is_decayed]
            if params:
                decay = config.weight_decay if is_decayed else 0.0
                described.append(
                    {"params": params, "weight_decay": decay, "lr_fractions": group.lr_fractions}
                )
    kinds = {param.device.type for group in groups for param in group.params}
    return torch.optim.AdamW(
        described, lr=config.lr, betas=(config.beta1, config.beta2), fused=kinds <= {"cpu", "cuda", "mps"}
    )


def set_lr(optimizer: torch.optim.Optimizer, plan: LrPlan, step: int) -> float:
    """Set every group's rate for step number `step`; return the highest one."""
    phase, lr = plan.phase(step), plan.at(step)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_fractions"][phase]
    return max(float(group["lr"]) for group in optimizer.param_groups)


class Ema:
    """Averaged weights of a module, buffers included; what is validated and saved.

    Early on the average follows closely, `decay` is min(decay, (1 + n) / (10 + n)) after n updates, so that
    short runs are not averaged with their random start.

    Args:
        module: The module that trains.
        decay: In [0, 1); 0 makes the average the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = _tensors(module)
        self.shadow = (
            {} if decay == 0 else {name: tensor.detach().clone() for name, tensor in self._live.items()}
        )
        self._floats = [name for name, tensor in self.shadow.items() if tensor.is_floating_point()]
        self._others = [name for name, tensor in self.shadow.items() if not tensor.is_floating_point()]

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the weights after update number `num_updates` (1-based)."""
        if not self.shadow:
            return
        weight = 1.0 - min(self.decay, (1 + num_updates) / (10 + num_updates))
        torch._foreach_lerp_(
            [self.shadow[name] for name in self._floats],
            [self._live[name].detach() for name in self._floats],
            weight,
        )
        for name in self._others:
            self.shadow[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the module for the length of the block, by swapping contents."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the averaged tensors, for a checkpoint."""
        return self.shadow

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` gave."""
        for name, tensor in self.shadow.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self.shadow.items():
            live = self._live[name]
            kept = live.detach().clone()
            live.copy_(tensor)
            tensor.copy_(kept)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
