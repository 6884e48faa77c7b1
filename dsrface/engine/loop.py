"""The only training loop. It knows nothing of faces: a `Task` turns batches into losses.

A step waits for its batch, and for a GPU that is more than a step behind, but for nothing else: losses are
summed on the device and fetched every `log_every_steps`, the optimiser is fused, the learning rate is a
function of the step. All randomness inside a step comes from a generator seeded by (seed, step, rank), so a
resumed run has no generator state to restore.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dsrface.config.engine import EngineConfig, OptimConfig
from dsrface.engine import checkpoint as checkpoints
from dsrface.engine.context import BatchSource, Outcome, RunContext
from dsrface.engine.loop_state import LoopState
from dsrface.engine.meter import Meter, Reading
from dsrface.engine.microbatches import seed_step, split_microbatches, to_step_device
from dsrface.engine.optim import Ema, LrPlan, build_optimizer, clip_norm, set_lr
from dsrface.engine.run_claim import INTERRUPTED
from dsrface.engine.run_folder import DONE
from dsrface.engine.step_errors import explained_deaths, explained_memory
from dsrface.engine.task import Task, Validation
from dsrface.errors import RunError, TrainingError, WorkerError
from dsrface.events import CheckpointSaved, EvalDone, Note, RunFinished, RunStarted, StepDone
from dsrface.runtime.devices import autocast, recorded_event
from dsrface.runtime.ending import cause_of
from dsrface.types import Batch

_NAMED_SAMPLES = 8


def fit(
    task: Task,
    source: BatchSource,
    *,
    phase_epochs: tuple[int, ...],
    optim: OptimConfig,
    engine: EngineConfig,
    context: RunContext,
) -> Outcome:
    """Train `task`, or carry on where its run folder's last checkpoint stands.

    Args:
        task: On the device already.
        source: Batches on the host or on the device.
        phase_epochs: Epochs of each phase of the task.
        optim: Optimiser settings.
        engine: Loop settings.
        context: Device, ranks, run folder, sinks.

    Raises:
        TrainingError: non-finite loss or gradient, out of memory, collapse.
        RunError: the checkpoint to resume from is damaged or of another run.
        DsrfaceError: what the loader raises.
    """
    with explained_memory(engine):
        return _Loop(task, source, phase_epochs, optim, engine, context).run()


class _Loop:
    def __init__(
        self,
        task: Task,
        source: BatchSource,
        phase_epochs: tuple[int, ...],
        optim: OptimConfig,
        engine: EngineConfig,
        context: RunContext,
    ) -> None:
        self.task, self.source, self.optim, self.engine, self.context = task, source, optim, engine, context
        self.plan = LrPlan(
            tuple(epochs * source.num_batches for epochs in phase_epochs),
            optim.lr,
            optim.warmup_fraction,
            optim.final_lr_fraction,
        )
        self.device = torch.device(context.device.torch_name)
        self.optimizer = build_optimizer(task.param_groups(), optim)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=context.device.amp == "fp16")
        self.ema = Ema(task, optim.ema_decay, skip=task.unaveraged())
        self.meter = Meter(self.device)
        self.state = LoopState()
        self.phase = -1
        self.callable: nn.Module = task
        self.lr = 0.0
        self.last_saved: Path | None = None
        self.saved_step = -1
        self.is_in_step = False
        self.step_end: torch.cuda.Event | None = None

    def run(self) -> Outcome:
        if self.engine.compile:
            self.task.compile_networks()
        self._resume()
        started = RunStarted(
            self.context.folder.path,
            str(self.context.folder.record.get("command", "")),
            self.context.device.reason,
            self.plan.num_steps,
            self.state.step,
        )
        self.context.emit(started)
        status = self._train()
        if status == INTERRUPTED and self.context.stop.signum:
            self.context.emit(Note(f"stopped: {cause_of(self.context.stop.signum)}"))
        step, best_step, best = self.state.step, self.state.best_step, self.state.best.metrics
        self.context.emit(RunFinished(status, {"step": float(step), "best_step": float(best_step), **best}))
        if self.context.ranks.is_main:
            self.context.folder.update(status=status, step=step, best_step=best_step)
        code = self.context.stop.exit_code if status == INTERRUPTED else 0
        return Outcome(status, step, self.saved_step, best_step, best, self.state.first_metrics, code)

    def _train(self) -> str:
        try:
            with explained_deaths(self.source):
                return self._epochs()
        except WorkerError:
            if not self.context.stop.signum:
                raise
            # The signal ended the workers too, as when a job is cancelled. In the middle of a step, weights
            # may be half updated: then the last checkpoint stands.
            return INTERRUPTED if self.is_in_step else self._interrupted()

    def _epochs(self) -> str:
        per_epoch = self.source.num_batches
        while True:
            if self._is_validation_due():
                self._evaluate_and_save()
            if self.state.step == self.plan.num_steps:
                return DONE
            epoch, start_batch = divmod(self.state.step, per_epoch)
            self._enter_phase()
            for batch in self.meter.waited(iter(self.source.epoch(epoch, start_batch))):
                self._train_step(batch)
                if self._after_step(is_epoch_end=self.state.step % per_epoch == 0):
                    return self._interrupted()
            if self.state.step != (epoch + 1) * per_epoch:
                raise RunError(
                    f"The loader gave {self.state.step - epoch * per_epoch} batches of {per_epoch} in epoch "
                    f"{epoch}.",
                    id="short-epoch",
                )

    def _is_validation_due(self) -> bool:
        """At the start, every few epochs, at the end; and not twice, should an interruption fall there."""
        epochs, within = divmod(self.state.step, self.source.num_batches)
        is_due = epochs % self.engine.eval_every_epochs == 0 or self.state.step == self.plan.num_steps
        return within == 0 and is_due and self.state.validated_step != self.state.step

    def _train_step(self, batch: Batch) -> None:
        self.is_in_step = True
        seed_step(self.context.seed, self.state.step, self.context.ranks.rank)
        if self.state.step == 0 and self.context.ranks.is_main:
            self.task.save_first_batch(batch, self.context.folder.samples / "first_batch.png")
        lr = set_lr(self.optimizer, self.plan, self.state.step)
        total: dict[str, torch.Tensor] = {}
        micro_batches = split_microbatches(batch, self.engine.accumulate)
        for number, micro in enumerate(micro_batches):
            is_last = number == len(micro_batches) - 1
            with self._sync_only(is_last=is_last):
                with autocast(self.context.device):
                    loss, metrics = self.callable(to_step_device(micro, self.device))
                share = len(micro) / len(batch)
                self.scaler.scale(loss * share).backward()
            for name, value in metrics.items():
                total[name] = total[name] + value * share if name in total else value * share
        self.scaler.unscale_(self.optimizer)
        norm = clip_norm(self.task.parameters(), self.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.state.step + 1)
        is_finite = torch.isfinite(norm)
        if self.scaler.is_enabled():  # an overflowing gradient is skipped and the scale lowered, if it can be
            is_finite |= self.scaler.scale(torch.ones_like(norm)) >= 1
        is_finite &= torch.isfinite(total["loss/total"])
        total["grad_norm"] = norm
        self.meter.add(self.state.step, batch, total, is_bad=~is_finite)
        self._keep_pace()
        self.lr = lr
        self.state.step += 1
        self.is_in_step = False

    def _keep_pace(self) -> None:
        """Let a GPU fall behind by a step, no more: more would look like waiting for data."""
        if self.device.type == "cuda":
            before, self.step_end = self.step_end, recorded_event(self.device)
            if before is not None:
                before.synchronize()

    def _after_step(self, *, is_epoch_end: bool) -> bool:
        """Log and save where it is due; return whether to stop."""
        every = self.engine.checkpoint_every_steps
        is_fetch = self.state.step % self.engine.log_every_steps == 0 or is_epoch_end
        if is_fetch:
            self._fetch()
        if every and self.state.step % every == 0 and not is_epoch_end:
            self._save(Validation(), is_best=False)
        if not self.context.ranks.is_distributed:
            return bool(self.context.stop.signum)
        if is_fetch:  # the ranks must stop at the same step, so they agree where they meet anyway
            self.context.stop.signum = self.context.ranks.max(self.context.stop.signum)
            return bool(self.context.stop.signum)
        return False

    def _interrupted(self) -> str:
        self._save(Validation(), is_best=False)
        return INTERRUPTED

    def _fetch(self) -> None:
        if not self.meter.has_steps():
            return
        reading = self.meter.fetch()
        if reading.bad_step >= 0:
            raise self._non_finite(reading)
        names = list(reading.metrics)
        means = self.context.ranks.mean(
            torch.tensor([reading.metrics[name] for name in names], device=self.device)
        )
        metrics = dict(zip(names, means.tolist(), strict=True)) | {"lr": self.lr}
        self.context.emit(
            StepDone(
                self.state.step,
                (self.state.step - 1) // self.source.num_batches,
                metrics,
                reading.images_per_s * self.context.ranks.world_size,
                reading.data_wait_fraction,
            )
        )

    def _non_finite(self, reading: Reading) -> TrainingError:
        names = self.task.describe(list(reading.bad_indices[:_NAMED_SAMPLES]))
        more = len(reading.bad_indices) - len(names)
        good = self.last_saved or "none yet"
        return TrainingError(
            f"The loss or its gradient is not finite at step {reading.bad_step + 1} (epoch "
            f"{reading.bad_epoch}).",
            id="non-finite-loss",
            where=f"batch of {', '.join(names)}{f' and {more} more' if more > 0 else ''}; last good "
            f"checkpoint: {good}",
            hint="Lower optim.lr, use amp=fp32, or look at these images; --resume goes on from the last "
            "checkpoint.",
        )

    def _evaluate_and_save(self) -> None:
        """Validate the averaged weights, and save exactly those."""
        self._fetch()
        self.state.validated_step = self.state.step
        with self.context.ranks.fail_together():
            if self.context.ranks.is_main:
                result = self._validate()
                is_best = result.beats(self.state.best)
                if is_best:
                    self.state.best, self.state.best_step = result, self.state.step
                if self.state.step == 0:
                    self.state.first_metrics = result.metrics
                self.context.emit(EvalDone(self.state.step, result.metrics, is_best))
                self._save(result, is_best=is_best)
        if self.context.ranks.is_distributed:
            self.state = self.context.ranks.share(self.state)
        self.meter.pause()

    def _validate(self) -> Validation:
        is_last = self.state.step == self.plan.num_steps
        self.task.eval()
        try:
            with self.ema.applied(), torch.inference_mode():
                result = self.task.validate(
                    step=self.state.step, samples_dir=self.context.folder.samples, is_last=is_last
                )
        finally:
            self.task.train()
        if math.isnan(result.score):
            raise TrainingError(
                f"Validated at step {self.state.step}, the network's outputs are not finite, though the loss "
                "was: the last steps were too large.",
                id="non-finite-validation",
                where=f"last good checkpoint: {self.last_saved or 'none yet'}",
                hint="Lower optim.lr, or set optim.clip_norm, and start a new run.",
            )
        return result

    def _save(self, result: Validation, *, is_best: bool) -> None:
        self._fetch()  # a checkpoint is only written of weights known to be finite
        if not self.context.ranks.is_main:
            return

        def save_model(path: Path) -> None:
            with self.ema.applied():
                self.task.save_model(path, step=self.state.step)

        self.last_saved = checkpoints.save_checkpoint(
            self.context.folder.path,
            step=self.state.step,
            save_model=save_model,
            trainer_state=self._state(),
            metrics=result.metrics,
            is_best=is_best,
            keep=self.engine.keep_checkpoints,
        )
        self.saved_step = self.state.step
        self.context.emit(CheckpointSaved(self.state.step, self.last_saved))
        self.meter.pause()

    def _state(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            **self.state.to_dict(),
            "phase_steps": list(self.plan.phase_steps),
            "task": self.task.state_dict(),
            "memory": self.task.memory(),
            "ema": self.ema.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _resume(self) -> None:
        """Load the last checkpoint on every rank, if there is one."""
        folder = self.context.folder
        if not folder.is_resumed:
            return
        path = self.context.ranks.on_main(lambda: checkpoints.find_last(folder.path))
        if path is None:
            self.context.emit(Note("No checkpoint found: the run starts from scratch."))
            return
        state = checkpoints.load_trainer_state(path)
        if state["phase_steps"] != list(self.plan.phase_steps):
            raise RunError(
                f"The checkpoint belongs to a run of {state['phase_steps']} steps, not "
                f"{list(self.plan.phase_steps)}: the images, the batch size or the epochs have changed.",
                id="not-resumable",
                where=path,
            )
        self.task.load_state_dict(state["task"])
        self.task.recall(state["memory"])
        self.ema.load_state(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.state = LoopState.from_dict(state)
        self.saved_step = self.state.step
        self.last_saved = path

    def _enter_phase(self) -> None:
        phase = self.plan.phase(self.state.step)
        if phase == self.phase:
            return
        self._fetch()
        self.phase = phase
        self.task.set_phase(phase)
        self.task.train()
        if self.context.ranks.is_distributed:
            self.callable = DistributedDataParallel(self.task, gradient_as_bucket_view=True)

    def _sync_only(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        if not is_last and isinstance(self.callable, DistributedDataParallel):
            return self.callable.no_sync()
        return contextlib.nullcontext()
