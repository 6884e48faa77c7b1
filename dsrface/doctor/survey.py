"""Build the data set and look at it without workers: members, items, one batch, and what an item costs."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from dsrface.doctor import members, targets
from dsrface.doctor.measure import ItemCost, at_least, measure_items, spread_indices
from dsrface.doctor.pickling import Member, Trace, trace
from dsrface.doctor.recommend import tensor_sizes
from dsrface.doctor.report import Check, guarded
from dsrface.doctor.targets import Target
from dsrface.doctor.torch_checks import num_threads, threads_since, torchvision_check
from dsrface.runtime.user_code import innermost, place_of

_ITEMS = 32
_ITEMS_S = 3.0
_MEASURED_ITEMS = 40
_NO_CUDA = ("No CUDA GPUs are available", "not compiled with CUDA", "no CUDA-capable device", "NVIDIA driver")
Emit = Callable[..., None]


def device_of(tensor: torch.Tensor) -> str:
    """Return a tensor's device; DSRFACE_DOCTOR_META_AS_CUDA=1 lets `meta` stand in for CUDA in tests."""
    if tensor.device.type == "meta" and os.environ.get("DSRFACE_DOCTOR_META_AS_CUDA") == "1":
        return "cuda:0"
    return str(tensor.device)


def survey(request: Mapping[str, Any], emit: Emit) -> None:
    """Examine the target of a request; emits checks and one `facts` event."""
    threads_before = num_threads()
    emit("stage", name="build the data set")
    start = time.perf_counter()
    try:
        target = targets.build(request["target"])
    except Exception as error:  # noqa: BLE001 - foreign code
        emit("check", **_build_failed(error, request).to_dict())
        if "torchvision" in str(error):
            emit("check", **torchvision_check(is_imported=True).to_dict())
        return
    build_s = time.perf_counter() - start
    size = target.num_items()
    text = f"{type(target.dataset).__name__}, " + (f"{size} items" if size is not None else "no length")
    emit(
        "check",
        **Check("ds.build", "pass", f"{text}, built in {build_s:.1f} s", duration_s=build_s).to_dict(),
    )
    methods: list[str] = request["methods"]
    emit("stage", name="trace its members")
    found = trace(
        {"dataset": target.dataset, "collate_fn": target.collate_fn, "worker_init_fn": target.worker_init_fn},
        device_of=device_of,
    )
    for check in [
        *members.checks(
            found,
            dataset_class=type(target.dataset),
            methods=methods,
            num_workers=request["num_workers"],
            memory_bytes=request["memory_bytes"],
        ),
        guarded("mp.main_guard", lambda: _main_guard(target, found, methods)),
        guarded("mp.cuda_fork", lambda: _cuda_fork(found, methods)),
        guarded("mp.threads", lambda: _live_threads(threads_before, methods)),
    ]:
        emit("check", **check.to_dict())
    facts: dict[str, Any] = {
        "num_items": size,
        "is_iterable": target.is_iterable,
        "build_s": build_s,
        "batch_size": request["batch_size"] or target.batch_size or 32,
        "blocks": {
            method: [member.path for member in found.blocks(method)]
            for method in ("fork", "spawn", "forkserver")
        },
        "cuda": _cuda_path(found),
        "data_paths": data_paths(target.dataset),
        "has_gpu": torch.cuda.is_available() if request["allow_cuda"] else False,
    }
    emit("stage", name="load items")
    _load(target, facts, request, emit)
    emit("facts", **facts)


def fetch_batch(target: Target, indices: Sequence[int]) -> Any:
    """Load and collate items as a DataLoader does."""
    dataset = target.dataset
    items = dataset.__getitems__(list(indices)) if hasattr(dataset, "__getitems__") else None
    if items is None:
        items = [dataset[index] for index in indices]
    return (target.collate_fn or default_collate)(items)


def _load(target: Target, facts: dict[str, Any], request: Mapping[str, Any], emit: Emit) -> None:
    items: list[Any] = []
    start = time.perf_counter()
    failures: list[dict[str, Any]] = []
    for item in _some_items(target, failures, emit):
        items.append(item)
        if time.perf_counter() - start > _ITEMS_S and len(items) >= 2:
            break
    duration = time.perf_counter() - start
    has_length = target.is_iterable or target.num_items() is not None
    emit("check", **_items_check(items, failures, duration, has_length=has_length).to_dict())
    if not items:
        facts["cost"] = None
        return
    batch_size = facts["batch_size"]
    try:
        batch = (target.collate_fn or default_collate)(items[:batch_size])
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
        facts["batch_fails"] = True
        emit("check", **check.to_dict())
    else:
        count = min(batch_size, len(items))
        batch_bytes, tensors = tensor_sizes(batch)
        facts |= {"batch_bytes": int(batch_bytes * batch_size / count), "tensors_per_batch": tensors}
        check = _output_check(batch, facts)
        facts["batch_hangs"] = bool(check.data["unpicklable"])
        emit("check", **check.to_dict())
    emit("stage", name="measure items")
    torch.set_num_threads(1)  # as in a worker
    known = len(failures)
    cost = _cost(target, request, failures)
    if len(failures) > known:
        emit("check", **_items_check(items, failures, duration).to_dict())
    facts["cost"] = cost.to_dict() if cost is not None else None


