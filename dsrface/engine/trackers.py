"""Curves and settings to trackers of others, each an optional extra: Weights & Biases, MLflow.

Nothing is imported and nothing leaves the machine unless the configuration asks for it. Where a tracker keeps
its runs, and in which project, is said by its own environment variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsrface.engine.sinks import Sink, Spared, curves
from dsrface.events import Event, RunFinished
from dsrface.runtime.files import write_text
from dsrface.runtime.versions import require

_MLFLOW_RUN = "mlflow_run.txt"
_MLFLOW_STATUS = {"done": "FINISHED", "interrupted": "KILLED"}


class WandbSink:
    """A run of Weights & Biases with the name of the run folder; a resumed run goes on in it.

    `WANDB_PROJECT`, `WANDB_MODE=offline` and the like are wandb's own.

    Args:
        run_dir: The run folder, which holds wandb's files too.
        settings: Of the run, flat.

    Raises:
        MachineError: wandb is not installed (`missing-extra`).
    """

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        require("wandb", extra="wandb")
        import wandb

        name = re.sub(r"[^\w.-]", "_", run_dir.name)
        self._run = wandb.init(dir=str(run_dir), id=name, name=name, config=dict(settings), resume="allow")
        self._has_failed = True

    def emit(self, event: Event) -> None:
        """Log the numbers of steps and evaluations."""
        step, numbers = curves(event)
        if numbers:
            self._run.log(numbers, step=step)
        if isinstance(event, RunFinished):
            self._has_failed = event.status == "failed"

    def close(self) -> None:
        """End the run."""
        self._run.finish(exit_code=int(self._has_failed))


class MlflowSink:
    """A run of MLflow; the run folder remembers its id, so that a resumed run goes on in it.

    `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` are MLflow's own.

    Args:
        run_dir: The run folder.
        settings: Of the run, flat.

    Raises:
        MachineError: mlflow is not installed (`missing-extra`).
    """

    def __init__(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        require("mlflow", extra="mlflow")
        import mlflow

        self._mlflow = mlflow
        self._status = "FAILED"
        remembered = run_dir / _MLFLOW_RUN
        if remembered.exists():
            mlflow.start_run(run_id=remembered.read_text(encoding="utf-8").strip())
            return
        run = mlflow.start_run(run_name=run_dir.name)
        write_text(remembered, f"{run.info.run_id}\n")
        mlflow.log_params({key: str(value) for key, value in settings.items()})

    def emit(self, event: Event) -> None:
        """Log the numbers of steps and evaluations."""
        step, numbers = curves(event)
        if numbers:
            self._mlflow.log_metrics(numbers, step=step)
        if isinstance(event, RunFinished):
            self._status = _MLFLOW_STATUS.get(event.status, "FAILED")

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run(self._status)


def open_trackers(run_dir: Path, settings: Mapping[str, Any], *, wandb: bool, mlflow: bool) -> list[Sink]:
    """Open the trackers that are asked for.

    Raises:
        MachineError: one is not installed (`missing-extra`).
    """
    sinks: list[Sink] = []
    if wandb:
        sinks.append(Spared(WandbSink(run_dir, settings), "Weights & Biases"))
    if mlflow:
        sinks.append(Spared(MlflowSink(run_dir, settings), "MLflow"))
    return sinks
