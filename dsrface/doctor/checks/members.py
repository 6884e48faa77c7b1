"""Turn what the tracer noted into checks: what each member means for each start method, and the fix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

from dsrface.doctor.checks.kinds import ADVICE, repeats_in_workers
from dsrface.doctor.report import Check, guarded
from dsrface.doctor.trace.pickling import Member, Trace
from dsrface.runtime.text import size_text
from dsrface.runtime.user_code import is_users

_PIPE_BYTES = 64 * 1024
_MANY_OBJECTS = 1_000_000
_OBJECT_BYTES = 128
_SHOWN = 12
_GENERATOR_FIX = (
    "Make it in the worker, at first use or in worker_init_fn, from torch.initial_seed() as its seed: "
    "np.random.default_rng(seed), random.Random(seed), torch.Generator().manual_seed(seed)."
)
_TEMPORARY_FIX = (
    "Return a numpy array from __getstate__, or keep the tensor as an attribute that is pickled as it is."
)


def checks(
    trace: Trace, *, dataset_class: type, methods: Sequence[str], num_workers: int, memory_bytes: int
) -> list[Check]:
    """Return the checks that follow from a trace alone.

    Args:
        trace: Of the data set and the functions that travel with it.
        dataset_class: Its module is searched for random generators.
        methods: Start methods the user means to use.
        num_workers: Workers that will be started.
        memory_bytes: Memory that is free.
    """
    pickles = [method for method in methods if method != "fork"]
    return [
        guarded("ds.unpicklable", lambda: _unpicklable(trace, pickles)),
        guarded("ds.non_leaf", lambda: _non_leaf(trace, pickles)),
        guarded("ds.temp_tensor", lambda: _temporary(trace, pickles)),
        guarded("ds.cuda_member", lambda: _cuda(trace, methods)),
        guarded("ds.open_handles", lambda: _handles(trace, methods)),
        guarded("ds.rng", lambda: _generators(trace, dataset_class, methods)),
        guarded("ds.pickle_size", lambda: _pickle_size(trace, pickles, num_workers, memory_bytes)),
        guarded("ds.refcount_growth", lambda: _refcounts(trace, methods, num_workers)),
    ]


def places(members: Sequence[Member]) -> str:
    """Return a line for each of the first members: path, source line, what the pickler said."""
    return "\n".join(_place(member) for member in members[:_SHOWN])


def _unpicklable(trace: Trace, pickles: list[str]) -> Check:
    members = outermost(trace.unpicklable, trace.handles)
    if not pickles:  # under fork an open handle is worse than unpicklable
        others = _without(members, trace.handles)
        if members and not others:
            return _told_by("ds.open_handles", "ds.unpicklable", members)
        members = others
    return _fault(
        "ds.unpicklable",
        members,
        pickles,
        said=lambda member: f"{_noun(member)} cannot be pickled",
        fix=lambda member: ADVICE.get(member.kind, ADVICE["other"]),
        clean=f"{trace.num_objects} objects can be pickled"
        + (", large lists sampled" if trace.is_sampled else ""),
        trace=trace,
    )


def _non_leaf(trace: Trace, pickles: list[str]) -> Check:
    return _fault(
        "ds.non_leaf",
        trace.non_leaf,
        pickles,
        said=lambda _: "is a tensor with a gradient history, which torch refuses to send",
        fix=lambda member: f"Keep {member.path}.detach() instead (or compute it under torch.no_grad()).",
        clean="no tensor carries a gradient history",
        trace=trace,
    )


def _temporary(trace: Trace, pickles: list[str]) -> Check:
    members = trace.temporary
    if not pickles:  # under fork a generator repeats
        others = _without(members, trace.rngs)
        if members and not others:
            return _told_by("ds.rng", "ds.temp_tensor", members)
        members = others
    generators = {member.path for member in trace.rngs}
    return _fault(
        "ds.temp_tensor",
        members,
        pickles,
        said=lambda member: (
            "is a torch.Generator, whose state is a tensor made while it is pickled; the worker dies on it"
            if member.path in generators
            else "is a tensor that exists only while it is pickled; the worker dies on opening it"
        ),
        fix=lambda member: _GENERATOR_FIX if member.path in generators else _TEMPORARY_FIX,
        clean="no tensor is made while pickling",
        trace=trace,
    )


def _fault(
    id: str, members: list[Member], pickles: list[str], *, said: Any, fix: Any, clean: str, trace: Trace
) -> Check:
    data = {"members": [member.to_dict() for member in members], "truncated": trace.is_truncated}
    if not members:
        return Check(
            id, "info" if trace.is_truncated else "pass", clean, data=data, duration_s=trace.duration_s
        )
    first = members[0]
    advice: dict[str, list[str]] = {}
    for member in members[:_SHOWN]:
        advice.setdefault(fix(member), []).append(member.path)
    if pickles:
        matters = (
            f"{' and '.join(pickles)} {'pickle' if len(pickles) > 1 else 'pickles'} the data set "
            "for every worker"
        )
    else:
        matters = (
            "fork does not pickle, so it works here; Windows, macOS and Python 3.14 start workers otherwise"
        )
    return Check(
        id,
        "fail" if pickles else "warn",
        f"{first.path} {said(first)}{_more(members)}",
        where=places(members),
        matters=matters,
        fix=_joined(advice),
        data=data,
        duration_s=trace.duration_s,
    )


def _cuda(trace: Trace, methods: Sequence[str]) -> Check:
    gpu_modules = [module for module in trace.modules if module.is_on_gpu]
    inside = tuple(f"{module.path}." for module in gpu_modules)
    members = gpu_modules + [
        member for member in trace.device if not member.path.startswith(inside) and member not in gpu_modules
    ]
    data = {"members": [member.to_dict() for member in members]}
    if members:
        first = members[0]
        verdicts = [f"{method}: {_cuda_outcome(method)[1]}" for method in methods]
        is_fatal = any(_cuda_outcome(method)[0] == "fail" for method in methods)
        return Check(
            "ds.cuda_member",
            "fail" if is_fatal else "warn",
            f"{first.path} lies on {first.device} ({size_text(first.bytes)}){_more(members)}",
            where=places(members),
            matters="\n".join(verdicts),
            fix="Keep networks and CUDA tensors out of the data set; see the two ways out below.",
            data=data,
        )
    networks = [module for module in trace.modules if module.bytes]
    if networks:
        first = networks[0]
        return Check(
            "ds.cuda_member",
            "warn",
            f"{first.path} is a network ({size_text(first.bytes)}) that lives in the data set",
            where=places(networks),
            matters="It is on the CPU here; where it is moved to CUDA, workers cannot use it. "
            "Even on the CPU it runs on one image at a time.",
            fix="Run it once with `dsrface precompute`, or on the batch in the training step; see below.",
            data={"members": [member.to_dict() for member in networks]},
        )
    return Check("ds.cuda_member", "pass", "no tensor on a GPU, no network in the data set", data=data)


def _cuda_outcome(method: str) -> tuple[str, str]:
    if method == "fork":
        return "fail", "the worker's first CUDA call raises 'Cannot re-initialize CUDA in forked subprocess'"
    if sys.platform == "win32":
        return "fail", "CUDA tensors cannot be shared on Windows: error 801, operation not supported"
    return "warn", "sent as an IPC handle; each worker opens a CUDA context of its own and waits for one GPU"


def _handles(trace: Trace, methods: Sequence[str]) -> Check:
    members = [member for member in trace.handles if not member.is_hidden or "fork" in methods]
    members = outermost(members, members)
    matters = "Every worker gets the same connection."
    if "fork" in methods:
        matters = (
            "Forked workers share one file position: they read each other's bytes, without any error. "
            "Other start methods cannot send it."
        )
    else:
        sent = _without(members, outermost(trace.unpicklable, trace.handles))
        if members and not sent:
            return _told_by("ds.unpicklable", "ds.open_handles", members)
        members = sent
    data = {"members": [member.to_dict() for member in members]}
    advice: dict[str, list[str]] = {}
    for member in members[:_SHOWN]:
        advice.setdefault(ADVICE.get(member.kind, ADVICE["file"]), []).append(member.path)
    if not members:
        return Check("ds.open_handles", "pass", "no open file, archive or database", data=data)
    first = members[0]
    return Check(
        "ds.open_handles",
        "warn",
        f"{first.path} is an open {first.kind} handle{_more(members)}",
        where=places(members),
        matters=matters,
        fix=_joined(advice),
        data=data,
    )


def _generators(trace: Trace, dataset_class: type, methods: Sequence[str]) -> Check:
    module = sys.modules.get(dataset_class.__module__)
    outside = _module_generators(module) if module is not None else []
    data = {"members": [member.to_dict() for member in trace.rngs], "module": outside}
    members = trace.rngs if "fork" in methods else _without(trace.rngs, trace.temporary)
    paths = [member.path for member in members] + outside
    if trace.rngs and not paths:
        return _told_by("ds.temp_tensor", "ds.rng", trace.rngs)
    if not paths:
        return Check("ds.rng", "pass", "no random generator of its own", data=data)
    return Check(
        "ds.rng",
        "warn",
        f"{paths[0]} is a random generator that every worker gets in the same state{_more(paths)}",
        where="\n".join([places(members), *outside]).strip(),
        matters="Each worker draws the same numbers, and again the same in every epoch: "
        "augmentation repeats.",
        fix=_GENERATOR_FIX,
        data=data,
    )


def _module_generators(module: ModuleType) -> list[str]:
    """Return the random generators at the top of the user's module that its functions draw from."""
    if not is_users(str(getattr(module, "__file__", None) or "")):
        return []
    used = {name for code in _codes(module) for name in code.co_names}
    return [
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if name in used and repeats_in_workers(value)
    ]