def _some_items(target: Target, failures: list[dict[str, Any]], emit: Emit) -> Iterator[Any]:
    size = target.num_items()
    if target.is_iterable:
        try:
            for index, item in enumerate(target.dataset):
                if index >= _ITEMS:
                    return
                yield item
        except Exception as error:  # noqa: BLE001 - foreign code
            failures.append(_failure("iteration", error))
        return
    for index in spread_indices(size or 0, _ITEMS):
        emit("item", index=index)  # should the process die of it, the report names it
        try:
            yield target.dataset[index]
        except Exception as error:  # noqa: BLE001 - foreign code
            failures.append(_failure(index, error))


def _failure(index: Any, error: Exception) -> dict[str, Any]:
    return {"index": index, "error": f"{type(error).__name__}: {error}", "source": place_of(error)}


def _items_check(
    items: list[Any], failures: list[dict[str, Any]], duration_s: float, *, has_length: bool = True
) -> Check:
    data = {"loaded": len(items), "failures": failures[:20]}
    if failures:
        first = failures[0]
        if any(needle in first["error"] for needle in _NO_CUDA):
            return Check(
                "ds.items",
                "fail",
                f"item {first['index']} needs CUDA, which the doctor hides and a forked worker cannot use",
                where=f"dataset[{first['index']}] at {first['source']}",
                matters="fork: 'Cannot re-initialize CUDA in forked subprocess'; other start methods "
                "open a CUDA context in every worker.",
                fix="Return CPU tensors and move the batch in the training loop; --allow-cuda examines "
                "it as it is.",
                data=data,
                duration_s=duration_s,
            )
        return Check(
            "ds.items",
            "fail",
            f"{_count(len(failures), 'item')} raised; item {first['index']}: {first['error']}",
            where="\n".join(f"dataset[{f['index']}] at {f['source']}" for f in failures[:5]),
            matters="A worker that meets such an item ends the epoch.",
            fix=f"Try dataset[{first['index']}] in a Python prompt; repair or leave out the sample.",
            data=data,
            duration_s=duration_s,
        )
    if not items and not has_length:
        return Check(
            "ds.items",
            "fail",
            "the data set has no length, which a DataLoader needs for its indices",
            fix="Give it a __len__, or derive it from IterableDataset.",
            data=data,
        )
    if not items:
        return Check("ds.items", "fail", "the data set is empty", fix="Check the paths it reads.", data=data)
    return Check("ds.items", "pass", f"{len(items)} items load", data=data, duration_s=duration_s)


def _output_check(batch: Any, facts: Mapping[str, Any]) -> Check:
    found = trace({"batch": batch}, device_of=device_of, deadline_s=2.0)
    data = {
        "batch_bytes": facts["batch_bytes"],
        "tensors": facts["tensors_per_batch"],
        "unpicklable": [member.to_dict() for member in found.unpicklable],
    }
    with_grad = found.grads
    if found.unpicklable:
        first = found.unpicklable[0]
        return Check(
            "ds.output",
            "fail",
            f"{first.path} ({first.type}) cannot be pickled: a worker that sends such a batch hangs for ever",
            where=_places(found.unpicklable),
            matters="The worker's queue thread prints a traceback, and the training process waits.",
            fix="Return tensors, numbers, texts and plain containers only.",
            data=data,
        )
    if with_grad:
        return Check(
            "ds.output",
            "fail",
            f"{with_grad[0].path} requires a gradient, which cannot leave a worker",
            where=_places(with_grad),
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
            where=_places(found.device),
            fix="Return CPU tensors and move the batch in the training loop.",
            data=data,
        )
    size = facts["batch_bytes"] / 1e6
    return Check(
        "ds.output",
        "pass",
        f"a batch of {facts['batch_size']} is {size:.2f} MB in {facts['tensors_per_batch']} tensors",
        data=data,
    )


def _cost(target: Target, request: Mapping[str, Any], failures: list[dict[str, Any]]) -> ItemCost | None:
    budget_s = float(request["measure_s"])
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


