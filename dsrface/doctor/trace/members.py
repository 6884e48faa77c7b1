"""What one pass over a data set found: its members that matter to workers, each with its path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Member:
    """One thing found on the way.

    Args:
        path: E.g. `dataset.transform.transforms[1].lambd`.
        type: Qualified type name.
        source: `file:line` of the function, or of the assignment of the attribute; may be empty.
        error: What the pickler said; empty when it is no fault.
        kind: A word that selects the advice, e.g. `lambda`, `lock`, `h5py`.
        bytes: Size of its data, where known.
        device: Device of a tensor, or those of a network's tensors: `cpu, cuda:0`.
        is_hidden: Dropped by the owner's `__getstate__`: only a forked worker has it.
    """

    path: str
    type: str
    source: str = ""
    error: str = ""
    kind: str = ""
    bytes: int = 0
    device: str = ""
    is_hidden: bool = False

    @property
    def is_on_gpu(self) -> bool:
        """Whether any of it is on a GPU; meta tensors are nowhere."""
        return any(device not in ("", "cpu", "meta") for device in self.device.split(", "))

    def to_dict(self) -> dict[str, Any]:
        """Return the member as JSON-able values, empty ones left out."""
        return {key: value for key, value in vars(self).items() if value not in ("", 0, False)} | {
            "path": self.path
        }


@dataclass
class Trace:
    """Everything one pass over a data set noted."""

    unpicklable: list[Member] = field(default_factory=list)
    non_leaf: list[Member] = field(default_factory=list)
    temporary: list[Member] = field(default_factory=list)
    device: list[Member] = field(default_factory=list)
    grads: list[Member] = field(default_factory=list)
    modules: list[Member] = field(default_factory=list)
    handles: list[Member] = field(default_factory=list)
    keyed: list[Member] = field(default_factory=list)  # connections that each process makes for itself
    rngs: list[Member] = field(default_factory=list)
    memmaps: list[Member] = field(default_factory=list)
    in_main: list[Member] = field(default_factory=list)
    contributors: list[Member] = field(default_factory=list)
    pickle_bytes: int = 0
    num_objects: int = 0
    mentions_device: bool = False  # the code that holds them may move networks to a GPU
    is_sampled: bool = False
    is_truncated: bool = False
    duration_s: float = 0.0

    @property
    def networks(self) -> list[Member]:
        """Modules with weights."""
        return [member for member in self.modules if member.kind == "network" and member.bytes]

    def blocks(self, method: str) -> list[Member]:
        """Return the members that keep a worker of this start method from starting.

        Args:
            method: `fork`, `spawn` or `forkserver`; fork never pickles the data set.
        """
        return [] if method == "fork" else [*self.unpicklable, *self.non_leaf, *self.temporary]
