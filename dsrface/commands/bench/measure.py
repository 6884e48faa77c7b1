"""Rates of several routes, measured in turn, so that a machine that changes its pace changes it for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dsrface.events import Emit, Progress

# Does its work for about so many seconds and returns units per second.
Route = Callable[[float], float]


@dataclass(frozen=True)
class Row:
    """One line of a bench's result.

    Args:
        bench: loader, precompute or finetune.
        name: What was measured.
        unit: Of median and spread, e.g. `pairs/s`.
        median: Over the rounds.
        spread: Largest minus smallest, over the rounds.
        ratio_to_ceiling: Median over the rounds of this value over the ceiling's in the same round; None
            where there is no ceiling.
    """

    bench: str
    name: str
    unit: str
    median: float
    spread: float
    ratio_to_ceiling: float | None = None


def interleave(
    bench: str,
    routes: Mapping[str, Route],
    *,
    ceiling: str,
    unit: str,
    rounds: int,
    seconds: float,
    emit: Emit = lambda _: None,
) -> list[Row]:
    """Measure every route once a round; the order of the routes moves on by one each round.

    Args:
        bench: Which bench this is.
        routes: By name.
        ceiling: The route that the others are compared with.
        unit: Of the rates.
        rounds: How often each is measured.
        seconds: How long, each time.
        emit: Takes the progress.
    """
    names = list(routes)
    rates: dict[str, list[float]] = {name: [] for name in names}
    total = rounds * len(names)
    for number in range(rounds):
        shift = number % len(names)
        for count, name in enumerate(names[shift:] + names[:shift], start=number * len(names)):
            emit(Progress(f"bench {bench}, {len(names)} routes in {rounds} rounds", count, total))
            rates[name].append(routes[name](seconds))
    emit(Progress(f"bench {bench}", total, total))
    return [row(bench, name, unit, rates[name], ceiling=rates[ceiling]) for name in names]


def row(bench: str, name: str, unit: str, values: list[float], *, ceiling: list[float] | None = None) -> Row:
    """Summarise the values of one route."""
    ratio = None
    if ceiling is not None:
        ratio = statistics.median(mine / top for mine, top in zip(values, ceiling, strict=True))
    return Row(bench, name, unit, statistics.median(values), max(values) - min(values), ratio)


def rate(step: Callable[[], int], seconds: float) -> float:
    """Call `step` for a while, once unmeasured; return the sum of what it returned over the time it took."""
    step()
    done = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or not done:
        done += step()
    return done / (time.perf_counter() - begin)