def _main_guard(target: Target, found: Trace, methods: Sequence[str]) -> Check:
    lines = targets.unguarded_lines(target.file) if target.file else []
    pickles = [method for method in methods if method != "fork"]
    if lines:
        name = Path(target.file).name
        return Check(
            "mp.main_guard",
            "fail" if pickles else "warn",
            f"{name} starts work when it is imported (line {lines[0]})",
            where="\n".join(f"{name}:{line}" for line in lines),
            matters="A spawned worker imports the script again, and would start workers of its own: "
            "'An attempt has been made to start a new process before ...'.",
            fix='Put these lines under `if __name__ == "__main__":`.',
            data={"lines": lines},
        )
    if found.in_main:
        return Check(
            "mp.main_guard",
            "fail" if pickles else "warn",
            f"{found.in_main[0].path} is defined in __main__",
            where=_places(found.in_main),
            matters='A worker of a notebook or of a script on stdin fails: "Can\'t get attribute".',
            fix="Move it to a module of its own.",
        )
    return Check("mp.main_guard", "pass", "importing the data set's file starts nothing")


def _cuda_fork(found: Trace, methods: Sequence[str]) -> Check:
    is_initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    path = _cuda_path(found)
    if "fork" in methods and (is_initialised or (path and path["is_gpu"])):
        return Check(
            "mp.cuda_fork",
            "fail",
            "CUDA is in use before workers are forked"
            + (f": {path['path']} lies on {path['device']}" if path else ", by building the data set"),
            where=path["path"] if path else "",
            matters="A forked worker that uses CUDA raises 'Cannot re-initialize CUDA in forked subprocess'.",
            fix="Keep tensors on the CPU in the data set and move batches in the training loop.",
        )
    return Check("mp.cuda_fork", "pass", "no worker inherits CUDA")


def _cuda_path(found: Trace) -> dict[str, Any] | None:
    """Return the network or tensor that the classic lesson is about."""
    on_gpu: list[Member] = [
        m for m in [*found.modules, *found.device] if m.device.replace(", ", "") not in ("", "cpu")
    ]
    on_gpu = [member for member in on_gpu if any(d not in ("cpu", "meta") for d in member.device.split(", "))]
    if on_gpu:
        return {"path": on_gpu[0].path, "device": on_gpu[0].device, "is_gpu": True}
    if found.modules and found.modules[0].bytes:
        return {"path": found.modules[0].path, "device": "cuda:0", "is_gpu": False}
    return None


def _live_threads(before: int, methods: Sequence[str]) -> Check:
    extra = threads_since(before)
    data = {"threads": extra}
    if extra and "fork" in methods:
        return Check(
            "mp.threads",
            "warn",
            f"building the data set started {extra} threads, which live on when workers are forked",
            matters="A lock that such a thread holds at the fork stays locked in the worker: a silent hang.",
            fix='Start threads at first use in the worker, or pass multiprocessing_context="forkserver".',
            data=data,
        )
    return Check("mp.threads", "pass", "no thread is alive before workers start", data=data)


def _build_failed(error: Exception, request: Mapping[str, Any]) -> Check:
    from dsrface.errors import DsrfaceError

    text = f"{type(error).__name__}: {error}"
    if any(needle in text for needle in _NO_CUDA) and not request["allow_cuda"]:
        return Check(
            "ds.build",
            "fail",
            "building the data set needs CUDA, which the doctor hides",
            where=place_of(error),
            matters="A data set that uses CUDA while it is built holds something that workers cannot use.",
            fix="See the two ways out below; run again with --allow-cuda to examine it as it is.",
            data={"needs_cuda": True, "error": text},
        )
    hint = error.hint if isinstance(error, DsrfaceError) else _build_hint(error)
    summary = error.message if isinstance(error, DsrfaceError) else text
    place = error.where if isinstance(error, DsrfaceError) else place_of(error)
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    return Check(
        "ds.build",
        "fail",
        f"the data set could not be built: {summary}",
        where=place,
        fix=hint,
        data={
            "error": text,
            "message": summary,
            "usage": isinstance(error, DsrfaceError) and error.exit_code == 2,
            "traceback": "".join(traceback.format_exception(error))[-4000:],
        },
    )


def _build_hint(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return "Correct that line."
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "Name it as a module, from the folder above its package: --dataset package.module:callable."
    return "Call it in a Python prompt; --dataset-args passes arguments as JSON."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _places(found: Sequence[Member]) -> str:
    return "\n".join(f"{m.path} ({m.source})" if m.source else m.path for m in found[:12])


def data_paths(dataset: Any) -> list[str]:
    """Return up to four existing paths among the data set's own attributes."""
    paths = []
    for value in vars(dataset).values() if hasattr(dataset, "__dict__") else ():
        if isinstance(value, (str, Path)) and 1 < len(str(value)) < 1024:
            try:
                if Path(value).exists():
                    paths.append(str(Path(value).resolve()))
            except (OSError, ValueError):
                continue
    return paths[:4]
