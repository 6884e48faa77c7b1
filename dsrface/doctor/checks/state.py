"""What items change and leave behind: counters, caches, leaks of files, memory, threads and processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dsrface.doctor.observe import Reading, changed_scalars, drawn_generators, entry_bytes, growing
from dsrface.doctor.report import Check
from dsrface.runtime.text import count_text, size_text

_A_LEAK_BYTES = 64 << 10
_LEAST_LEAK_BYTES = 4 << 20
_SHOWN = 6
_MUCH_MEMORY = 0.25  # share of the memory that caches of all workers may take


@dataclass
class Passes:
    """Readings around loading: before, after some items, and after the same items once more.

    Args:
        before: Nothing was loaded.
        once: After the first pass.
        twice: After the second pass over the same items; None when there was no time.
        thrice: After one more.
        num_items: Items of a pass.
        counters: Numbers that items change and depend on, by path.
        states: The same where it is no plain count, such as a generator of one's own.
        shared: What says that an item changed when another was loaded; empty when none did.
        written: Files that items open for writing, with how often.
    """

    before: Reading
    once: Reading
    twice: Reading | None = None
    thrice: Reading | None = None
    num_items: int = 0
    counters: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    shared: str = ""
    written: Mapping[str, int] = field(default_factory=dict)

    @property
    def drawn(self) -> list[str]:
        """Generators that items draw from, by path."""
        return drawn_generators(self.before, self.once)

    def leaked(self, what: str) -> float:
        """Return by how much a number grows with each item that was loaded before, or 0."""
        if self.twice is None or not self.num_items:
            return 0.0
        last = self.thrice or self.twice
        first = self.once if self.thrice is None else self.twice
        growth = min(
            getattr(self.twice, what) - getattr(self.once, what), getattr(last, what) - getattr(first, what)
        )
        return max(0.0, float(growth) / self.num_items)


def judge_state(passes: Passes, *, load_digest: Callable[[], str] | None) -> None:
    """Find which of the changed numbers the items depend on.

    A number is set back and the same item is loaded again, under equal generators: equal then, and different
    without setting it back, says that the item depends on it.

    Args:
        passes: Gets `counters` and `states`.
        load_digest: Loads one and the same item and returns its fingerprint; None for a stream.
    """
    if load_digest is None:
        return
    for path in changed_scalars(passes.before, passes.once)[:_SHOWN]:
        place = passes.once.places[path]
        try:
            value = place.get()
            first = load_digest()
            moved = load_digest()
            place.set(value)
            again = load_digest()
        except Exception:  # noqa: BLE001, S112 - a property without a setter, an item that raises now
            continue
        if first == again and moved != first:
            before, after = passes.before.values[path], passes.once.values[path]
            is_count = type(after) in (int, float) and abs(after - before) == passes.num_items
            (passes.counters if is_count else passes.states).append(path)


def state_check(passes: Passes, *, num_items: int | None, num_workers: int, memory_bytes: int) -> Check:
    """Return `ds.state`."""
    data: dict[str, Any] = {
        "items": passes.num_items,
        "counters": passes.counters,
        "states": passes.states,
        "changed": changed_scalars(passes.before, passes.once)[:20],
        "written": dict(list(passes.written.items())[:20]),
    }
    if passes.counters:
        first = passes.counters[0]
        before, after = passes.before.values[first], passes.once.values[first]
        return Check(
            "ds.state",
            "fail",
            f"items depend on {first}, which every item changes ({before} before, {after} after "
            f"{passes.num_items})",
            where="\n".join(passes.counters[:_SHOWN]),
            matters="Each worker counts in a copy of its own, from the same start: items differ from those "
            "of "
            "num_workers=0, and counts repeat.",
            fix="Let the item follow from its index (and from an epoch that the main program sets); or "
            "count in "
            "shared memory: torch.zeros((), dtype=torch.int64).share_memory_().",
            data={**data, "blocks": ["fork", "spawn", "forkserver"]},
        )
    found = _containers(passes, num_items, num_workers, memory_bytes) or _remains(passes) or _files(passes)
    if found is not None:
        return replace(found, data=data)
    if passes.states:
        return Check(
            "ds.state",
            "info",
            f"items depend on {passes.states[0]}, which every item changes: see ds.rng",
            where="\n".join(passes.states[:_SHOWN]),
            data=data,
        )
    return Check(
        "ds.state", "pass", f"{count_text(passes.num_items, 'item')} leave nothing behind", data=data
    )


def _containers(passes: Passes, num_items: int | None, num_workers: int, memory_bytes: int) -> Check | None:
    grown = growing(passes.before, passes.once)
    last = passes.thrice or passes.twice
    again = growing(passes.once, last) if last is not None else {}
    rounds = 2 if passes.thrice is not None else 1
    leaks = [path for path in grown if again.get(path, 0) >= 0.5 * passes.num_items * rounds]
    if leaks:
        each = again[leaks[0]] / passes.num_items / rounds
        return Check(
            "ds.state",
            "warn",
            f"{leaks[0]} grows by {each:.1f} entries with every item",
            where="\n".join(leaks[:_SHOWN]),
            matters="It grows in every worker, in persistent ones over all epochs, until memory ends.",
            fix="Do not collect in __getitem__; or bound it, e.g. functools.lru_cache(maxsize=...).",
        )
    caches = [path for path in grown if grown[path] >= 0.5 * passes.num_items and path in passes.once.places]
    if not caches:
        return None
    path, workers = caches[0], max(1, num_workers)
    entry = entry_bytes(passes.once.places[path])
    epoch = entry * grown[path] / passes.num_items * (num_items or 0)
    return Check(
        "ds.state",
        "warn" if epoch * workers > _MUCH_MEMORY * memory_bytes else "info",
        f"{path} keeps what was loaded: {size_text(entry)} an item, {size_text(epoch)} an epoch and process",
        where=path,
        matters=f"Every worker fills a cache of its own: {size_text(epoch * workers)} for {workers} "
        "workers, lost "
        "at the end of an epoch unless workers are persistent.",
        fix="Fill it before workers start (forked workers share it), keep it in shared tensors, or bound it.",
    )


def _remains(passes: Passes) -> Check | None:
    for what, name in (("num_threads", "thread"), ("num_children", "child process")):
        each = passes.leaked(what)
        if each >= 0.5:
            return Check(
                "ds.state",
                "warn",
                f"every item leaves {each:.0f} {name} behind",
                matters="They add up over an epoch until the system refuses more.",
                fix="End what an item starts: join threads, wait for processes, use a `with` block.",
            )
    return None


def _files(passes: Passes) -> Check | None:
    same = [path for path, count in passes.written.items() if count >= 0.5 * passes.num_items > 1]
    if same:
        return Check(
            "ds.state",
            "warn",
            f"every item writes {same[0]}",
            where="\n".join(same[:_SHOWN]),
            matters="Workers write it at the same time: one overwrites what another has just written.",
            fix="Give each worker a name of its own (torch.utils.data.get_worker_info().id), or write in the "
            "main process.",
        )
    if len(passes.written) >= 0.5 * passes.num_items > 1:
        first = next(iter(passes.written))
        return Check("ds.state", "info", f"items write files, e.g. {first}", where=first)
    return None


def files_left_check(passes: Passes, *, limit: int | None, num_items: int | None) -> Check | None:
    """Return `env.fds` when items leave files open; None when they do not."""
    each = passes.leaked("descriptors")
    if each < 0.5:
        return None
    room = max(0, (limit or 1 << 30) - passes.once.descriptors)
    until = int(room / each)
    epochs = f", {until / num_items:.1f} epochs of one process" if num_items else ""
    keepers = [path for path in growing(passes.before, passes.once) if path in passes.once.places]
    return Check(
        "env.fds",
        "warn",
        f"every item leaves {each:.0f} open file behind: the limit of {limit} is reached after {until} "
        f"items{epochs}",
        where="\n".join(keepers[:_SHOWN]),
        matters="OSError: [Errno 24] Too many open files, in the middle of a long run.",
        fix="Close what an item opens: `with open(...) as file`, `with Image.open(...) as image`.",
        data={"per_item": each, "limit": limit, "until_items": until},
    )


def memory_left_check(
    passes: Passes, *, memory_bytes: int, num_items: int | None, num_workers: int
) -> Check | None:
    """Return `env.ram` when items leave memory behind; None when they do not."""
    each = passes.leaked("memory_bytes")
    if each < _A_LEAK_BYTES or each * passes.num_items < _LEAST_LEAK_BYTES:
        return None
    until = int(memory_bytes / each)
    keepers = [path for path in growing(passes.before, passes.once) if path in passes.once.places]
    epoch = f", {size_text(each * num_items)} an epoch" if num_items else ""
    return Check(
        "env.ram",
        "warn",
        f"every item leaves {size_text(each)} behind{epoch}: {size_text(memory_bytes)} of memory end after "
        f"{until} items",
        where="\n".join(keepers[:_SHOWN]),
        matters=f"{max(1, num_workers)} workers share that memory; the kernel kills one: "
        "'DataLoader worker (pid N) is killed by signal: Killed'.",
        fix="Do not keep what __getitem__ has loaded (lists, caches without bound, figures, sessions).",
        data={"per_item": each, "until_items": until},
    )
