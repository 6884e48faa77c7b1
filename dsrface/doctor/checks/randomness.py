"""Whether workers, and epochs, draw different random numbers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.members import GENERATOR_FIX, more, places, told_by, without
from dsrface.doctor.report import Finding
from dsrface.doctor.trace.kinds import repeats_in_workers
from dsrface.doctor.trace.paths import locate
from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text
from dsrface.runtime.user_code import is_ordinary, is_users_module

if TYPE_CHECKING:
    from dsrface.doctor.proof.draws import Draws
    from dsrface.doctor.proof.prove import Proof
    from dsrface.doctor.proof.start import Start
    from dsrface.doctor.targets import Target
    from dsrface.doctor.trace.members import Trace

_SHOWN = 8
_SEED_FIX = (
    "Seed it in the worker, in worker_init_fn or at first use, from torch.initial_seed(), which differs "
    "between workers and epochs: np.random.seed(torch.initial_seed() % 2**32)."
)

_KEEP_FIX = "Or keep workers, persistent_workers=True, so that they start once."
_SEEDERS = {"manual_seed", "seed", "seed_everything", "set_seed"}
_LOADED = 2
_MEMORY_FIX = "Where an item depends on those that were loaded before it, let it follow from its index alone."


def _generators(trace: Trace, dataset_class: type, methods: Sequence[str]) -> Finding:
    module = sys.modules.get(dataset_class.__module__)
    outside = _module_generators(module) if module is not None else []
    data = {"members": [member.to_dict() for member in trace.rngs], "module": outside}
    members = trace.rngs if "fork" in methods else without(trace.rngs, trace.temporary)
    paths = [member.path for member in members] + outside
    if trace.rngs and not paths:
        return told_by("ds.temp_tensor", GENERATORS, trace.rngs)
    if not paths:
        return GENERATORS.finding("pass", "no random generator of its own", data=data)
    return GENERATORS.finding(
        "warn",
        f"{paths[0]} is a random generator that every worker gets in the same state{more(paths)}",
        where="\n".join([places(members), *outside]).strip(),
        matters="Each worker draws the same numbers, and again the same in every epoch: "
        "augmentation repeats.",
        fix=GENERATOR_FIX,
        data=data,
    )


def _module_generators(module: ModuleType) -> list[str]:
    """Return the random generators at the top of the user's module that its functions draw from."""
    if not is_users_module(module):
        return []
    used = {name for code in _codes(module) for name in code.co_names}
    return [
        f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if name in used and is_ordinary(value) and repeats_in_workers(value)
    ]


def _codes(module: ModuleType) -> list[CodeType]:
    """Return the code of a module's functions and of its classes' methods."""
    values = [value for value in vars(module).values() if is_ordinary(value)]
    own = [value for value in values if getattr(value, "__module__", "") == module.__name__]
    values = own + [part for value in own if isinstance(value, type) for part in vars(value).values()]
    return [value.__code__ for value in values if type(value) is FunctionType]


def _as_workers_draw(proof: Proof) -> Finding | None:
    draws, found, survey, starts = proof.draws, proof.comparison, proof.survey, proof.starts
    if draws is None or found is None or any(start.evidence.moved for start in starts):
        return None  # items that are read from the wrong place differ, without any draw
    data = {"settles": True, "varying": draws.num_varying, **vars(draws)}
    if survey.get("counters") and (draws.num_varying or found.by_clock):
        text = f"see ds.state: {survey['counters'][0]} is changed by every item"
        return GENERATORS.finding("skip", text, data=data)
    if found.by_clock:
        return GENERATORS.finding(
            "warn",
            "items are drawn by the clock: read at one moment they are equal, a second later they are not",
            matters="Workers that load at the same moment draw the same numbers, and no run can be repeated.",
            fix=f"Draw from the worker's own generator instead of a time. {_SEED_FIX}",
            data=data,
        )
    if draws.equal_workers or draws.equal_starts:
        return _repeats(draws, proof.target, survey, data)
    if not draws.num_varying:
        text = "items do not depend on random numbers"
        if survey.get("rngs"):
            text = f"{survey['rngs'][0]} is not drawn from while items are loaded"
        return GENERATORS.finding("pass", f"{text} ({_natural(starts)} read twice)", data=data)
    text = f"random items differ between workers and between epochs ({_natural(starts)} read by every worker)"
    return GENERATORS.finding("pass", text, data=data)


