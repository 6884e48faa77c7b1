"""Load items without workers: whether they load, what a batch holds, what they leave, what one costs."""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_convert

from dsrface.doctor.checks.members import places
from dsrface.doctor.checks.state import (
    Passes,
    files_left_check,
    judge_state,
    memory_left_check,
    state_check,
)
from dsrface.doctor.facts import SurveyFacts
from dsrface.doctor.observe import WrittenFiles, read_state
from dsrface.doctor.proof.fingerprint import fingerprint
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.report import Check
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.limits import open_files_limit
from dsrface.doctor.sizing.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.doctor.sizing.memory import tensor_sizes
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.pickling import trace
from dsrface.runtime.text import count_text, size_text
from dsrface.runtime.user_code import innermost, place_of

_ITEMS = 32
_SAME_AGAIN_S = 2.0  # further passes over the same items are made when one takes no longer
_MEASURED_ITEMS = 40
_MOST_KEYS = 4096
_NO_CUDA = ("No CUDA GPUs are available", "not compiled with CUDA", "no CUDA-capable device", "NVIDIA driver")
DeviceOf = Callable[[torch.Tensor], str]


def examine(
    target: Target,
    facts: SurveyFacts,
    *,
    report: Reporter,
    device_of: DeviceOf,
    request: Mapping[str, Any],
) -> SurveyFacts:
    """Load some items, collate them, load them again, and time more.

    Reports ds.items, ds.output, ds.state, and env.fds and env.ram when items leave something behind.

    Args:
        target: What a loader would be made of.
        facts: What is known of it so far.
        report: Hears of each item before it is loaded, in case the process dies of it.
        device_of: Device name of a tensor.
        request: `load_s` and `measure_s` are seconds to spend, `memory_bytes` and `num_workers` to judge by.

    Returns:
        The facts with what was learned.
    """
    return _Items(target, facts, report, device_of, request).examine()


def needs_cuda(error: str) -> bool:
    """Return whether an error says that there is no CUDA device."""
    return any(needle in error for needle in _NO_CUDA)


