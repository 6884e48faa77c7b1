"""What both training commands return, and what they say when they were interrupted."""

from __future__ import annotations

from dataclasses import dataclass

from dsrface.commands.shared.result import CommandResult
from dsrface.config.engine import TrainingConfig
from dsrface.engine.context import Outcome, RunContext
from dsrface.runtime.command_line import resume_command


@dataclass(frozen=True)
class TrainingResult(CommandResult):
    """How a training ended.

    Args:
        outcome: How the loop ended.
        exit_code: 0; 129, 130 or 143 when interrupted.
    """

    outcome: Outcome
    exit_code: int = 0


def interrupted(config: TrainingConfig, context: RunContext, outcome: Outcome) -> TrainingResult:
    """Return the result of a run that a signal ended: how to go on with it."""
    run = context.folder.path
    return TrainingResult(
        f"Interrupted after step {outcome.step}; resumed, it goes on from step {outcome.saved_step}.",
        str(run),
        resume_command(config.command, config.data, run),
        outcome,
        outcome.exit_code,
    )
