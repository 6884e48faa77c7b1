"""What surrounds every training run: device, process group, signals, run folder, sinks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from dsrface.config.engine import TrainingConfig
from dsrface.data.degrade import Degradation
from dsrface.engine.context import RunContext
from dsrface.engine.distributed import Ranks, process_group
from dsrface.engine.run_folder import RunFolder, how_it_ended, open_run
from dsrface.engine.signals import stop_signals
from dsrface.engine.sinks import Sink, run_sinks
from dsrface.engine.trackers import open_trackers
from dsrface.errors import RunError
from dsrface.events import Emit, Event, RunFinished
from dsrface.runtime.devices import choose_device
from dsrface.runtime.nesting import flatten


@contextlib.contextmanager
def training_session(
    config: TrainingConfig, *, emit: Emit, data_sha256: str, degradation: Degradation | None = None
) -> Iterator[RunContext]:
    """Open everything a run needs, seed torch, and close it in order, whatever happens.

    Args:
        config: `TrainDsrConfig` or `FinetuneConfig`.
        emit: Takes the events of rank 0, besides the run folder's own sinks.
        data_sha256: Digest of the data set; a run is only resumed on the same data.
        degradation: How its VLR faces were made; None when unknown or not used.
    """
    device = choose_device(config.device, amp=config.amp)
    with process_group(device) as ranks, stop_signals() as stop:
        facts = {"device": device.reason, "data_sha256": data_sha256, "world_size": ranks.world_size}
        if degradation is not None:
            facts["degradation"] = json.dumps(degradation.to_dict(), sort_keys=True)
        with (
            _folder(config, ranks, facts) as folder,
            _recording(folder, config, ranks, emit) as record,
        ):
            torch.manual_seed(config.seed)
            yield RunContext(device, ranks, folder, record, stop, config.seed)


@contextlib.contextmanager
def _folder(config: TrainingConfig, ranks: Ranks, facts: Mapping[str, object]) -> Iterator[RunFolder]:
    """Open the run folder on rank 0 and tell the others of it."""
    with contextlib.ExitStack() as stack:
        folder: RunFolder | None = None
        with ranks.fail_together():
            if ranks.is_main:
                folder = stack.enter_context(
                    open_run(config, run=config.run, resume=config.resume, seed=config.seed, facts=facts)
                )
        path, is_resumed = ranks.share((str(folder.path), folder.is_resumed) if folder else None)
        yield folder or RunFolder(Path(path), is_resumed)


def _sinks(folder: RunFolder, config: TrainingConfig) -> list[Sink]:
    engine = config.engine
    settings = flatten(config.model_dump(mode="json"))
    trackers = open_trackers(folder.path, settings, wandb=engine.wandb, mlflow=engine.mlflow)
    return [*run_sinks(folder.path, use_tensorboard=engine.tensorboard), *trackers]


@contextlib.contextmanager
def _recording(folder: RunFolder, config: TrainingConfig, ranks: Ranks, emit: Emit) -> Iterator[Emit]:
    """Yield what takes the events: on rank 0 the run folder's sinks and `emit`, on other ranks nothing."""
    sinks = _sinks(folder, config) if ranks.is_main else []

    def record(event: Event) -> None:
        if ranks.is_main:
            if not folder.is_there and not isinstance(event, RunFinished):
                raise RunError(
                    "The run folder was removed while the training went on.",
                    id="run-removed",
                    where=folder.path,
                    hint="Start the training again; nothing of it can be kept.",
                )
            for take in (*(sink.emit for sink in sinks), emit):
                take(event)

    try:
        yield record
    except BaseException as error:
        status, reason = how_it_ended(error)
        record(RunFinished(status, {"error": reason}))
        raise
    finally:
        for sink in sinks:
            sink.close()
