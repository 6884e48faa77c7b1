"""The rules, in the order in which they are listed."""

from __future__ import annotations

from collections.abc import Mapping

from dsrface.doctor.scan.rule import Rule
from dsrface.doctor.scan.rules import items, loaders, members

RULES: Mapping[str, Rule] = {
    rule.id: rule
    for rule in (
        members.HANDLE,
        members.LAMBDA,
        members.LOCAL_CLASS,
        members.CELL_CLASS,
        members.LOCK,
        members.GENERATOR,
        members.PATH_LIST,
        items.CUDA,
        items.FIXED_SEED,
        items.NESTED_LOADER,
        items.UNSHARDED,
        loaders.MAIN_GUARD,
        loaders.WORKER_SEED,
        loaders.LOCAL_FUNCTION,
        loaders.FORK_ONLY,
    )
}
