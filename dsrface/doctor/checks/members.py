"""What the members of a data set mean for its workers, by the paths the tracer found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.doctor.trace.kinds import ADVICE
from dsrface.runtime.text import size_text

if TYPE_CHECKING:
    from dsrface.doctor.trace.members import Member, Trace

_PIPE_BYTES = 64 << 10
_NOTICED_BYTES = 512 << 10
_MANY_OBJECTS = 1_000_000
_OBJECT_BYTES = 128
_SHOWN = 12
GENERATOR_FIX = (
    "Make it in the worker, at first use or in worker_init_fn, from torch.initial_seed() as its seed: "
    "np.random.default_rng(seed), random.Random(seed), torch.Generator().manual_seed(seed)."
)
_TEMPORARY_FIX = (
    "Return a numpy array from __getstate__, or keep the tensor as an attribute that is pickled as it is."
)


def places(members: Sequence[Member]) -> str:
    """Return a line for each of the first members: path, source line, what the pickler said."""
    return "\n".join(_place(member) for member in members[:_SHOWN])


def _unpicklable(trace: Trace, pickles: list[str]) -> Finding:
    members = outermost(trace.unpicklable, [*trace.handles, *trace.keyed])
    if not pickles:  # under fork an open handle is worse than unpicklable
        members = without(members, trace.keyed)
        others = without(members, trace.handles)
        if members and not others:
            return told_by("ds.open_handles", UNPICKLABLE, members)
        members = others
    return _fault(
        UNPICKLABLE,
        members,
        pickles,
        said=lambda member: f"{_noun(member)} cannot be pickled",
        fix=lambda member: ADVICE.get(member.kind, ADVICE["other"]),
        clean=f"{trace.num_objects} objects can be pickled"
        + (", large lists sampled" if trace.is_sampled else ""),
        trace=trace,
    )


def _non_leaf(trace: Trace, pickles: list[str]) -> Finding:
    return _fault(
        NON_LEAF,
        trace.non_leaf,
        pickles,
        said=lambda _: "is a tensor with a gradient history, which torch refuses to send",
        fix=lambda member: f"Keep {member.path}.detach() instead (or compute it under torch.no_grad()).",
        clean="no tensor carries a gradient history",
        trace=trace,
    )


def _temporary(trace: Trace, pickles: list[str]) -> Finding:
    members = trace.temporary
    if not pickles:  # under fork a generator repeats
        others = without(members, trace.rngs)
        if members and not others:
            return told_by("ds.rng", TEMPORARY, members)
        members = others
    generators = {member.path for member in trace.rngs}
    return _fault(
        TEMPORARY,
        members,
        pickles,
        said=lambda member: (
            "is a torch.Generator, whose state is a tensor made while it is pickled; the worker dies on it"
            if member.path in generators
            else "is a tensor that exists only while it is pickled; the worker dies on opening it"
        ),
        fix=lambda member: GENERATOR_FIX if member.path in generators else _TEMPORARY_FIX,
        clean="no tensor is made while pickling",
        trace=trace,
    )


def _fault(
    check: Check, members: list[Member], pickles: list[str], *, said: Any, fix: Any, clean: str, trace: Trace
) -> Finding:
    data = {"members": [member.to_dict() for member in members], "truncated": trace.is_truncated}
    if not members:
        status = "info" if trace.is_truncated else "pass"
        return check.finding(status, clean, data=data, duration_s=trace.duration_s)
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
    return check.finding(
        "fail" if pickles else "warn",
        f"{first.path} {said(first)}{more(members)}",
        where=places(members),
        matters=matters,
        fix=joined(advice),
        data=data,
        duration_s=trace.duration_s,
    )


_NO_NETWORK_FIX = (
    "Take the network out of the data set: run it once, or on the batch in the training loop; see the two "
    "ways out below."
)
_NO_CUDA_FIX = "Keep it on the CPU (tensor.cpu()), and move batches in the training loop."


def _cuda(trace: Trace, methods: Sequence[str]) -> Finding:
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
        return CUDA_MEMBER.finding(
            "fail" if is_fatal else "warn",
            f"{first.path} is on {first.device} ({size_text(first.bytes)}){more(members)}",
            where=places(members),
            matters="\n".join(verdicts),
            fix=_NO_NETWORK_FIX if gpu_modules else _NO_CUDA_FIX,
            data=data,
        )
    if trace.networks:
        first = trace.networks[0]
        matters = "It runs on one item at a time, in every worker; its time is in that of an item."
        if trace.mentions_device:
            matters += " The code names a device: where that is CUDA, workers cannot use it."
        return CUDA_MEMBER.finding(
            "warn" if trace.mentions_device else "info",
            f"{first.path} is a network ({size_text(first.bytes)}) on the CPU{more(trace.networks)}",
            where=places(trace.networks),
            matters=matters,
            fix=_NO_NETWORK_FIX
            if trace.mentions_device
            else "Where it takes most of an item's time, run it on the batch in the training step.",
            data={"members": [member.to_dict() for member in trace.networks]},
        )
    return CUDA_MEMBER.finding("pass", "no tensor on a GPU, no network in the data set", data=data)


def _cuda_outcome(method: str) -> tuple[str, str]:
    if method == "fork":
        return "fail", "the worker's first CUDA call raises 'Cannot re-initialize CUDA in forked subprocess'"
    if sys.platform == "win32":
        return "fail", "CUDA tensors cannot be shared on Windows: error 801, operation not supported"
    return "warn", "sent as an IPC handle; each worker opens a CUDA context of its own and waits for one GPU"


def _pickle_size(trace: Trace, pickles: list[str], num_workers: int, memory_bytes: int) -> Finding:
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
        return PICKLE_SIZE.finding("pass", f"{summary}; fork does not send it", data=data)
    if size <= _PIPE_BYTES and not trace.memmaps:
        return PICKLE_SIZE.finding("pass", summary, data=data)
    if size <= _NOTICED_BYTES and not trace.memmaps:
        text = f"{summary}, more than a pipe holds: each worker starts after the one before"
        return PICKLE_SIZE.finding("info", text, data=data)
    is_fatal = size * max(1, num_workers) > 0.1 * memory_bytes
    fix = "Hold names and numbers in torch tensors (shared, not copied); keep workers persistent."
    if trace.memmaps:
        fix += f" {trace.memmaps[0].path} is a memmap, sent as its whole contents: open it in __setstate__."
    return PICKLE_SIZE.finding(
        "fail" if is_fatal else "warn",
        f"{summary}: {top}",
        where="\n".join(member.path for member in trace.contributors[:5]),
        matters=f"It is sent to each of {max(1, num_workers)} workers, one after the other, at every start.",
        fix=fix,
        data=data,
    )


def _refcounts(trace: Trace, methods: Sequence[str], num_workers: int) -> Finding:
    growth = trace.num_objects * _OBJECT_BYTES
    data = {"objects": trace.num_objects, "bytes_per_worker": growth}
    if trace.num_objects < _MANY_OBJECTS or "fork" not in methods:
        return REFERENCE_COUNTS.finding("pass", f"{trace.num_objects} small Python objects", data=data)
    return REFERENCE_COUNTS.finding(
        "warn",
        f"{trace.num_objects / 1e6:.1f} million small Python objects, about {size_text(growth)} a worker",
        where=trace.contributors[0].path if trace.contributors else "",
        matters="Reading an object writes its reference count, so forked workers copy its page: up to "
        f"{size_text(growth * max(1, num_workers))} during an epoch.",
        fix="Keep names and labels in numpy or torch arrays (bytes plus offsets for texts).",
        data=data,
    )


def outermost(members: Sequence[Member], handles: Sequence[Member]) -> list[Member]:
    """Name the handle that the user opened in place of what is inside it, e.g. the file of a ZipFile."""
    named: dict[str, Member] = {}
    for member in members:
        around = [handle for handle in handles if member.path.startswith(f"{handle.path}.")]
        outer = min(around, key=lambda handle: len(handle.path), default=member)
        named.setdefault(outer.path, outer)
    return list(named.values())


def without(members: Sequence[Member], known: Sequence[Member]) -> list[Member]:
    """Return the members whose paths are not among the others'."""
    paths = {member.path for member in known}
    return [member for member in members if member.path not in paths]


