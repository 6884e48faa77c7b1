"""Every check, found in the modules of this package: order, explanations, and the stages that make them.

A new check is a `Check` at the top level of a module here; nothing else has to name it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import dsrface.doctor.checks as package
from dsrface.doctor.checks.check import Check
from dsrface.doctor.report import Finding
from dsrface.errors import UsageError

_GROUPS = ("env", "mp", "ds", "worker", "perf")


@lru_cache(maxsize=1)
def all_checks() -> Mapping[str, Check]:
    """Return every check by id, in the order of the report."""
    found: dict[str, Check] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            if isinstance(value, Check):
                found[value.id] = value
    return dict(sorted(found.items(), key=lambda entry: _place(entry[1])))


def get(id: str) -> Check:
    """Return a check.

    Raises:
        UsageError: there is none with this id; near ones are named.
    """
    if id not in all_checks():
        raise unknown_check(id)
    return all_checks()[id]


def unknown_check(name: str) -> UsageError:
    """Return the error for a name that fits no check; it names near ones."""
    ids = list(all_checks())
    near = difflib.get_close_matches(name, ids, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(ids)}."
    return UsageError(f"There is no check {name!r}.", id="unknown-check", hint=hint)


def run_stage(stage: str, context: Any, *, wanted: Collection[str] | None = None) -> Iterator[Finding]:
    """Make every check of a stage, in order, each guarded.

    Args:
        stage: One of `check.STAGE_NEEDS`.
        context: What the checks of that stage look at.
        wanted: Ids to make; None for all.
    """
    for check in all_checks().values():
        if stage in check.runs and (wanted is None or check.id in wanted):
            found = check.run(stage, context)
            if found is not None:
                yield found


def _place(check: Check) -> tuple[int, int, str]:
    group = check.id.partition(".")[0]
    return _GROUPS.index(group) if group in _GROUPS else len(_GROUPS), check.order, check.id
