"""What is under examination once it is built: the target, its members, and what it is meant for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsrface.doctor.targets import Target

if TYPE_CHECKING:
    from dsrface.doctor.trace.members import Trace


@dataclass
class Subject:
    """What the checks of the members look at.

    Args:
        target: What was built.
        trace: Its members.
        methods: Start methods the user means to use.
        num_workers: Workers that will be started.
        memory_bytes: Memory that is free.
        threads_before: Threads of this process before it was built.
        device_of: Device name of a tensor.
        finalizers: Members whose class has `__del__`.
        removing: Those of them that remove files.
    """

    target: Target
    trace: Trace
    methods: Sequence[str]
    num_workers: int
    memory_bytes: int
    threads_before: set[int]
    device_of: Callable[[Any], str]
    finalizers: Sequence[str] = ()
    removing: Sequence[str] = ()

    @property
    def pickles(self) -> list[str]:
        """The methods that pickle the data set."""
        return [method for method in self.methods if method != "fork"]
