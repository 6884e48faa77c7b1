"""What items change and leave behind: counters, caches, lists that grow, threads, processes, files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text, size_text

if TYPE_CHECKING:
    from dsrface.doctor.survey.loading import Loading
    from dsrface.doctor.survey.observe import Reading
    from dsrface.doctor.survey.passes import Passes

_SHOWN = 6
_MUCH_MEMORY = 0.25  # share of the memory that caches of all workers may take

_COUNT_FIX = (
    "Let the item follow from its index (and from an epoch that the main program sets); or count in shared "
    "memory: torch.zeros((), dtype=torch.int64).share_memory_()."
)
_LIST_FIX = (
    "Let the item follow from its index, and hand work out by a sampler, in the main process: what is taken "
    "off a list is taken by every worker."
)
_IN_PLACE_FIX = "Leave members as they are and change a copy: tensor.clone(), array.copy(), list(members)."


def _state(items: Loading) -> Finding | None:
    passes, num_items = items.passes, items.target.num_keys()
    num_workers, memory_bytes = items.num_workers, items.memory_bytes
    if passes is None or items.shared:
        return None
    from dsrface.doctor.survey.observe import changed_scalars

    data: dict[str, Any] = {
        "items": passes.num_items,
        "counters": passes.counters,
        "states": passes.states,
        "changed": changed_scalars(passes.before, passes.once)[:20],
        "written": dict(list(passes.written.items())[:20]),
    }
    if passes.counters:
        first = passes.counters[0]
        before, after = passes.before.values.get(first), passes.once.values.get(first)
        values = f" ({before} before, {after} after {passes.num_items})" if after is not None else ""
        return STATE.finding(
            "fail",
            f"items depend on {first}, which every item changes{values}",
            where="\n".join(passes.counters[:_SHOWN]),
            matters=_what_workers_change(passes, first),
            fix=_fix(passes, first),
            data={**data, "blocks": list(METHODS)},
        )
    found = (
        _containers(passes, num_items, num_workers, memory_bytes)
        or _remains(passes)
        or _files(passes, num_items)
    )
    if found is not None:
        return replace(found, data=data)
    if passes.states:
        return STATE.finding(
            "info",
            f"items depend on {passes.states[0]}, which every item changes: see ds.rng",
            where="\n".join(passes.states[:_SHOWN]),
            data=data,
        )
    return STATE.finding("pass", f"{count_text(passes.num_items, 'item')} leave nothing behind", data=data)


def _what_workers_change(passes: Passes, path: str) -> str:
    value: Any = passes.once.places[path].get() if path in passes.once.places else None
    if getattr(value, "mode", "") in ("r+", "w+") and hasattr(value, "filename"):  # numpy.memmap
        return f"It is mapped from {value.filename}: each item that is loaded changes that file, for ever."
    if getattr(value, "is_shared", bool)():  # a tensor in shared memory
        return "All workers change the same memory: an item depends on how often it was loaded before."
    return (
        "Each worker changes a copy of its own, from the same start: items differ from those of "
        "num_workers=0, and repeat."
    )


def _fix(passes: Passes, path: str) -> str:
    if path in passes.once.values:
        return _COUNT_FIX
    return _LIST_FIX if path in passes.once.lengths else _IN_PLACE_FIX


def _containers(passes: Passes, num_items: int | None, num_workers: int, memory_bytes: int) -> Finding | None:
    from dsrface.doctor.survey.observe import entry_bytes, growing

    grown = growing(passes.before, passes.once)
    last = passes.thrice or passes.twice
    again = growing(passes.once, last) if last is not None else {}
    rounds = 2 if passes.thrice is not None else 1
    leaks = [path for path in grown if again.get(path, 0) >= 0.5 * passes.num_items * rounds]
    if leaks:
        each = again[leaks[0]] / passes.num_items / rounds
        return STATE.finding(
            "warn",
            f"{leaks[0]} grows by {each:.1f} entries with every item",
            where="\n".join(leaks[:_SHOWN]),
            matters="It grows in every worker, in persistent ones over all epochs, until memory ends.",
            fix="Do not collect in __getitem__; or bound it, e.g. functools.lru_cache(maxsize=...).",
        )
    caches = [
        path
        for path in grown
        if grown[path] >= 0.5 * passes.num_items
        and (path in passes.once.places or path in passes.once.unbounded)
        and not _is_bounded(path, passes.once, last)
    ]
    if not caches:
        return None
    path, workers = caches[0], max(1, num_workers)
    if path in passes.once.places:
        entry = entry_bytes(passes.once.places[path])
    else:
        entry = max(0, passes.once.memory_bytes - passes.before.memory_bytes) // passes.num_items
    epoch = entry * grown[path] / passes.num_items * (num_items or 0)
    return STATE.finding(
        "warn" if epoch * workers > _MUCH_MEMORY * memory_bytes else "info",
        f"{path} keeps what was loaded: {size_text(entry)} an item, {size_text(epoch)} an epoch and process",
        where=path,
        matters=f"Every worker fills a cache of its own: {size_text(epoch * workers)} for {workers} "
        "workers, lost at the end of an epoch unless workers are persistent.",
        fix="Fill it before workers start (forked workers share it), keep it in shared tensors, or bound it.",
    )


def _is_bounded(path: str, once: Reading, again: Reading | None) -> bool:
    """Return whether a cache drops old entries for new ones: it has others after the same items, not more."""
    if again is None or again.lengths.get(path) != once.lengths.get(path):
        return False
    return path in once.contents and again.contents.get(path) != once.contents[path]


def _remains(passes: Passes) -> Finding | None:
    for what, name in (
        ("num_threads", "thread"),
        ("num_children", "child process"),
        ("num_blocks", "block of shared memory"),
    ):
        each = passes.leaked(what)
        if each >= 0.5:
            return STATE.finding(
                "warn",
                f"every item leaves {each:.0f} {name} behind",
                matters="They add up over an epoch until the system refuses more.",
                fix="End what an item starts: join threads, wait for processes, unlink shared memory.",
            )
    return None


def _files(passes: Passes, num_items: int | None) -> Finding | None:
    same = [path for path, count in passes.written.items() if count >= 0.5 * passes.num_items > 1]
    if same:
        return STATE.finding(
            "warn",
            f"every item writes {same[0]}",
            where="\n".join(same[:_SHOWN]),
            matters="Workers write it at the same time: one overwrites what another has just written.",
            fix="Give each worker a name of its own (torch.utils.data.get_worker_info().id), or write in the "
            "main process.",
        )
    if passes.made:
        first = next(iter(passes.made))
        return STATE.finding(
            "warn",
            f"an item makes {first} for others to read, in place: workers that start together all do",
            where="\n".join(f"{line}: {path}" for path, line in list(passes.made.items())[:_SHOWN]),
            matters="A worker can read what another has written half: an error that is gone when the job is "
            "started again, or wrong data. The file is there now: workers that start later read it whole.",
            fix="Make it before the loader, in __init__ or in the main program; or write to a temporary name "
            "in the same folder and os.replace() it.",
        )
    if len(passes.left) >= 0.5 * passes.num_items > 1:
        first, size = next(iter(passes.left)), sum(passes.left.values()) / len(passes.left)
        epoch = size * (num_items or passes.num_items)
        return STATE.finding(
            "warn" if passes.leaves_more else "info",  # a cache writes each file once
            f"every item leaves a file behind: {size_text(size)}, {size_text(epoch)} an epoch"
            if len(passes.left) <= 2 * passes.num_items
            else f"{passes.num_items} items leave {len(passes.left)} files behind, of {size_text(size)} each",
            where=first,
            matters="They fill the disk in a long run; workers write into the same folder.",
            fix="Delete what an item writes (tempfile.TemporaryFile does), or make the files once, before.",
        )
    return None


STATE = Check(
    id="ds.state",
    order=120,
    worst="fail",
    title="what items change and leave behind",
    why=(
        "A worker works on a copy of the data set. A counter counts in each worker by itself, a "
        "cache is filled by each worker alone, a list that grows ends the memory of a long job."
    ),
    how=(
        "Members, module variables and class attributes are read before items are loaded, after it, "
        "and after the same items were loaded again. A number that changed is set back: an item that "
        "then comes out the same depends on it."
    ),
    fix="Let an item follow from its index; bound what is kept; close and join what an item starts.",
    runs={"items": lambda _, items: _state(items)},
)
