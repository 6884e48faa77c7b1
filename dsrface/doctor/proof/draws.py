"""What workers draw when their generators are not set: equal numbers in two workers, or in two starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsrface.doctor.proof.start import Start


@dataclass
class Draws:
    """What the natural batches show.

    Args:
        num_varying: Items that differ when the same worker reads them again.
        equal_workers: Two workers draw the same for the same keys.
        equal_starts: A worker draws the same in two starts, that is, in every epoch.
        same_seeds: Generators that worker_init_fn puts into one state in all workers.
        fixed_seeds: Generators that worker_init_fn puts into the same state in every start.
    """

    num_varying: int = 0
    equal_workers: bool = False
    equal_starts: bool = False
    same_seeds: list[str] = field(default_factory=list)
    fixed_seeds: list[str] = field(default_factory=list)


def draws_of(starts: list[Start], num_workers: int) -> Draws:
    """Compare the first two batches of each worker, which all have the same keys.

    Args:
        starts: With two natural batches a worker.
        num_workers: Workers of each start.
    """
    found = Draws()
    firsts = [_readings(start, 0, num_workers) for start in starts]
    if not firsts or not firsts[0][0]:
        return found
    once, again = firsts[0]
    rows = [row for row, (a, b) in enumerate(zip(once, again)) if a != b]
    found.num_varying = len(rows)
    if rows and num_workers > 1:
        other = _readings(starts[0], 1, num_workers)[0]
        found.equal_workers = len(other) == len(once) and all(other[row] == once[row] for row in rows)
    if rows and len(starts) > 1:
        later = firsts[1][0]
        found.equal_starts = len(later) == len(once) and all(later[row] == once[row] for row in rows)
    seeded = [[note["seeded"] for note in start.evidence.notes] for start in starts]
    if num_workers > 1 and len(seeded[0]) > 1:
        found.same_seeds = [
            n for n, state in seeded[0][0].items() if all(w.get(n) == state for w in seeded[0])
        ]
    if len(seeded) > 1 and seeded[0] and seeded[1]:
        found.fixed_seeds = [n for n, state in seeded[0][0].items() if seeded[1][0].get(n) == state]
    return found


def _readings(start: Start, worker: int, num_workers: int) -> tuple[list[str], list[str]]:
    batches = start.evidence.batches
    first, second = batches.get(worker), batches.get(worker + num_workers)
    if first is None or second is None or not (first.is_natural and second.is_natural):
        return [], []
    return first.items, second.items