class _Items:
    def __init__(
        self,
        target: Target,
        facts: SurveyFacts,
        report: Reporter,
        device_of: DeviceOf,
        request: Mapping[str, Any],
    ) -> None:
        self.target = target
        self.facts = facts
        self.report = report
        self.device_of = device_of
        self.request = request
        self.roots = {"dataset": target.dataset, "collate_fn": target.collate_fn}
        self.failures: list[dict[str, Any]] = []
        self.walls: list[float] = []
        self.good_keys: list[Any] = []
        self.shared = ""

    def examine(self) -> SurveyFacts:
        report, facts = self.report, self.facts
        files = WrittenFiles()
        report("stage", name="load items")
        before = read_state(self.roots)
        begin = time.perf_counter()
        files.is_listening = True
        items = list(self._first_pass(begin))
        files.is_listening = False
        duration_s = time.perf_counter() - begin
        report.check(self._items_check(len(items), duration_s))
        if not items:
            return facts
        passes = Passes(before, read_state(self.roots), num_items=len(items), shared=self.shared)
        passes.written = files.counts
        facts, check = self._examine_batch(
            facts, items[: self.facts.batch_size if self.target.is_batched else 1]
        )
        report.check(check)
        del items
        report("stage", name="load items again")
        self._more_passes(passes, duration_s)
        facts = self._judge(passes, facts)
        report("stage", name="measure items")
        torch.set_num_threads(1)  # as in a worker
        known = len(self.failures)
        facts = replace(facts, cost=self._cost(duration_s))
        if len(self.failures) > known:
            report.check(self._items_check(passes.num_items, duration_s))
        return facts

    def _first_pass(self, begin: float) -> Iterator[Any]:
        """Load up to 32 items, at least two, within the time; the first one is watched for changes."""
        first: Any = None
        digest = ""
        for number, item in enumerate(self._some_items()):
            if number == 0:
                first, digest = item, fingerprint(item)
            elif number in (1, 2) and not self.shared and fingerprint(first) != digest:
                self.shared = f"item {number} changed the item that was loaded first"
            yield item
            if time.perf_counter() - begin > self.request["load_s"] and number >= 1:
                return

    def _some_items(self) -> Iterator[Any]:
        if self.target.is_iterable:
            yield from self._stream_items()
            return
        if self.target.has_own_batches:  # whole batches: their items belong together
            keys = self.target.first_keys(max(_ITEMS, self.facts.batch_size))
        elif self.target.sampler is not None:
            keys = self.target.first_keys(_MOST_KEYS)
            keys = [keys[at] for at in spread_indices(len(keys), _ITEMS)]
        else:
            keys = spread_indices(self.target.num_items() or 0, _ITEMS)
        for key in keys:
            self.report("item", index=repr(key)[:200])  # should the process die of it, the report names it
            begin = time.perf_counter()
            try:
                item = self.target.dataset[key]
            except (Exception, StopIteration) as error:  # noqa: BLE001 - foreign code
                self.failures.append(_failure(key, error))
                continue
            self.walls.append(time.perf_counter() - begin)
            self.good_keys.append(key)
            yield item

    def _stream_items(self) -> Iterator[Any]:
        try:
            iterator = iter(self.target.dataset)
            for _ in range(_ITEMS):
                begin = time.perf_counter()
                item = next(iterator, _END)
                if item is _END:
                    return
                self.walls.append(time.perf_counter() - begin)
                yield item
        except Exception as error:  # noqa: BLE001 - foreign code
            self.failures.append(_failure("iteration", error))

    def _more_passes(self, passes: Passes, duration_s: float) -> None:
        if self.target.is_iterable or duration_s > _SAME_AGAIN_S or len(self.good_keys) < 2:
            return
        self._again()
        passes.twice = read_state(self.roots)
        if (
            passes.leaked("descriptors")
            or passes.leaked("memory_bytes") > 1 << 14
            or passes.leaked("num_threads")
        ):
            self._again()
            passes.thrice = read_state(self.roots)
        reference = Reference(self.target) if not getattr(self.target.dataset, "__getitems__", None) else None
        if reference is not None and self.target.is_batched:
            key = self.good_keys[0]
            judge_state(passes, load_digest=lambda: fingerprint(reference.item(key)))

    def _again(self) -> None:
        for key in self.good_keys:
            try:
                self.target.dataset[key]
            except Exception:  # noqa: BLE001, S112 - told by ds.items when it happens at first
                continue

    def _judge(self, passes: Passes, facts: SurveyFacts) -> SurveyFacts:
        report, request = self.report, self.request
        num_keys = self.target.num_keys()
        workers, memory = request["num_workers"], request["memory_bytes"]
        if not passes.shared:
            report.check(state_check(passes, num_items=num_keys, num_workers=workers, memory_bytes=memory))
        for check in (
            files_left_check(passes, limit=open_files_limit(), num_items=num_keys),
            memory_left_check(passes, memory_bytes=memory, num_items=num_keys, num_workers=workers),
        ):
            if check is not None:
                report.check(check)
        return replace(facts, rngs=passes.drawn, states=passes.states, counters=passes.counters)

    def _items_check(self, loaded: int, duration_s: float) -> Check:
        target, failures = self.target, self.failures
        data = {"loaded": loaded, "failures": failures[:20]}

        def failed(summary: str, *, fix: str, where: str = "", matters: str = "") -> Check:
            return Check("ds.items", "fail", summary, where, matters, fix, data, duration_s)

        if failures:
            first = failures[0]
            if needs_cuda(first["error"]):
                return failed(
                    f"item {first['index']} needs CUDA, which the doctor hides and a forked worker cannot "
                    "use",
                    where=f"dataset[{first['index']}] at {first['source']}",
                    matters="fork: 'Cannot re-initialize CUDA in forked subprocess'; other start methods "
                    "open a CUDA context in every worker.",
                    fix="Return CPU tensors and move the batch in the training loop; --allow-cuda examines "
                    "it as it is.",
                )
            return failed(
                f"{count_text(len(failures), 'item')} raised; item {first['index']}: {first['error']}",
                where="\n".join(f"dataset[{f['index']}] at {f['source']}" for f in failures[:5]),
                matters=_what_a_worker_does(first),
                fix=_what_to_do(first),
            )
        if not loaded and not target.is_iterable and target.num_items() is None and target.sampler is None:
            return failed(
                "the data set has no length, which a DataLoader needs for its indices",
                fix="Give it a __len__, or derive it from IterableDataset.",
            )
        if not loaded:
            return failed("the data set is empty", fix="Check the paths it reads.")
        return Check(
            "ds.items", "pass", f"{count_text(loaded, 'item')} loaded", data=data, duration_s=duration_s
        )

    def _examine_batch(self, facts: SurveyFacts, items: list[Any]) -> tuple[SurveyFacts, Check]:
        if self.shared:
            return facts, Check(
                "ds.output",
                "fail",
                f"items share memory: loading {self.shared}",
                where="dataset[...]: the returned tensor or array",
                matters="Every item of a batch is then the last one that was loaded, with and without "
                "workers.",
                fix="Return a copy: torch.from_numpy(buffer.copy()), tensor.clone(); or make the buffer in "
                "each call.",
                data={"unpicklable": [], "blocks": ["fork", "spawn", "forkserver"]},
            )
        try:
            if self.target.is_batched:
                batch = (self.target.collate_fn or default_collate)(items)
            else:
                batch = (self.target.collate_fn or default_convert)(items[0])
        except Exception as error:  # noqa: BLE001 - foreign code
            return replace(facts, batch_fails=True), _not_collated(error, items)
        size, tensors = tensor_sizes(batch)
        scale = facts.batch_size / len(items) if self.target.is_batched else 1
        facts = replace(facts, batch_bytes=int(size * scale), tensors_per_batch=tensors)
        check = self._output_check(batch, facts)
        return replace(facts, batch_hangs=bool(check.data["unpicklable"])), check

    def _output_check(self, batch: Any, facts: SurveyFacts) -> Check:
        found = trace({"batch": batch}, device_of=self.device_of, deadline_s=2.0)
        data = {
            "batch_bytes": facts.batch_bytes,
            "tensors": facts.tensors_per_batch,
            "unpicklable": [member.to_dict() for member in found.unpicklable],
        }
        if found.unpicklable:
            first = found.unpicklable[0]
            return Check(
                "ds.output",
                "fail",
                f"{first.path} ({first.type}) cannot be pickled: a worker that sends such a batch hangs for "
                "ever",
                where=places(found.unpicklable),
                matters="The worker's queue thread prints a traceback, and the training process waits.",
                fix="Return tensors, numbers, texts and plain containers only.",
                data=data,
            )
        if found.grads:
            return Check(
                "ds.output",
                "fail",
                f"{found.grads[0].path} requires a gradient, which cannot leave a worker",
                where=places(found.grads),
                matters="With num_workers=0 it goes unnoticed and keeps the whole graph alive; "
                "in a worker collating raises.",
                fix="Call the network under torch.no_grad() and .detach() what you return; better, leave "
                "it out "
                "of the data set and run it on the batch.",
                data=data,
            )
        if found.device:
            return Check(
                "ds.output",
                "fail",
                f"{found.device[0].path} is on {found.device[0].device}, and batches leave workers on the "
                "CPU",
                where=places(found.device),
                fix="Return CPU tensors and move the batch in the training loop.",
                data=data,
            )
        size, tensors = size_text(facts.batch_bytes), count_text(facts.tensors_per_batch, "tensor")
        return Check("ds.output", "pass", f"a batch of {facts.batch_size} is {size} in {tensors}", data=data)

    def _cost(self, first_pass_s: float) -> ItemCost | None:
        budget_s = float(self.request["measure_s"])
        try:
            if self.target.is_iterable:
                return _stream_cost(self.target, budget_s)
            return self._map_cost(budget_s, is_slow=first_pass_s > self.request["load_s"])
        except Exception:  # noqa: BLE001 - ds.items already told
            traceback.print_exc()
            return None

    def _map_cost(self, budget_s: float, *, is_slow: bool) -> ItemCost | None:
        keys = self.target.first_keys(_MOST_KEYS)
        if self.target.sampler is None and not self.target.has_own_batches:
            keys = spread_indices(self.target.num_items() or 0, _MOST_KEYS, seed=1)
        keys = at_least(keys, _MEASURED_ITEMS)
        order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0)).tolist()
        broken = {repr(failure["key"]) for failure in self.failures}

        def fetch(key: Any) -> None:
            try:
                self.target.dataset[key]
            except Exception as error:  # noqa: BLE001 - foreign code
                if repr(key) not in broken:
                    broken.add(repr(key))
                    self.failures.append(_failure(key, error))

        return measure_items(
            fetch,
            [keys[n] for n in order],
            budget_s=budget_s,
            min_items=1 if is_slow else 16,
            warm_up=0 if is_slow else 8,
        )