def told_by(other: str, check: Check, members: Sequence[Member]) -> Finding:
    """Return the skip result of a check whose cause another check reports already."""
    data = {"members": [member.to_dict() for member in members]}
    return check.finding("skip", f"{members[0].path}: see {other}{more(members)}", data=data)


def joined(advice: dict[str, list[str]]) -> str:
    """Say each fix once, after the members it is for."""
    return "\n".join(f"{', '.join(paths)}: {fix}" for fix, paths in advice.items())


def _noun(member: Member) -> str:
    nouns = {"lambda": "is a lambda, which", "local": "is local to a function and"}
    return nouns.get(member.kind, f"({member.type})")


def more(found: Sequence[Any]) -> str:
    """Return ` (and 2 more)` for what is not named."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _place(member: Member) -> str:
    source = f" ({member.source})" if member.source else ""
    error = f": {member.error.splitlines()[0][:160]}" if member.error else ""
    return f"{member.path}{source}{error}"


UNPICKLABLE = Check(
    id="ds.unpicklable",
    order=30,
    worst="fail",
    title="members that cannot be sent to a worker",
    why=(
        "spawn and forkserver pickle the data set, its collate_fn and worker_init_fn. One lambda, "
        "lock, open file or module among thousands of members ends the start, and the error names a "
        "type, not a place."
    ),
    how=("A pickler in pure Python with torch's own rules that notes every fault with its path and goes on."),
    fix="By kind: module-level functions for lambdas; locks and handles made at first use in the worker.",
    errors=(
        "AttributeError: Can't pickle local object 'make.<locals>.<lambda>'",
        "AttributeError: Can't get local object 'make.<locals>.<lambda>'",
        "_pickle.PicklingError: Can't pickle <function <lambda>>: attribute lookup <lambda> failed",
        "TypeError: cannot pickle '_thread.lock' object",
        "TypeError: cannot pickle '_thread.RLock' object",
        "TypeError: cannot pickle '_thread._local' object",
        "TypeError: cannot pickle '_queue.SimpleQueue' object",
        "TypeError: cannot pickle '_io.BufferedReader' object",
        "TypeError: cannot pickle '_io.TextIOWrapper' object",
        "TypeError: cannot pickle 'generator' object",
        "TypeError: cannot pickle 'module' object",
        "TypeError: cannot pickle 'sqlite3.Connection' object",
        "TypeError: cannot pickle 'Environment' object",
        "TypeError: cannot pickle 'weakref.ReferenceType' object",
        "TypeError: h5py objects cannot be pickled",
        "RuntimeError: Serialization of parametrized modules is only supported through state_dict()",
        "RuntimeError: Tried to serialize object which does not have a __getstate__ method defined!",
        (
            "RuntimeError: A SemLock created in a fork context is being shared with a process in a "
            "spawn context"
        ),
        "Got pickle error when attempting to start a worker Process",
    ),
    runs={"members": lambda _, subject: _unpicklable(subject.trace, subject.pickles)},
)

NON_LEAF = Check(
    id="ds.non_leaf",
    order=40,
    worst="fail",
    title="tensors with a gradient history",
    why=(
        "torch refuses to send them to another process; pickle.dumps alone accepts them, so a plain "
        "test misleads."
    ),
    how="requires_grad and not is_leaf, for every tensor among the members.",
    fix="Keep tensor.detach().",
    errors=(
        (
            "RuntimeError: Cowardly refusing to serialize non-leaf tensor which requires_grad, since "
            "autograd does not support crossing process boundaries."
        ),
    ),
    runs={"members": lambda _, subject: _non_leaf(subject.trace, subject.pickles)},
)

TEMPORARY = Check(
    id="ds.temp_tensor",
    order=50,
    worst="fail",
    title="tensors made while pickling",
    why=(
        "A tensor made in __getstate__ (a CPU copy, the state of a torch.Generator) is sent as a "
        "file descriptor and is gone before the worker opens it. The worker dies, the parent says "
        "nothing useful."
    ),
    how="A weak reference to each tensor met; those dead after the walk were temporary.",
    fix=(
        "Return numpy arrays from __getstate__ or keep the tensor as an attribute; seeds instead of "
        "generators."
    ),
    errors=(
        (
            "RuntimeError: unable to resize file <filename not specified> to the right size: Invalid "
            "argument (22)"
        ),
    ),
    runs={"members": lambda _, subject: _temporary(subject.trace, subject.pickles)},
)

CUDA_MEMBER = Check(
    id="ds.cuda_member",
    order=60,
    worst="fail",
    title="networks and CUDA tensors in the data set",
    why=(
        "Under fork the first CUDA call raises. Under spawn the tensor is sent as an IPC handle: "
        "every worker opens a CUDA context of its own and waits for the same GPU; on Windows, WSL2 "
        "and Jetson it fails."
    ),
    how="The device of every tensor among the members; networks are named even on the CPU.",
    fix="Run the network once and store what it gives, or run it on the batch in the training step.",
    errors=(
        "RuntimeError: CUDA error: operation not supported (801)",
        (
            "RuntimeError: Attempted to send CUDA tensor received from another process; this is not "
            "currently supported. Consider cloning before sending."
        ),
        "RuntimeError: Cannot pickle CUDA storage; try pickling a CUDA tensor instead",
        "RuntimeError: pidfd_getfd: Operation not permitted",
    ),
    runs={"members": lambda _, subject: _cuda(subject.trace, subject.methods)},
)

PICKLE_SIZE = Check(
    id="ds.pickle_size",
    order=90,
    worst="fail",
    title="bytes that travel to each worker",
    why="Above 64 KiB the start of one worker waits for the one before; memory maps travel by value.",
    how="Bytes counted while tracing, with the largest members.",
    fix="One array instead of lists, memory maps opened in __setstate__, persistent workers.",
    runs={
        "members": lambda _, subject: _pickle_size(
            subject.trace, subject.pickles, subject.num_workers, subject.memory_bytes
        )
    },
)

REFERENCE_COUNTS = Check(
    id="ds.refcount_growth",
    order=100,
    worst="warn",
    title="memory that grows while forked workers read",
    why="Reading a Python object writes its reference count, so its page is copied into each worker.",
    how="Small Python objects among the members, large lists sampled.",
    fix="Names and labels in numpy or torch arrays.",
    runs={"members": lambda _, subject: _refcounts(subject.trace, subject.methods, subject.num_workers)},
)
