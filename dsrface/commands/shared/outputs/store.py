"""One road for all stored outputs: decide, begin, write, finish, the ranks in step, whatever the format.

`run_folder` is the road; `packed.PackedStore` and `png.PngStore` are the two formats. What was written is
checked by `data.outputs.verify` and opened by `data.outputs.opening`, which know the format by the folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dsrface.commands.shared.outputs.context import PrecomputeContext, locked
from dsrface.commands.shared.outputs.pipeline import Reading, Upscaler
from dsrface.data.outputs.rows import RowDataset
from dsrface.events import Note, Progress


@dataclass(frozen=True)
class FolderResult:
    """What was done with one output folder.

    Args:
        folder: Where.
        action: begin, resume, append, repair, none, or verify.
        reason: Why.
        num_images: Images that were made now, by all ranks.
        images_per_s: Rate of the pipeline; 0 when nothing was to do.
        problems: Damage that `--verify` found.
    """

    folder: str
    action: str
    reason: str
    num_images: int = 0
    images_per_s: float = 0.0
    problems: tuple[str, ...] = ()


class Plan(Protocol):
    """What a store has decided; it travels from rank 0 to the others."""

    @property
    def action(self) -> str:
        """As in `FolderResult`."""

    @property
    def reason(self) -> str:
        """One line, human-readable."""


P = TypeVar("P", bound=Plan)


class Store(Protocol[P]):
    """One output folder in one format. Units are what ranks share among them: shards, or images."""

    @property
    def folder(self) -> Path:
        """Where the outputs go."""

    @property
    def label(self) -> str:
        """What is made, for the progress bar."""

    def decide(self) -> P:
        """Compare what the folder holds with what is wanted; rank 0 alone, under the folder's lock."""

    def begin(self, plan: P) -> Sequence[int]:
        """Put the plan on disk, so that a killed run can go on; return the units to write. Rank 0 alone."""

    def rows(self, plan: P) -> tuple[RowDataset, int]:
        """Return the inputs, and how many are read at a time."""

    def network(self) -> contextlib.AbstractContextManager[Upscaler | None]:
        """Return what turns inputs into outputs; None where they are the outputs."""

    def write(
        self,
        plan: P,
        units: Sequence[int],
        reading: Reading,
        upscale: Upscaler | None,
        *,
        progress: Callable[[int], None],
    ) -> float:
        """Write some units, each rank its own; return the seconds it took."""

    def num_images(self, plan: P, units: Sequence[int]) -> int:
        """Return the number of images in some units."""

    def finish(self, plan: P) -> None:
        """Write the manifest; rank 0 alone, when all units are there."""


def run_folder(store: Store[Any], context: PrecomputeContext) -> FolderResult:
    """Bring one output folder up to what this run calls for.

    Raises:
        DsrfaceError: stale, locked, unreadable images, no room on the disk.
    """
    ranks, folder = context.ranks, str(store.folder)
    with locked(store.folder, ranks):
        plan = ranks.on_main(store.decide)
        doing = plan.reason if plan.action == "none" else f"{plan.action} ({plan.reason})"
        context.emit(Note(f"{folder}: {doing}"))
        if plan.action == "none":
            return FolderResult(folder, "none", plan.reason)
        units = ranks.on_main(lambda: store.begin(plan))
        mine = units[ranks.rank :: ranks.world_size]
        reading = context.reading(*store.rows(plan))
        total, seconds = store.num_images(plan, mine), 0.0
        with ranks.fail_together(), store.network() as upscale:
            seconds = store.write(
                plan,
                mine,
                reading,
                upscale,
                progress=lambda done: context.emit(Progress(store.label, done, total)),
            )
        ranks.on_main(lambda: store.finish(plan))
        made = store.num_images(plan, units)
        return FolderResult(folder, plan.action, plan.reason, made, made / seconds if made else 0.0)