_END = object()


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


def _what_a_worker_does(failure: Mapping[str, Any]) -> str:
    if failure["type"] == "StopIteration":
        return "A StopIteration ends the epoch at that item, without any error: the rest is never seen."
    if not failure["travels"]:
        return (
            f"A worker that meets such an item ends the epoch; {failure['type']} cannot be pickled, so with "
            "workers "
            "the loader waits for ever instead of raising it."
        )
    return "A worker that meets such an item ends the epoch."


def _what_to_do(failure: Mapping[str, Any]) -> str:
    if failure["type"] == "StopIteration":
        return "Raise IndexError or ValueError instead, and guard next(iterator) with a default."
    fix = f"Try dataset[{failure['index']}] in a Python prompt; repair or leave out the sample."
    if not failure["travels"]:
        fix += f" Define {failure['type']} at module level with a constructor that takes its args."
    return fix


def _not_collated(error: Exception, items: list[Any]) -> Check:
    if any(item is None for item in items):
        fix = (
            "Some items are None: return a sample on every path of __getitem__, or give the loader a "
            "collate_fn "
            "that leaves None out."
        )
    elif any(type(item).__module__.startswith("torch_geometric") for item in items):
        fix = "Graphs need their own loader: torch_geometric.loader.DataLoader; name that as the target."
    else:
        fix = "Return tensors of equal shapes (or numbers), or give the loader a collate_fn."
    return Check(
        "ds.output",
        "fail",
        f"the items do not collate to a batch: {type(error).__name__}: {error}",
        where=innermost(error),
        matters="Every loader fails on it, with and without workers.",
        fix=fix,
        data={"unpicklable": []},
    )


def _stream_cost(target: Target, budget_s: float) -> ItemCost | None:
    """The items of an iterator cost their time in `next`, so that is fetched; it begins again at its end."""
    iterator = iter(target.dataset)

    def fetch(_: int) -> None:
        nonlocal iterator
        try:
            next(iterator)
        except StopIteration:
            iterator = iter(target.dataset)
            next(iterator)

    return measure_items(fetch, range(100_000), budget_s=budget_s)
