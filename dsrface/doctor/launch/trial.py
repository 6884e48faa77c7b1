"""Inside one run of a proof: the settings of a loader changed, its steps timed or its batches compared.

Standard library and torch only, syntax of Python 3.9.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch.utils.data._utils import fetch as torch_fetch

from dsrface.doctor.launch.timing import StepTimes
from dsrface.doctor.launch.watch import AHEAD, MADE_AT, Watch, rank
from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.seeding import Seeder, kept, seed_globals

_SEED = 0
_MOST_SAMPLERS = 6
_MOST_KEYS = 50_000  # no run takes more


class Trial(Watch):
    """A watch that changes the loader made at one line, and takes notes of the loop that trains on it.

    Args:
        settings: Of the launch; `settings["trial"]` holds `made_at`, `arguments` of the loader, whether the
            run `compares`, and the `steps` to take.
    """

    is_patient = False  # the doctor ends a run that takes too long

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.plan = settings["trial"]
        self.times = StepTimes()
        self.notes = Notes() if self.plan["compares"] else None
        self.iterations = 0
        seed_globals(_SEED)
        if self.notes is not None:
            torch_fetch._MapDatasetFetcher.fetch = _fetch  # type: ignore[method-assign]  # noqa: SLF001

    def is_due(self, times: StepTimes, started: float) -> bool:
        """Return whether all steps were taken; nothing ends a run early."""
        del started
        return times.num_steps >= int(self.plan["steps"]) + (AHEAD if rank() > 0 else 0)

    def loop_begins(self, loader: Any) -> None:
        """Nothing is examined in a trial."""

    def loop_ended(self, loader: Any, times: StepTimes) -> None:
        """Go on: the steps of all epochs count."""

    def loop_failed(self, loader: Any, times: StepTimes) -> None:
        """Let it raise: the run ends."""

    def times_of(self, loader: Any) -> StepTimes:
        """Return the one record of all epochs."""
        del loader
        self.times.forget_unfinished()
        return self.times

    def concerns(self, loader: Any) -> bool:
        """Change the settings of a loader that was made at the line; return whether its loop trains."""
        is_part = bool(self.busy)  # of a loader that wraps it, and is timed itself
        if not super().concerns(loader) or loader.__dict__.get(MADE_AT) != self.plan["made_at"]:
            return False
        configure(loader, self.plan["arguments"])
        if self.notes is not None:
            for sampler in _samplers(loader):
                _fix_order(type(sampler))
        if is_part or not torch.is_grad_enabled():
            return False
        if self.notes is not None:
            self.iterations += 1
            seed_globals(_SEED + self.iterations)  # kept workers draw no seed for a new epoch
            self.notes.listen()
        return True

    def take(self, batch: Any) -> None:
        """Note a batch."""
        if self.notes is not None:
            self.notes.batch(batch)

    def more_facts(self) -> dict[str, Any]:
        """Return what this run has seen."""
        times = self.times
        found: dict[str, Any] = {"step_s": [wait + step for wait, step in zip(times.waits, times.steps)]}
        if self.notes is not None:
            found.update(digests=self.notes.digests, losses=self.notes.loss_values())
        return {"trial": found}


class Notes:
    """The batches that a loop gets, as digests, and its losses: what `backward` is called on."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self._losses: dict[int, torch.Tensor] = {}
        self._is_listening = False

    def batch(self, batch: Any) -> None:
        """Note a batch before the loop gets it."""
        self.digests.append(fingerprint(batch))

    def listen(self) -> None:
        """Keep the last scalar of each step whose `backward` is called."""
        if self._is_listening:
            return
        self._is_listening = True
        backward: Any = torch.Tensor.backward
        losses, digests = self._losses, self.digests

        def listening(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if tensor.numel() == 1 and digests:
                losses[len(digests) - 1] = tensor.detach().clone()
            return backward(tensor, *args, **kwargs)

        torch.Tensor.backward = listening  # type: ignore[assignment,method-assign]

    def loss_values(self) -> dict[str, float]:
        """Return the losses by step."""
        return {str(step): float(loss) for step, loss in self._losses.items()}


def configure(loader: Any, arguments: dict[str, Any]) -> None:
    """Give a loader that was made other values of its arguments; DataLoader itself forbids some of them."""
    if not arguments:
        return
    loader.multiprocessing_context = None  # may only be set where there are workers
    context = arguments.get("multiprocessing_context")
    loader.__dict__.update({name: arguments[name] for name in arguments if name != "multiprocessing_context"})
    if context is not None and loader.num_workers:
        loader.multiprocessing_context = context


def _samplers(loader: Any) -> Iterator[Any]:
    """Yield the samplers of a loader, those inside of others too."""
    found = [loader]
    for part in found:  # grows while it is walked
        for name in ("sampler", "batch_sampler"):
            inner = getattr(part, name, None)
            if inner is not None and len(found) < _MOST_SAMPLERS:
                found.append(inner)
                yield inner


def _fix_order(kind: type) -> None:
    """Let the n-th order of a sampler follow from n alone: workers change when the seed for it is drawn."""
    from torch.utils.data import BatchSampler

    original: Any = getattr(kind, "__iter__", None)
    is_plain = kind is BatchSampler or not isinstance(original, FunctionType)  # draws nothing
    if is_plain or hasattr(original, "fixed_by_dsrface"):
        return

    @functools.wraps(original)
    def in_fixed_order(sampler: Any) -> Iterator[Any]:
        number = sampler.__dict__["dsrface_orders"] = sampler.__dict__.get("dsrface_orders", 0) + 1
        own = [getattr(sampler, "generator", None)]
        generators = [generator for generator in own if isinstance(generator, torch.Generator)]
        with kept(generators):
            seed_globals(_SEED + number)
            for generator in generators:
                generator.manual_seed(_SEED + number)
            keys = iter(original(sampler))
            first = list(itertools.islice(keys, _MOST_KEYS))
        yield from first
        yield from keys

    in_fixed_order.fixed_by_dsrface = True  # type: ignore[attr-defined]
    kind.__iter__ = in_fixed_order  # type: ignore[attr-defined]


def _fetch(fetcher: Any, keys: Any) -> Any:
    """Load a batch as torch does, each item under generators that follow from its key alone.

    Afterwards they are what they were: with and without workers, the training draws the same numbers.
    """
    dataset = fetcher.dataset
    if "dsrface_seeder" not in fetcher.__dict__:
        fetcher.dsrface_seeder = Seeder([dataset, fetcher.collate_fn])
    seed: Seeder = fetcher.dsrface_seeder
    seed.look()
    with kept(seed.generators):
        torch.set_num_threads(1)  # as in a worker: sums of several threads differ in the last bits
        if not fetcher.auto_collation:
            seed(keys)
            return fetcher.collate_fn(dataset[keys])
        if getattr(dataset, "__getitems__", None):
            seed(keys)
            data = dataset.__getitems__(keys)
        else:
            data = []
            for key in keys:
                seed(key)
                data.append(dataset[key])
        seed(("collate", repr(keys)))
        return fetcher.collate_fn(data)
