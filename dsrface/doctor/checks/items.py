"""Load items without workers: whether they load, what a batch of them holds, and what one costs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import default_collate

from dsrface.doctor.checks.members import places
from dsrface.doctor.facts import SurveyFacts
from dsrface.doctor.report import Check
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.doctor.sizing.recommend import tensor_sizes
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.pickling import trace
from dsrface.runtime.text import count_text, size_text
from dsrface.runtime.user_code import innermost, place_of

_ITEMS = 32
_ITEMS_S = 3.0
_MEASURED_ITEMS = 40
_NO_CUDA = ("No CUDA GPUs are available", "not compiled with CUDA", "no CUDA-capable device", "NVIDIA driver")
DeviceOf = Callable[[torch.Tensor], str]


def examine(
    target: Target, facts: SurveyFacts, *, report: Reporter, device_of: DeviceOf, measure_s: float
) -> SurveyFacts:
    """Load some items, collate them, and time more; reports ds.items and ds.output.

    Args:
        target: What a loader would be made of.
        facts: What is known of it so far.
        report: Hears of each item before it is loaded, in case the process dies of it.
        device_of: Device name of a tensor.
        measure_s: Seconds to spend on timing.

    Returns:
        The facts with what was learned.
    """
    report("stage", name="load items")
    start = time.perf_counter()
    items: list[Any] = []
    failures: list[dict[str, Any]] = []
    for item in _some_items(target, failures, report):
        items.append(item)
        if time.perf_counter() - start > _ITEMS_S and len(items) >= 2:
            break
    duration_s = time.perf_counter() - start
    report.check(_items_check(target, len(items), failures, duration_s))
    if not items:
        return facts
    facts, check = _examine_batch(target, facts, items[: facts.batch_size], device_of)
    report.check(check)
    report("stage", name="measure items")
    torch.set_num_threads(1)  # as in a worker
    known = len(failures)
    facts = replace(facts, cost=_cost(target, measure_s, failures))
    if len(failures) > known:
        report.check(_items_check(target, len(items), failures, duration_s))
    return facts


def fetch_batch(target: Target, indices: Sequence[int]) -> Any:
    """Load and collate items as a DataLoader does."""
    dataset = target.dataset
    items = dataset.__getitems__(list(indices)) if hasattr(dataset, "__getitems__") else None
    if items is None:
        items = [dataset[index] for index in indices]
    return (target.collate_fn or default_collate)(items)


def needs_cuda(error: str) -> bool:
    """Return whether an error says that there is no CUDA device."""
    return any(needle in error for needle in _NO_CUDA)


def _some_items(target: Target, failures: list[dict[str, Any]], report: Reporter) -> Iterator[Any]:
    if target.is_iterable:
        try:
            for index, item in enumerate(target.dataset):
                if index >= _ITEMS:
                    return
                yield item
        except Exception as error:  # noqa: BLE001 - foreign code
            failures.append(_failure("iteration", error))
        return
    for index in spread_indices(target.num_items() or 0, _ITEMS):
        report("item", index=index)  # should the process die of it, the report names it
        try:
            yield target.dataset[index]
        except Exception as error:  # noqa: BLE001 - foreign code
            failures.append(_failure(index, error))


def _failure(index: Any, error: Exception) -> dict[str, Any]:
    return {"index": index, "error": f"{type(error).__name__}: {error}", "source": place_of(error)}


def _items_check(target: Target, loaded: int, failures: list[dict[str, Any]], duration_s: float) -> Check:
    data = {"loaded": loaded, "failures": failures[:20]}

    def failed(summary: str, *, fix: str, where: str = "", matters: str = "") -> Check:
        return Check("ds.items", "fail", summary, where, matters, fix, data, duration_s)

    if failures:
        first = failures[0]
        if needs_cuda(first["error"]):
            return failed(
                f"item {first['index']} needs CUDA, which the doctor hides and a forked worker cannot use",
                where=f"dataset[{first['index']}] at {first['source']}",
                matters="fork: 'Cannot re-initialize CUDA in forked subprocess'; other start methods "
                "open a CUDA context in every worker.",
                fix="Return CPU tensors and move the batch in the training loop; --allow-cuda examines "
                "it as it is.",
            )
        return failed(
            f"{count_text(len(failures), 'item')} raised; item {first['index']}: {first['error']}",
            where="\n".join(f"dataset[{f['index']}] at {f['source']}" for f in failures[:5]),
            matters="A worker that meets such an item ends the epoch.",
            fix=f"Try dataset[{first['index']}] in a Python prompt; repair or leave out the sample.",
        )
    if not loaded and not target.is_iterable and target.num_items() is None:
        return failed(
            "the data set has no length, which a DataLoader needs for its indices",
            fix="Give it a __len__, or derive it from IterableDataset.",
        )
    if not loaded:
        return failed("the data set is empty", fix="Check the paths it reads.")
    return Check("ds.items", "pass", f"{count_text(loaded, 'item')} loaded", data=data, duration_s=duration_s)


def _examine_batch(
    target: Target, facts: SurveyFacts, items: list[Any], device_of: DeviceOf
) -> tuple[SurveyFacts, Check]:
    try:
        batch = (target.collate_fn or default_collate)(items)
    except Exception as error:  # noqa: BLE001 - foreign code
        check = Check(
            "ds.output",
            "fail",
            f"the items do not collate to a batch: {type(error).__name__}: {error}",
            where=innermost(error),
            matters="Every loader fails on it, with and without workers.",
            fix="Some items are None: return a sample on every path of __getitem__, or give the loader a "
            "collate_fn that leaves None out."
            if any(item is None for item in items)
            else "Return tensors of equal shapes (or numbers), or give the loader a collate_fn.",
        )
        return replace(facts, batch_fails=True), check
    num_bytes, tensors = tensor_sizes(batch)
    facts = replace(
        facts, batch_bytes=int(num_bytes * facts.batch_size / len(items)), tensors_per_batch=tensors
    )
    check = _output_check(batch, facts, device_of)
    return replace(facts, batch_hangs=bool(check.data["unpicklable"])), check


def _output_check(batch: Any, facts: SurveyFacts, device_of: DeviceOf) -> Check:
    found = trace({"batch": batch}, device_of=device_of, deadline_s=2.0)
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
            f"{first.path} ({first.type}) cannot be pickled: a worker that sends such a batch hangs for ever",
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
            fix="Call the network under torch.no_grad() and .detach() what you return; better, leave it out "
            "of the data set (`dsrface precompute`).",
            data=data,
        )
    if found.device:
        return Check(
            "ds.output",
            "fail",
            f"{found.device[0].path} lies on {found.device[0].device}, and batches leave workers on the CPU",
            where=places(found.device),
            fix="Return CPU tensors and move the batch in the training loop.",
            data=data,
        )
    size, tensors = size_text(facts.batch_bytes), count_text(facts.tensors_per_batch, "tensor")
    return Check("ds.output", "pass", f"a batch of {facts.batch_size} is {size} in {tensors}", data=data)


def _cost(target: Target, budget_s: float, failures: list[dict[str, Any]]) -> ItemCost | None:
    try:
        if target.is_iterable:
            return _iterable_cost(target, budget_s)
        keys = at_least(spread_indices(target.num_items() or 0, 4096, seed=1), _MEASURED_ITEMS)
        order = torch.randperm(len(keys), generator=torch.Generator().manual_seed(0)).tolist()
        broken = {failure["index"] for failure in failures}

        def fetch(index: int) -> None:
            try:
                target.dataset[index]
            except Exception as error:  # noqa: BLE001 - foreign code
                if index not in broken:
                    broken.add(index)
                    failures.append(_failure(index, error))

        return measure_items(fetch, [keys[n] for n in order], budget_s=budget_s)
    except Exception:  # noqa: BLE001 - ds.items already told
        traceback.print_exc()
        return None


def _iterable_cost(target: Target, budget_s: float) -> ItemCost | None:
    """The items of an iterator cost their time in `next`, so that is fetched; it begins anew at its end."""
    iterator = iter(target.dataset)

    def fetch(_: int) -> None:
        nonlocal iterator
        try:
            next(iterator)
        except StopIteration:
            iterator = iter(target.dataset)
            next(iterator)

    return measure_items(fetch, range(100_000), budget_s=budget_s)
