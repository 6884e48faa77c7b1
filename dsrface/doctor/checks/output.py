"""What a batch holds: whether it can be made, and whether it can leave a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.members import places
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text, size_text
from dsrface.runtime.user_code import innermost

if TYPE_CHECKING:
    from typing import Any

    from dsrface.doctor.survey.loading import Loading
    from dsrface.doctor.trace.members import Trace

_PLAIN = "Return tensors, numbers, texts and plain containers only."


def _output(seen: Loading) -> Finding | None:
    if seen.shared:
        return _shared(seen.shared)
    if seen.batch_error is not None:
        return _not_collated(seen.batch_error, seen.items)
    found = seen.batch_trace
    if found is None:
        return None
    batch_bytes, num_tensors = seen.batch_sizes
    data = {
        "batch_size": seen.batch_size if seen.target.is_batched else None,
        "batch_bytes": batch_bytes,
        "tensors": num_tensors,
        "unpicklable": [member.to_dict() for member in found.unpicklable],
    }
    kept = _kept_in_the_worker(found, data)
    if kept is not None:
        return kept
    size, tensors = size_text(batch_bytes), count_text(num_tensors, "tensor")
    holds = f"is {size} in {tensors}" if batch_bytes else "holds no tensor"
    return OUTPUT.finding("pass", f"a batch of {seen.batch_size} {holds}", data=data)


def _shared(how: str) -> Finding:
    return OUTPUT.finding(
        "fail",
        f"items share memory: loading {how}",
        where="dataset[...]: the returned tensor or array",
        matters="Every item of a batch is then the last one that was loaded, with and without workers.",
        fix="Return a copy: torch.from_numpy(buffer.copy()), tensor.clone(); or make it in each call.",
        data={"unpicklable": [], "blocks": list(METHODS)},
    )


def _kept_in_the_worker(found: Trace, data: Mapping[str, Any]) -> Finding | None:
    """Tell what in a batch cannot leave a worker; None if all of it can."""
    if found.unpicklable:
        first = found.unpicklable[0]
        return OUTPUT.finding(
            "fail",
            f"{first.path} ({first.type}) cannot be pickled: a worker that sends such a batch hangs for ever",
            where=places(found.unpicklable),
            matters="The worker's queue thread prints a traceback, and the training process waits.",
            fix=_PLAIN,
            data=data,
        )
    if found.grads:
        return OUTPUT.finding(
            "fail",
            f"{found.grads[0].path} requires a gradient, which cannot leave a worker",
            where=places(found.grads),
            matters="With num_workers=0 it goes unnoticed and keeps the whole graph alive; "
            "in a worker collating raises.",
            fix="Call the network under torch.no_grad() and .detach() what you return; better, leave it "
            "out of the data set and run it on the batch.",
            data=data,
        )
    if found.device:
        return OUTPUT.finding(
            "fail",
            f"{found.device[0].path} is on {found.device[0].device}, and batches leave workers on the CPU",
            where=places(found.device),
            fix="Return CPU tensors and move the batch in the training loop.",
            data=data,
        )
    return None


def _not_collated(error: Exception, items: list[Any]) -> Finding:
    if any(item is None for item in items):
        fix = (
            "Some items are None: return a sample on every path of __getitem__, or give the loader a "
            "collate_fn that leaves None out."
        )
    elif any(type(item).__module__.startswith("torch_geometric") for item in items):
        fix = "Graphs need their own loader: torch_geometric.loader.DataLoader; name that as the target."
    elif isinstance(error, TypeError) and (refused := _refused(items[0], "item")):
        fix = f"Leave out {refused}, or give the loader a collate_fn. {_PLAIN}"
    else:
        fix = "Return tensors of equal shapes (or numbers), or give the loader a collate_fn."
    return OUTPUT.finding(
        "fail",
        f"the items do not collate to a batch: {type(error).__name__}: {error}",
        where=innermost(error),
        matters="Every loader fails on it, with and without workers.",
        fix=fix,
        data={"unpicklable": []},
    )


def _refused(value: Any, path: str) -> str:
    """Return path and type of what torch's own collate function refuses: `item['path'] (PosixPath)`."""
    from torch.utils.data import default_collate

    if isinstance(value, Mapping):
        parts = [_refused(part, f"{path}[{key!r}]") for key, part in value.items()]
        return next(filter(None, parts), "")
    if isinstance(value, (list, tuple)):
        parts = [_refused(part, f"{path}[{number}]") for number, part in enumerate(value)]
        return next(filter(None, parts), "")
    try:
        default_collate([value])
    except TypeError:
        return f"{path} ({type(value).__name__})"
    return ""


OUTPUT = Check(
    id="ds.output",
    order=110,
    worst="fail",
    title="what a batch holds",
    why=(
        "A batch that cannot be pickled hangs the loader for ever; one that requires a gradient "
        "fails in workers only; one on a GPU cannot leave a worker."
    ),
    how="The tracer on a collated batch.",
    fix="Tensors, numbers, texts and plain containers; torch.no_grad() and .detach().",
    errors=(
        (
            "RuntimeError: stack(): functions with out=... arguments don't support automatic "
            "differentiation, but one of the arguments requires grad."
        ),
        "RuntimeError: stack expects each tensor to be equal size",
        ("TypeError: default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists"),
    ),
    runs={"items": lambda _, seen: _output(seen)},
)