def _repeats(draws: Draws, target: Target, survey: Mapping[str, Any], data: Mapping[str, Any]) -> Finding:
    init = target.worker_init_fn
    while isinstance(init, functools.partial):
        init = init.func
    name = getattr(init, "__name__", type(init).__name__)
    seeds = draws.same_seeds if draws.equal_workers else draws.fixed_seeds
    paths = [*survey.get("rngs", ()), *survey.get("states", ())] or _hidden_generator(target)
    if init is not None and seeds:
        who = f"worker_init_fn {name} puts the generator of {', '.join(seeds)} into the same state"
        where = f"worker_init_fn {name} ({locate(init, '', init)})"
    elif paths:
        who, where = f"{paths[0]} has the same state", "\n".join(paths[:_SHOWN])
    elif lines := _seeding_code(target):
        who, where = "items seed a generator themselves and draw the same numbers", "\n".join(lines[:_SHOWN])
    else:
        who, where = "the items draw the same numbers", ""
    when = "in every worker" if draws.equal_workers else "in every epoch"
    both = " and in every epoch" if draws.equal_workers and draws.equal_starts else ""
    if survey.get("rngs") or seeds:
        fixes = [_SEED_FIX]
    else:  # a number may be the state of a generator of one's own; an iterator or a queue is none
        fixes = [_SEED_FIX, _MEMORY_FIX] if not paths or _is_number(target, paths[0]) else [_MEMORY_FIX]
    if not draws.equal_workers:
        fixes.append(_KEEP_FIX)
    if target.persistent_workers and not draws.equal_workers:
        return GENERATORS.finding(
            "info",
            f"{who} whenever workers start; these are kept, so that they start once",
            where=where,
            matters="Without persistent_workers=True every epoch would draw the same.",
            data=data,
        )
    return GENERATORS.finding(
        "fail" if draws.equal_workers else "warn",
        f"{who} {when}{both}",
        where=where,
        matters="Seen with real workers: worker 0 and 1 drew the same for the same items"
        if draws.equal_workers
        else "Seen with real workers: two starts drew the same for the same items: augmentation repeats.",
        fix=" ".join(fixes),
        data={**data, "blocks": list(METHODS) if draws.equal_workers else []},
    )


def _is_number(target: Target, path: str) -> bool:
    """Return whether a member is a whole number, or cannot be found."""
    root, *names = path.split(".")
    value = target.roots.get(root)
    for name in names:
        value = getattr(value, name, None)
    return value is None or hasattr(value, "__index__")


def _hidden_generator(target: Target) -> list[str]:
    """Return the path of a generator that is no member: in a closure, in an object of another library.

    Of several it is the one that moves while an item is loaded.
    """
    from dsrface.doctor.proof.owners import find
    from dsrface.doctor.proof.seeding import generators_in
    from dsrface.doctor.survey.observe import generator_state

    roots = target.roots
    known = [generator for generator in generators_in(roots.values()) if repeats_in_workers(generator)]
    before = [generator_state(generator) for generator in known]
    for key in target.first_keys(_LOADED):
        target.load(key)
    drawn = [id(generator) for generator, state in zip(known, before) if generator_state(generator) != state]
    way = find(roots, lambda value: id(value) in drawn)
    return [way[-1][0]] if way else []


def _seeding_code(target: Target) -> list[str]:
    """Return the functions that loading an item runs and that seed a generator."""
    from dsrface.doctor.survey.code_facts import attributes_of, code_of_items

    functions = code_of_items(target.roots)
    seeding = [function for function in functions if attributes_of(function) & _SEEDERS]
    return [f"{locate(function, '', function)} in {function.__name__}" for function in seeding]


def _natural(starts: list[Start]) -> str:
    batch = starts[0].evidence.batches.get(0)
    return count_text(len(batch.items) if batch is not None else 0, "item")


GENERATORS = Check(
    id="ds.rng",
    order=80,
    worst="fail",
    title=("whether workers and epochs draw different random numbers"),
    why=(
        "torch gives the global generators another seed in each worker and epoch. A np.random.Generator, "
        "random.Random or torch.Generator that is a member, a state of one's own, or a worker_init_fn with "
        "a constant seed starts equal in each worker and in every epoch."
    ),
    how=(
        "What real workers draw for the same keys, in two workers and in two starts; generators among the "
        "members and module variables. Under spawn and forkserver a torch.Generator is reported by "
        "ds.temp_tensor, because workers do not even start."
    ),
    fix="Seed at first use from torch.initial_seed(), or draw from (seed, epoch, index).",
    runs={
        "members": lambda _, subject: _generators(
            subject.trace, type(subject.target.dataset), subject.methods
        ),
        "compared": lambda _, proof: _as_workers_draw(proof),
    },
)
