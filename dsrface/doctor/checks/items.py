"""Whether items load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text

if TYPE_CHECKING:
    from dsrface.doctor.proof.prove import Proof
    from dsrface.doctor.survey.loading import Loading

_NO_CUDA = ("No CUDA GPUs are available", "not compiled with CUDA", "no CUDA-capable device", "NVIDIA driver")
_SILENT_END = "A StopIteration ends the epoch at that item, without any error: the rest is never seen."


def needs_cuda(error: str) -> bool:
    """Return whether an error says that there is no CUDA device."""
    return any(needle in error for needle in _NO_CUDA)


def _items(seen: Loading) -> Finding:
    target, failures, loaded, duration_s = seen.target, seen.failures, seen.loaded, seen.duration_s
    data = {"loaded": loaded, "failures": failures[:20]}

    def failed(summary: str, *, fix: str, where: str = "", matters: str = "") -> Finding:
        return ITEMS.finding("fail", summary, where, matters, fix, data, duration_s)

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
        if first["type"] == "StopIteration":  # nothing may be recommended where data go missing in silence
            data["blocks"] = list(METHODS)
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
    timeout = getattr(target.loader, "timeout", 0)
    if 0 < timeout < seen.batch_s:
        return failed(
            f"a batch takes {seen.batch_s:.2g} s to load, and the loader gives up after timeout={timeout:g}",
            where="DataLoader(timeout=...)",
            matters="With workers the first batch raises 'DataLoader timed out'.",
            fix="Give it several times what a batch takes; or leave it out, so that the loader waits.",
        )
    return ITEMS.finding("pass", f"{count_text(loaded, 'item')} loaded", data=data, duration_s=duration_s)


def _as_a_worker_met(proof: Proof) -> Finding | None:
    """A worker met an item that raises here too."""
    error = proof.error_here
    if error is None:
        return None
    return ITEMS.finding(
        "fail",
        f"an item raises, here as in a worker: {error['type']}: {error['text']}".splitlines()[0],
        where=error["where"],
        matters=_what_a_worker_does(error),
        fix=_what_to_do({**error, "index": proof.failed_key}),
        data={"traceback": error["traceback"]},
    )


def _what_a_worker_does(failure: Mapping[str, Any]) -> str:
    if failure["type"] == "StopIteration":
        return _SILENT_END
    if failure["type"] == "SystemExit":
        return (
            "It ends the worker, and the training stops with 'DataLoader worker (pid ...) exited "
            "unexpectedly' and without this text; with num_workers=0 it ends the program."
        )
    if not failure["travels"]:
        return (
            f"A worker that meets such an item ends the epoch; {failure['type']} cannot be pickled, so "
            "with workers the loader waits for ever instead of raising it."
        )
    return "A worker that meets such an item ends the epoch."


def _what_to_do(failure: Mapping[str, Any]) -> str:
    if failure["type"] == "StopIteration":
        return "Raise IndexError or ValueError instead, and guard next(iterator) with a default."
    if failure["type"] == "SystemExit":
        return "Raise ValueError instead of calling exit(); repair or leave out the sample."
    fix = f"Try dataset[{failure['index']}] in a Python prompt; repair or leave out the sample."
    if not failure["travels"]:
        fix += f" Define {failure['type']} at module level with a constructor that takes its args."
    return fix


ITEMS = Check(
    id="ds.items",
    order=20,
    worst="fail",
    title="whether items load",
    why="One bad image ends an epoch, hours into a run.",
    how="The first item, thirty between and the last, without workers; the timing then meets more.",
    fix="Repair or leave out the sample that is named.",
    errors=("RuntimeError: Caught ValueError in DataLoader worker process 0.",),
    runs={"items": lambda _, seen: _items(seen), "starts": lambda _, proof: _as_a_worker_met(proof)},
)
