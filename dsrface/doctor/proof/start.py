"""What one start of workers delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dsrface.doctor.proof.evidence import StartEvidence


@dataclass
class Start:
    """What one start of workers delivered.

    Args:
        number: 0 or 1.
        batches: What the workers were given, in the order of delivery; empty for a stream.
        num_natural: How many of them, at the start, came with the generators as the workers had them.
        startup_s: Seconds until the first batch.
        duration_s: Seconds all in all.
        worker_bytes: Memory of the largest worker's own.
        evidence: What the workers wrote.
        received: Fingerprint of each batch as it arrived.
        kept: The batches themselves, as far as memory allows.
        error: What the loader raised.
        exit_codes: Of the workers that were gone by then, by their number; torch knows only its children's.
        is_whole: A stream ended by itself.
    """

    number: int
    batches: list[Any]
    num_natural: int
    startup_s: float = 0.0
    duration_s: float = 0.0
    worker_bytes: int = 0
    evidence: StartEvidence = field(default_factory=StartEvidence)
    received: list[str] = field(default_factory=list)
    kept: dict[int, Any] = field(default_factory=dict)
    error: BaseException | None = None
    exit_codes: dict[int, int] = field(default_factory=dict)
    is_whole: bool = False

    @property
    def num_expected(self) -> int:
        """Batches that the loader should have delivered; 0 for a stream."""
        return len(self.batches)

    def last_key(self) -> str:
        """Return the key of the item at which a worker ended without a word; "" where none had begun."""
        for batch in self.evidence.batches.values():
            keys = self.batches[batch.number] if batch.number < len(self.batches) else None
            if batch.worker in self.exit_codes and not batch.digest and keys is not None:
                is_list = isinstance(keys, (list, tuple)) and len(batch.items) < len(keys)
                return repr(keys[len(batch.items)] if is_list else keys)[:60]
        return ""
