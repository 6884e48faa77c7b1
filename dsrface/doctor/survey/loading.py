"""The stage that loads items in this process: once, again, and more of them to measure what one costs."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_convert

from dsrface.doctor.checks.performance import RECOMMEND
from dsrface.doctor.checks.registry import run_stage
from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.handover import batch_costs, elements_of
from dsrface.doctor.sizing.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.doctor.sizing.memory import tensor_sizes
from dsrface.doctor.sizing.parts import Parts, parts_of
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.doctor.survey.files import ItemFiles
from dsrface.doctor.survey.observe import read_state
from dsrface.doctor.survey.passes import Passes, judge_state
from dsrface.doctor.survey.subject import Subject
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.members import Trace
from dsrface.doctor.trace.pickling import trace
from dsrface.runtime.user_code import place_of, raised_by_us

_ITEMS = 32
_SAME_AGAIN_S = 2.0  # further passes over the same items are made when one takes no longer
_MEASURED_ITEMS = 40
_PARTS_SHARE = 0.3  # of the seconds for measuring, once more
_MOST_KEYS = 4096
_JUDGED = 4
_END = object()


@dataclass
class Loading:
    """What the checks of the items look at.

    Args:
        target: What a loader would be made of.
        num_workers: Workers to judge by.
        memory_bytes: Memory that is free.
        batch_size: Items of a batch.
        loaded: Items that loaded in the first pass.
        duration_s: Seconds that pass took.
        failures: Items that raised: key, error, source, and whether the exception could leave a worker.
        passes: What loading changed; None when nothing loaded.
        shared: What says that an item changed when another was loaded; empty when none did.
        batch: The collated batch; None when it could not be made.
        batch_error: What collating raised.
        items: The items that were collated, until they were looked at.
        batch_trace: What the tracer found in the batch.
    """

    target: Target
    num_workers: int
    memory_bytes: int
    batch_size: int
    loaded: int = 0
    duration_s: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    passes: Passes | None = None
    shared: str = ""
    batch: Any = None
    batch_error: Exception | None = None
    items: list[Any] = field(default_factory=list)
    batch_trace: Trace | None = None

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """Bytes of a full batch, and the number of its tensors."""
        size, tensors = tensor_sizes(self.batch)
        scale = self.batch_size / max(1, len(self.items)) if self.target.is_batched else 1
        return int(size * scale), max(1, tensors)

    @property
    def batch_s(self) -> float:
        """Seconds that the items of a batch take, as far as those loaded show it."""
        number = self.batch_size if self.target.is_batched else 1
        return number * self.duration_s / max(1, self.loaded)


def load(subject: Subject, facts: SurveyFacts, report: Reporter, request: Mapping[str, Any]) -> SurveyFacts:
    """Load some items, collate them, load them again, and time more.

    Args:
        subject: What is examined.
        facts: What is known of it so far.
        report: Takes the findings; hears of each item before it is loaded, in case the process dies of it.
        request: `load_s` and `measure_s` are seconds to spend.

    Returns:
        The facts with what was learned.
    """
    return _Stage(subject, facts, report, request).run()


class _Stage:
    def __init__(
        self, subject: Subject, facts: SurveyFacts, report: Reporter, request: Mapping[str, Any]
    ) -> None:
        self.target = subject.target
        self.facts = facts
        self.report = report
        self.request = request
        self.device_of = subject.device_of
        self.roots = self.target.roots
        self.seen = Loading(self.target, subject.num_workers, subject.memory_bytes, facts.batch_size)
        self.good_keys: list[Any] = []
        self.files = ItemFiles()

    def run(self) -> SurveyFacts:
        seen, report, files = self.seen, self.report, self.files
        report("stage", name="load items")
        before = read_state(self.roots)
        begin = time.perf_counter()
        with files.listen():
            items = list(self._first_pass(begin))
        seen.loaded, seen.duration_s = len(items), time.perf_counter() - begin
        if items:
            left = {path: os.path.getsize(path) for path in files.counts if os.path.isfile(path)}
            after = read_state(self.roots)
            written = {} if files.is_locked else dict(files.counts)
            seen.passes = Passes(before, after, num_items=len(items), written=written, left=left)
            seen.passes.made = files.made_for_all()
            self._collate(items)
            report("stage", name="load items again")
            with files.listen():
                self._more_passes(seen.passes)
            seen.passes.leaves_more = any(os.path.isfile(path) for path in files.counts.keys() - left.keys())
        for finding in run_stage("items", seen):
            report.check(finding)
        if not items or seen.passes is None:
            return self.facts
        seen.items = []
        report("stage", name="measure items")
        torch.set_num_threads(1)  # as in a worker
        known = len(seen.failures)
        cost, parts = self._cost()
        if len(seen.failures) > known:
            for finding in run_stage("items", seen, wanted={"ds.items"}):
                report.check(finding)
        passes = seen.passes
        return replace(
            self.facts,
            cost=cost,
            parts=parts.seconds,
            decoded_pixels=parts.decoded_pixels,
            rngs=passes.drawn,
            states=passes.states or passes.before.iterators,
            counters=passes.counters,
            made=list(passes.made),
            failing=[failure["key"] for failure in seen.failures],
        )

    def _first_pass(self, begin: float) -> Iterator[Any]:
        """Load up to 32 items, at least two, within the time; the first one is watched for changes."""
        first: Any = None
        digest = ""
        for number, item in enumerate(self._some_items()):
            if number == 0:
                first, digest = item, fingerprint(item)
            elif number in (1, 2) and not self.seen.shared and fingerprint(first) != digest:
                self.seen.shared = f"item {number} changed the item that was loaded first"
            self.files.item += 1
            yield item
            if time.perf_counter() - begin > self.request["load_s"] and number >= 1:
                return

    def _some_items(self) -> Iterator[Any]:
        if self.target.is_iterable:
            yield from self._stream_items()
            return
        for key in self._some_keys():
            self.report("item", index=repr(key)[:200])  # should the process die of it, the report names it
            try:
                item = self.target.load(key)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code
                self.seen.failures.append(_failure(key, error))
                continue
            self.good_keys.append(key)
            yield item

    def _some_keys(self) -> list[Any]:
        if self.target.has_own_batches:  # whole batches: their items belong together
            return self.target.first_keys(max(_ITEMS, self.facts.batch_size))
        if self.target.sampler is not None:
            keys = self.target.first_keys(_MOST_KEYS)
            return [keys[at] for at in spread_indices(len(keys), _ITEMS)]
        return spread_indices(self.target.num_items() or 0, _ITEMS)

    def _stream_items(self) -> Iterator[Any]:
        try:
            iterator = iter(self.target.dataset)
            for _ in range(_ITEMS):
                item = next(iterator, _END)
                if item is _END:
                    return
                yield item
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code
            self.seen.failures.append(_failure("iteration", error))

    def _collate(self, items: list[Any]) -> None:
        seen = self.seen
        seen.items = items[: self.facts.batch_size] if self.target.is_batched else items[:1]
        try:
            if self.target.is_batched:
                seen.batch = (self.target.collate_fn or default_collate)(seen.items)
            else:
                seen.batch = (self.target.collate_fn or default_convert)(seen.items[0])
        except Exception as error:  # noqa: BLE001 - foreign code
            seen.batch_error = error
            self.facts = replace(self.facts, batch_fails=True)
            return
        seen.batch_trace = trace({"batch": seen.batch}, device_of=self.device_of, deadline_s=2.0)
        size, tensors = seen.batch_sizes
        self.facts = replace(self.facts, batch_bytes=size, tensors_per_batch=tensors)
        if self.target.is_batched:
            with contextlib.suppress(Exception):  # foreign code; ds.output tells of it
                costs = batch_costs(self.target.collate_fn or default_collate, seen.items, seen.batch)
                each = {name: seconds / len(seen.items) for name, seconds in costs.items()}
                elements = elements_of(seen.batch, len(seen.items))
                self.facts = replace(self.facts, batch_parts=each, item_elements=elements)

    def _more_passes(self, passes: Passes) -> None:
        if self.target.is_iterable or self.seen.duration_s > _SAME_AGAIN_S or len(self.good_keys) < 2:
            return
        self._again()
        passes.twice = read_state(self.roots)
        if any(passes.leaked(what) for what in ("descriptors", "memory_bytes", "num_threads", "num_blocks")):
            self._again()
            passes.thrice = read_state(self.roots)
        if self.target.is_batched and not getattr(self.target.dataset, "__getitems__", None):
            reference, keys = (
                Reference(self.target),
                self.good_keys[:: max(1, len(self.good_keys) // _JUDGED)],
            )
            judge_state(passes, keys, lambda: [fingerprint(reference.item(key)) for key in keys])

    def _again(self) -> None:
        for key in self.good_keys:
            self.report("item", index=repr(key)[:200])  # a sign of life: items that wait use no processor
            try:
                self.target.load(key)
            except (Exception, SystemExit):  # noqa: BLE001, S112 - reported by ds.items when it happens at first
                continue

    def _cost(self) -> tuple[ItemCost | None, Parts]:
        """Return what an item costs, and its time by name."""
        budget_s = float(self.request["measure_s"])
        is_slow = self.seen.duration_s > self.request["load_s"] and not self.target.is_iterable
        try:
            fetch, keys = _stream(self.target) if self.target.is_iterable else self._in_random_order()
            min_items, warm_up = (1, 0) if is_slow else (16, 8)
            cost = measure_items(fetch, keys, budget_s=budget_s, min_items=min_items, warm_up=warm_up)
        except Exception as error:  # noqa: BLE001 - ds.items has reported it, unless this program raised
            traceback.print_exc()
            if raised_by_us(error):
                self.report.check(RECOMMEND.broken(error))
            return None, Parts()
        try:
            return cost, parts_of(fetch, keys, self.target.dataset, budget_s=_PARTS_SHARE * budget_s)
        except Exception:  # noqa: BLE001 - foreign code that looks at who calls it
            traceback.print_exc()
            return cost, Parts()

    def _in_random_order(self) -> tuple[Callable[[Any], None], list[Any]]:
        """Return what loads an item, noting those that raise, and keys."""
        keys = self.target.first_keys(_MOST_KEYS)
        if self.target.sampler is None and not self.target.has_own_batches:
            keys = spread_indices(self.target.num_items() or 0, _MOST_KEYS, seed=1)
        keys = at_least(keys, _MEASURED_ITEMS)
        order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0)).tolist()
        broken = {failure["key"] for failure in self.seen.failures}

        def fetch(key: Any) -> None:
            try:
                self.target.load(key)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code
                if repr(key)[:200] not in broken:
                    broken.add(repr(key)[:200])
                    self.seen.failures.append(_failure(key, error))

        return fetch, [keys[n] for n in order]


def _failure(key: Any, error: BaseException) -> dict[str, Any]:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the line itself
        travels = True
    except Exception:  # noqa: BLE001 - the answer is no
        travels = False
    return {
        "index": repr(key)[:80],
        "key": repr(key)[:200],
        "error": f"{type(error).__name__}: {error}",
        "type": type(error).__name__,
        "source": place_of(error),
        "travels": travels,
    }


def _stream(target: Target) -> tuple[Callable[[Any], None], Iterable[Any]]:
    """The items of an iterator cost their time in `next`, so that is fetched; it begins again at its end."""
    iterator = iter(target.dataset)
    is_spent = False

    def fetch(_: int) -> None:
        nonlocal iterator, is_spent
        try:
            next(iterator)
        except StopIteration:
            iterator = iter(target.dataset)
            is_spent = next(iterator, _END) is _END  # it does not begin again

    return fetch, takewhile(lambda _: not is_spent, range(100_000))
