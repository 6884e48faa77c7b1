"""`dsrface precompute`: run a DSR once over a data set or a folder, and keep what it puts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dsrface.commands.shared.outputs.backends import choose
from dsrface.commands.shared.outputs.context import PrecomputeContext
from dsrface.commands.shared.outputs.jobs import Job, make_jobs
from dsrface.commands.shared.outputs.store import FolderResult, run_folder
from dsrface.commands.shared.outputs.stores import stores_of
from dsrface.commands.shared.result import CommandResult
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.outputs.verify import verify
from dsrface.engine.distributed import process_group
from dsrface.errors import EXIT_ANSWER_IS_NO, UsageError
from dsrface.events import Emit, Event, Note, Progress
from dsrface.models.loaded import LoadedModel
from dsrface.models.weights import load_dsr
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device
from dsrface.runtime.threads import limit_torch_threads

__all__ = ["PrecomputeResult", "run"]

_DONE = {"begin": "made", "resume": "made (the rest)", "append": "added", "repair": "rebuilt"}


@dataclass(frozen=True)
class PrecomputeResult(CommandResult):
    """What was made, or verified.

    Args:
        folders: Each output folder.
        exit_code: 1 when `--verify` found damage.
    """

    folders: tuple[FolderResult, ...]
    exit_code: int = 0


def run(config: PrecomputeConfig, *, emit: Emit) -> PrecomputeResult:
    """Write all outputs that are missing.

    Args:
        config: Complete configuration.
        emit: Takes the events.

    Raises:
        DsrfaceError: stale outputs, another writer, no room on the disk, unreadable images or weights.
    """
    device = choose_device(config.device, amp=config.amp)
    loaded = load_dsr(config.weights, vlr_size=config.vlr_size, device=device.torch_name)
    vlr_size = _vlr_size(config, loaded)
    jobs = make_jobs(config, vlr_size)
    if config.verify:
        return _verify(config, jobs, emit)
    with process_group(device) as ranks:
        emit = emit if ranks.is_main else _silent
        emit(Note(f"device: {device.reason}"))
        limit_torch_threads(0)
        running = choose(config, loaded, device, jobs, ranks, emit)
        context = PrecomputeContext(
            config, running.loaded, vlr_size, running.device, ranks, emit, backend=running.name
        )
        stores = [store for job in jobs for store in stores_of(job, context)]
        folders = [run_folder(store, context) for store in stores]
    has_train = any(name == "train" for job in jobs for name, _ in job.parts)
    return _result(config, context, folders, has_train=has_train)


def _vlr_size(config: PrecomputeConfig, loaded: LoadedModel) -> int:
    """Return the side of the inputs: what the DSR was made for, or what is asked for."""
    size = loaded.vlr_size or config.vlr_size
    if size is None:
        raise UsageError(
            f"{loaded.name} takes images of any size.",
            id="vlr-size-missing",
            where=loaded.path,
            hint="Say which to take: --vlr-size 16.",
        )
    return size


def _verify(config: PrecomputeConfig, jobs: list[Job], emit: Emit) -> PrecomputeResult:
    folders = []
    for job in jobs:
        for folder in job.folders(config.format):
            found = verify(folder, progress=_verify_progress(folder, emit))
            reason = f"{found.num_records} images read"
            folders.append(FolderResult(str(folder), "verify", reason, problems=found.problems))
    damage = [problem for folder in folders for problem in folder.problems]
    summary = f"All bytes are as they were written ({len(folders)} folders)."
    if damage:
        more = f" and {len(damage) - 5} more" if len(damage) > 5 else ""
        summary = f"{len(damage)} problems: " + " ".join(damage[:5]) + more
    return PrecomputeResult(
        summary,
        str(jobs[0].outputs_dir),
        "Run the same command without --verify: it rebuilds what is damaged." if damage else "",
        tuple(folders),
        EXIT_ANSWER_IS_NO if damage else 0,
    )


def _verify_progress(folder: Path, emit: Emit) -> Callable[[int, int], None]:
    return lambda done, total: emit(Progress(f"verify {folder.parent.name}/{folder.name}", done, total))


def _result(
    config: PrecomputeConfig, context: PrecomputeContext, folders: list[FolderResult], *, has_train: bool
) -> PrecomputeResult:
    made = [folder for folder in folders if folder.num_images]
    if not made:
        summary = "Nothing to do: every output is there, made by these weights, settings and images."
    else:
        summary = "; ".join(
            f"{'/'.join(Path(item.folder).parts[-2:])}: {item.num_images} images {_DONE[item.action]}, "
            f"{item.images_per_s:.0f}/s"
            for item in made
        )
    location = folders[0].folder
    if config.data is None:
        following = f"ls {quoted(location)}"
    else:
        data = f"{quoted(config.data)} --vlr-size {context.vlr_size}"
        following = (
            f"dsrface finetune {data} --dsr-outputs {quoted(location)}"
            if has_train
            else f"dsrface evaluate {data} --dsr {quoted(config.weights)}"
        )
    return PrecomputeResult(summary, location, following, tuple(folders))


def _silent(event: Event) -> None:
    del event
