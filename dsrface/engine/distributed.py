"""One process a device, started by torchrun; torch's own engine does the rest.

Rank 0 writes the run folder, validates and decides; the others train and follow.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dsrface.errors import MachineError, RunError
from dsrface.runtime.devices import Device, is_out_of_memory, too_few_gpus

T = TypeVar("T")
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of the job.

    Args:
        rank: 0-based, over all machines.
        world_size: Processes of the job; 1 when it was not started by torchrun.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes."""
        return self.world_size > 1

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean of `values` over the ranks."""
        if self.is_distributed:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def max(self, number: int) -> int:
        """Return the largest `number` of all ranks, such as that of a signal that one of them got."""
        if not self.is_distributed:
            return number
        tensor = torch.tensor([number], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())

    def share(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank; it must be plain data."""
        if not self.is_distributed:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_main(self, work: Callable[[], T]) -> T:
        """Return on every rank what `work` gives in rank 0, where alone it is called; it must be plain data.

        Raises:
            RunError: another rank failed.
        """
        result: T | None = None
        with self.fail_together():
            if self.is_main:
                result = work()
        shared: T = self.share(result)
        return shared

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """Let an error of any rank end the block in all, so that none waits for one that has given up.

        Every rank must enter the block.

        Raises:
            RunError: another rank failed.
        """
        try:
            yield
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the others may be gone already
                self.max(1)
            raise
        if self.max(0):
            raise RunError("Another rank failed; its message is above.", id="other-rank-failed")


def ranks_from_environment() -> Ranks:
    """Read what torchrun put into the environment; one process when it did not."""
    return Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextlib.contextmanager
def process_group(device: Device) -> Iterator[Ranks]:
    """Join the job's process group for the length of the block: NCCL between CUDA devices, else gloo.

    Args:
        device: This process's own, the current one already.

    Raises:
        MachineError: another rank died or cannot be reached, or has the same GPU; the job cannot go on.
    """
    ranks = ranks_from_environment()
    if not ranks.is_distributed:
        yield ranks
        return
    backend = "nccl" if device.kind == "cuda" else "gloo"
    is_clean = False
    try:
        dist.init_process_group(backend, timeout=_TIMEOUT)
        yield ranks
        is_clean = True
    except RuntimeError as error:
        if "Duplicate GPU" in str(error):
            raise too_few_gpus() from error
        if _is_lost_peer(error):
            text = str(error).splitlines()[0][:200]
            what = (
                f"waited {_TIMEOUT} for another rank, which hangs or was stopped"
                if "timed out" in text.lower()
                else "lost its connection to another rank, which most likely died"
            )
            raise MachineError(
                f"Rank {ranks.rank} of {ranks.world_size} {what}: {text}",
                id="rank-lost",
                hint="Look for the first error above (killed, out of memory?), then run the same command "
                "again; training goes on with --resume.",
            ) from error
        raise
    finally:
        # After an error NCCL would wait here for ranks that wait for this one, whose error would not be seen.
        if is_clean or backend == "gloo":
            with contextlib.suppress(RuntimeError, ValueError):
                dist.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    text = str(error)
    if "invalid usage" in text or is_out_of_memory(error):
        return False
    signs = (
        "Connection closed by peer",
        "Connection reset",
        "Broken pipe",
        "NCCL",
        "gloo",
        "TCPStore",
        "Timed out",
    )
    return isinstance(error, dist.DistError) or any(sign in text for sign in signs)
