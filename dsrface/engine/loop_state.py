"""How far a training is: what a checkpoint must hold of the loop itself, next to networks and optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dsrface.engine.task import Validation


@dataclass
class LoopState:
    """Where the loop stands.

    Args:
        step: Optimiser steps done.
        best: The best validation so far.
        best_step: Its step; -1 before the first.
        first_metrics: Validation metrics before the first step.
        validated_step: The last step that was validated; -1 before the first.
    """

    step: int = 0
    best: Validation = field(default_factory=lambda: Validation(score=-math.inf))
    best_step: int = -1
    first_metrics: dict[str, float] = field(default_factory=dict)
    validated_step: int = -1

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        best = {"score": self.best.score, "tie": self.best.tie, "metrics": self.best.metrics}
        return {
            "step": self.step,
            "best": {**best, "step": self.best_step},
            "first_metrics": self.first_metrics,
            "validated_step": self.validated_step,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_dict` gave."""
        best = stored["best"]
        return cls(
            stored["step"],
            Validation(best["metrics"], best["score"], best.get("tie", 0.0)),
            best["step"],
            stored["first_metrics"],
            stored["validated_step"],
        )
