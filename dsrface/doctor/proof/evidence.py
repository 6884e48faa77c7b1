"""What workers write about each item while they load it: a file of JSON lines for each worker.

The lines are signs of life for the guardian, and evidence for the comparison. A file, because it works the
same for every start method and is complete up to the moment at which a worker dies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Recorder:
    """Appends lines to a file, unbuffered.

    Args:
        folder: Where the examination collects evidence.
        name: Of the file.
    """

    def __init__(self, folder: str, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self.descriptor = os.open(os.path.join(folder, f"{name}.jsonl"), flags, 0o600)

    def __call__(self, event: str, **values: Any) -> None:
        """Write one line."""
        line = json.dumps({"event": event, **values}, default=str)
        os.write(self.descriptor, line.encode("utf-8", "replace") + b"\n")


@dataclass(frozen=True)
class Owner:
    """Where an object is held.

    Args:
        path: E.g. `dataset.handle`, `train.HANDLE`, `train.open_file (its cache)`.
        source: `file:line` of the assignment; may be empty.
        kind: Kind of handle, as `kinds.handle_kind` has it; `descriptor` for a bare number.
    """

    path: str
    source: str = ""
    kind: str = "file"


@dataclass
class LoadedBatch:
    """What a worker wrote about one batch.

    Args:
        worker: Its number.
        number: Position among the loader's batches, as the loader hands them out in turn.
        items: Fingerprint of each item before it was collated.
        seconds: Time that each item took.
        digest: Fingerprint of the collated batch before it was sent; empty when it never came to that.
        is_natural: Loaded without setting the generators.
    """

    worker: int
    number: int
    items: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    digest: str = ""
    is_natural: bool = False


@dataclass
class StartEvidence:
    """Everything that the workers of one start wrote."""

    batches: dict[int, LoadedBatch] = field(default_factory=dict)
    moved: dict[int, str] = field(default_factory=dict)
    owners: dict[int, Owner] = field(default_factory=dict)  # of what has moved
    notes: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    num_watched: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def num_items(self) -> int:
        """Items that workers loaded."""
        return sum(len(batch.items) for batch in self.batches.values())

    def busy_workers(self) -> set[int]:
        """Return the workers that loaded anything."""
        return {batch.worker for batch in self.batches.values() if batch.items}


def read(folder: str, start: int) -> StartEvidence:
    """Return what the workers of a start have written so far; a cut-off last line is left out."""
    evidence = StartEvidence()
    for path in sorted(Path(folder).glob(f"start{start}-*.jsonl")):
        worker = int(path.stem.rpartition("-")[2])
        _read_worker(path, worker, evidence)
    return evidence


def _read_worker(path: Path, worker: int, evidence: StartEvidence) -> None:
    batch: LoadedBatch | None = None
    for line in _lines(path):
        event = line.pop("event")
        if event == "start":
            evidence.notes.append({"worker": worker, **line})
            evidence.num_watched = max(evidence.num_watched, line.get("watched", 0))
        elif event == "batch":
            batch = evidence.batches.setdefault(line["number"], LoadedBatch(worker, line["number"]))
            batch.is_natural = line["natural"]
        elif event == "item" and batch is not None:
            batch.items.append(line["digest"])
            batch.seconds.append(line["s"])
            evidence.first_s = min(evidence.first_s or line["at"], line["at"])
            evidence.last_s = max(evidence.last_s, line["at"])
        elif event == "sent" and batch is not None:
            batch.digest = line["digest"]
        elif event == "raised" and evidence.error is None:
            evidence.error = {"worker": worker, **line}
        evidence.moved.update({int(fd): name for fd, name in line.get("moved", ())})
        if event == "moved" and line["owner"] is not None:
            evidence.owners[int(line["moved"][0][0])] = Owner(**line["owner"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
