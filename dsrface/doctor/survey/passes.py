"""The same items loaded once, twice, three times: what changed, what grew, and what the items depend on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrface.doctor.survey.observe import (
    Reading,
    changed_contents,
    changed_scalars,
    drawn_generators,
    growing,
)
from dsrface.doctor.trace.places import Place

_SHOWN = 6


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
        written: Files that items open for writing, with how often.
        left: Those of them that are still there, with their bytes.
        made: Files that one item makes in place and others read, each with the line that opened it.
        leaves_more: The same items have left further files when they were loaded again.
    """

    before: Reading
    once: Reading
    twice: Reading | None = None
    thrice: Reading | None = None
    num_items: int = 0
    counters: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    written: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    leaves_more: bool = False

    @property
    def drawn(self) -> list[str]:
        """Generators that items draw from, by path."""
        return drawn_generators(self.before, self.once)

    @property
    def keepers(self) -> list[str]:
        """Containers that grow while items are loaded, by path."""
        return [path for path in growing(self.before, self.once) if path in self.once.places]

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


def judge_state(passes: Passes, keys: Collection[Any], load_digests: Callable[[], list[str]]) -> None:
    """Find which of the changed members the items depend on.

    A member is put back and the same items are loaded again, under equal generators. Items that are equal
    then, and different without putting it back, depend on it. Where that is so of some items only, as when
    each has an entry of its own in a list, it has to be so twice. Where no member alone explains it, all are
    put back together.

    Args:
        passes: Gets `counters` and `states`.
        keys: Of some items.
        load_digests: Loads these and returns their fingerprints.
    """
    changed = [*changed_scalars(passes.before, passes.once), *changed_contents(passes.before, passes.once)]
    changed = sorted(changed, key=lambda path: _distance(path, keys))[:_SHOWN]
    found = [path for path in changed if _depend([passes.once.places[path]], load_digests)]
    if (
        not found
        and len(changed) > 1
        and _depend([passes.once.places[path] for path in changed], load_digests)
    ):
        found = changed  # on all of them, as a running mean does on its sum and its count
    for path in found:
        (passes.counters if _counts_items(passes, path) else passes.states).append(path)


def _distance(path: str, keys: Collection[Any]) -> int:
    """Order members of the data set first, and of entries for each item those of the items in question."""
    numbers = re.findall(r"\[(\d+)\]", path)
    is_of_others = bool(numbers) and not any(int(number) in keys for number in numbers)
    return 2 * (not path.startswith("dataset")) + is_of_others


def _depend(places: list[Place], load_digests: Callable[[], list[str]]) -> bool:
    """Return whether items depend on some members."""
    try:
        rows, num_rows = _dependent_rows(places, load_digests)
        if rows and len(rows) < num_rows:
            rows &= _dependent_rows(places, load_digests)[0]
    except Exception:  # noqa: BLE001 - a property without a setter, an item that raises now
        return False
    return bool(rows)


def _dependent_rows(places: list[Place], load_digests: Callable[[], list[str]]) -> tuple[set[int], int]:
    """Return which of the items depend on some members, and how many of them could."""
    saved = [place.saved() for place in places]
    first = load_digests()
    moved = load_digests()
    for place, value in zip(places, saved):
        place.put_back(value)
    again = load_digests()
    changed = {row for row, digest in enumerate(first) if moved[row] != digest}
    return {row for row in changed if again[row] == first[row]}, len(changed)


def _counts_items(passes: Passes, path: str) -> bool:
    """Return whether a member counts the items that were loaded, rather than being a generator's state."""
    if path not in passes.before.values:
        return True
    before, after = passes.before.values[path], passes.once.values[path]
    if type(before) not in (int, float) or type(after) not in (int, float):
        return False
    return bool(abs(after - before) == passes.num_items)