def _codes(module: ModuleType) -> list[CodeType]:
    """Return the code of a module's functions and of its classes' methods."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    values = own + [part for value in own if isinstance(value, type) for part in vars(value).values()]
    return [value.__code__ for value in values if isinstance(value, FunctionType)]


def _pickle_size(trace: Trace, pickles: list[str], num_workers: int, memory_bytes: int) -> Check:
    size = trace.pickle_bytes
    top = ", ".join(f"{member.path} {size_text(member.bytes)}" for member in trace.contributors[:5])
    data = {
        "bytes": size,
        "contributors": [{"path": member.path, "bytes": member.bytes} for member in trace.contributors],
        "sampled": trace.is_sampled,
        "memmaps": [member.path for member in trace.memmaps],
    }
    summary = f"the data set pickles to {size_text(size)}" + (" (sampled)" if trace.is_sampled else "")
    if not pickles:
        return Check("ds.pickle_size", "pass", f"{summary}; fork does not send it", data=data)
    if size <= _PIPE_BYTES and not trace.memmaps:
        return Check("ds.pickle_size", "pass", summary, data=data)
    is_fatal = size * max(1, num_workers) > 0.1 * memory_bytes
    fix = "Hold names and numbers in torch tensors (shared, not copied); keep workers persistent."
    if trace.memmaps:
        fix += f" {trace.memmaps[0].path} is a memmap, sent as its whole contents: open it in __setstate__."
    return Check(
        "ds.pickle_size",
        "fail" if is_fatal else "warn",
        f"{summary}: {top}",
        where="\n".join(member.path for member in trace.contributors[:5]),
        matters=f"It is sent to each of {max(1, num_workers)} workers, one after the other, at every start.",
        fix=fix,
        data=data,
    )


def _refcounts(trace: Trace, methods: Sequence[str], num_workers: int) -> Check:
    growth = trace.num_objects * _OBJECT_BYTES
    data = {"objects": trace.num_objects, "bytes_per_worker": growth}
    if trace.num_objects < _MANY_OBJECTS or "fork" not in methods:
        return Check("ds.refcount_growth", "pass", f"{trace.num_objects} small Python objects", data=data)
    return Check(
        "ds.refcount_growth",
        "warn",
        f"{trace.num_objects / 1e6:.1f} million small Python objects, about {size_text(growth)} a worker",
        where=trace.contributors[0].path if trace.contributors else "",
        matters="Reading an object writes its reference count, so forked workers copy its page: up to "
        f"{size_text(growth * max(1, num_workers))} during an epoch.",
        fix="Keep names and labels in numpy or torch arrays (bytes plus offsets for texts).",
        data=data,
    )


def outermost(members: Sequence[Member], handles: Sequence[Member]) -> list[Member]:
    """Name the handle that the user opened in place of what lies inside it, e.g. the file of a ZipFile."""
    named: dict[str, Member] = {}
    for member in members:
        around = [handle for handle in handles if member.path.startswith(f"{handle.path}.")]
        outer = min(around, key=lambda handle: len(handle.path), default=member)
        named.setdefault(outer.path, outer)
    return list(named.values())


def _without(members: Sequence[Member], told: Sequence[Member]) -> list[Member]:
    paths = {member.path for member in told}
    return [member for member in members if member.path not in paths]


def _told_by(other: str, id: str, members: Sequence[Member]) -> Check:
    """Return a check that leaves all it found to another one, so that one cause is told once."""
    data = {"members": [member.to_dict() for member in members]}
    return Check(id, "skip", f"{members[0].path} is told of by {other}{_more(members)}", data=data)


def _joined(advice: dict[str, list[str]]) -> str:
    """Say each fix once, after the members it is for."""
    return "\n".join(f"{', '.join(paths)}: {fix}" for fix, paths in advice.items())


def _noun(member: Member) -> str:
    nouns = {"lambda": "is a lambda, which", "local": "is local to a function and"}
    return nouns.get(member.kind, f"({member.type})")


def _more(found: Sequence[Any]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _place(member: Member) -> str:
    source = f" ({member.source})" if member.source else ""
    error = f": {member.error.splitlines()[0][:160]}" if member.error else ""
    return f"{member.path}{source}{error}"
