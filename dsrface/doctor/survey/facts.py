"""What the survey learns of a data set for the stages after it; travels between processes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dsrface.doctor.sizing.limits import ASSUMED_WORKER_BYTES
from dsrface.doctor.sizing.measure import ItemCost


@dataclass(frozen=True)
class Network:
    """The network, or the tensor on a GPU, that the data set holds.

    Args:
        path: E.g. `dataset.dsr_model`.
        device: Where it is; for a network on the CPU, where it would be moved.
        is_on_gpu: Whether it is there now.
    """

    path: str
    device: str
    is_on_gpu: bool


@dataclass(frozen=True)
class SurveyFacts:
    """A data set as seen without workers, and what real workers add to it.

    Args:
        num_items: Its length; None when it has none.
        build_s: Seconds it took to build.
        batch_size: Items per batch: asked for, else what the data set says, else 32.
        blocks: Start method to the paths of the members that keep its workers from starting.
        data_paths: Files and folders among its attributes.
        network: The network it holds, if any.
        cost: Of one item; None when none could be measured.
        parts: Seconds of an item by name, see `sizing.parts`.
        batch_parts: Seconds of an item by what is done with its batch, see `sizing.handover`.
        decoded_pixels: Pixels that are decoded for an item.
        item_elements: Numbers in the largest tensor of an item.
        batch_bytes: Tensor bytes of one collated batch.
        tensors_per_batch: Tensors in one.
        batch_fails: Items do not collate to a batch.
        handles: Open handles that the tracer saw: path, kind, source.
        rngs: Generators that items draw from, by path.
        states: Numbers that items change and depend on.
        counters: Those of them that count items.
        epoch_setters: What the main program calls or sets between epochs.
        changed_in_loops: Where the user's code does so again and again, by path.
        changed_per_batch: Those of them that it changes from batch to batch.
        failing: Keys whose items raised, as text.
        finalizers: Members whose class has `__del__`.
        removing: Those of them that remove files.
        made: Files that one item makes in place for others to read.
        shards: For a stream: the most workers that all get something; None when unknown.
        startup_s: Seconds until the first batch of real workers; 0 before any were started.
        worker_bytes: Memory of a worker's own; assumed before any were started.
    """

    num_items: int | None
    build_s: float
    batch_size: int
    blocks: Mapping[str, list[str]]
    data_paths: list[str]
    network: Network | None = None
    cost: ItemCost | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    batch_parts: Mapping[str, float] = field(default_factory=dict)
    decoded_pixels: float = 0.0
    item_elements: float = 0.0
    batch_bytes: int = 0
    tensors_per_batch: int = 1
    batch_fails: bool = False
    handles: list[dict[str, Any]] = field(default_factory=list)
    rngs: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    epoch_setters: list[str] = field(default_factory=list)
    changed_in_loops: dict[str, str] = field(default_factory=dict)
    changed_per_batch: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    finalizers: list[str] = field(default_factory=list)
    removing: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    shards: int | None = None
    startup_s: float = 0.0
    worker_bytes: int = ASSUMED_WORKER_BYTES

    @property
    def kept_pixels(self) -> float:
        """Share of the decoded pixels that an item keeps, with three colours; 1 when no image was seen."""
        return min(1.0, self.item_elements / 3 / self.decoded_pixels) if self.decoded_pixels else 1.0

    def for_proof(self) -> dict[str, Any]:
        """Return what the proof with workers needs of the survey."""
        names = (
            *("handles", "rngs", "states", "counters", "epoch_setters", "changed_in_loops"),
            *("changed_per_batch", "failing", "finalizers", "made"),
        )
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> SurveyFacts:
        """Rebuild the facts from `to_dict`; other keys are left out."""
        values = {field.name: raw[field.name] for field in fields(cls)}
        network, cost = values["network"], values["cost"]
        values["network"] = None if network is None else Network(**network)
        values["cost"] = None if cost is None else ItemCost(**cost)
        return cls(**values)
