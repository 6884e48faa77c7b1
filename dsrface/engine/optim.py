"""Learning rate, averaged weights and the optimiser, each as plain as it can be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


class RowAdamW(torch.optim.AdamW):
    """AdamW that, of a parameter with a sparse gradient, moves only the rows that the gradient holds."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make a step; the running means of rows without a gradient stay as they are."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None and param.grad.is_sparse:
                    if not self._must_skip():
                        self._step_rows(param, group)
                    param.grad = None
        return super().step(closure)

    def _must_skip(self) -> bool:
        """Return whether the scaler of fp16 has met an overflow."""
        found = getattr(self, "found_inf", None)
        return found is not None and bool(found)

    def _step_rows(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = param.grad.coalesce() if param.grad is not None else None
        assert gradient is not None
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), device=param.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(param), torch.zeros_like(param)
        state["step"] += 1
        (beta1, beta2), step = group["betas"], float(state["step"])
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        scale = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        moved = param[rows].mul_(1 - group["lr"] * group["weight_decay"])
        param[rows] = moved.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**step))


def clip_norm(params: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale gradients down to a global L2 norm, as torch does, sparse ones too; return the norm before.

    Args:
        params: Those without a gradient do not count.
        max_norm: 0 leaves the gradients as they are.
    """
    params = [param for param in params if param.grad is not None]
    if not any(param.grad is not None and param.grad.is_sparse for param in params):
        return nn.utils.clip_grad_norm_(params, max_norm or math.inf)
    gradients = []
    for param in params:
        assert param.grad is not None
        if param.grad.is_sparse:
            param.grad = param.grad.coalesce()  # only now each row counts once
        gradients.append(param.grad._values() if param.grad.is_sparse else param.grad)  # noqa: SLF001
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # noqa: SLF001
    if max_norm:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def build_optimizer(groups: Sequence[ParamGroup], config: OptimConfig) -> RowAdamW:
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
    return RowAdamW(
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
        skip: Names of tensors that are not averaged.
    """

    def __init__(self, module: nn.Module, decay: float, *, skip: frozenset[str] = frozenset()) -> None:
        self.decay = decay
        self._live = {name: tensor for name, tensor in _tensors(module).items() if name not in skip}
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
