"""What the loader would do with other workers, other cores, decoded data, smaller images or a faster step.

The model of `loader_model` with one thing changed, scaled by what was measured. Pure functions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsrface.doctor.sizing.account import WITH_WORKERS
from dsrface.doctor.sizing.loader_model import LoaderFacts, Window
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.recommend import analytic, caps

GETTING = ("open and read", "network", "decode")  # what data that is decoded in memory needs no more
_RESIZING = ("resize", "crop", "scale", "thumbnail")
_WORKERS = (0, 1, 2, 4, 8, 16)
_MORE_CORES = (2, 4)
_MUCH_SMALLER = 0.8
# Half the width of the interval as a share, before noise; from benchmarks/doctor_what_if.py.
_MODEL, _CHANGED = 0.10, 0.15
_BOUND = 1.2  # times as long as the other: this is what a measurement shows


@dataclass(frozen=True)
class Prediction:
    """What a change would bring.

    Args:
        change: In words.
        num_workers: With which the best is reached.
        items_per_s: With the consumer, where it is known.
        low: Lower end of the interval.
        high: Upper end.
        step_ms: Milliseconds from one batch to the next, training included where it is known.
    """

    change: str
    num_workers: int
    items_per_s: float
    low: float
    high: float
    step_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as it stands in the report."""
        return {
            "change": self.change,
            "num_workers": self.num_workers,
            "items_per_s": round(self.items_per_s, 1),
            "interval": [round(self.low, 1), round(self.high, 1)],
            "step_ms": round(self.step_ms, 2),
        }


def what_if(
    facts: LoaderFacts, windows: Sequence[Window], parts: Mapping[str, float], *, kept_pixels: float = 1.0
) -> list[Prediction]:
    """Return a prediction for each change that can be judged.

    Args:
        facts: Of the loader as it is.
        windows: What was timed; scales the model.
        parts: Seconds of an item by name, see `parts.parts_of`.
        kept_pixels: Share of the decoded pixels that an item keeps.
    """
    model = _Scaled(facts, windows)
    most = min(caps(facts).values())
    found = [
        model.predict(f"{WITH_WORKERS}{number}", facts, number=number)
        for number in _WORKERS
        if number <= most
    ]
    found += [model.predict(change, changed) for change, changed in _changes(facts, parts, kept_pixels)]
    return found


def _changes(
    facts: LoaderFacts, parts: Mapping[str, float], ratio: float
) -> Iterator[tuple[str, LoaderFacts]]:
    cores = facts.cores.effective
    for times in _MORE_CORES:
        yield f"{times * cores} cores", replace(facts, cores=replace(facts.cores, effective=times * cores))
    total = sum(parts.values())
    shares = {name: seconds / total for name, seconds in parts.items()} if total else {}
    getting = sum(shares.get(name, 0.0) for name in GETTING)
    if getting:
        yield "decoded data in memory", _cheaper(facts, getting)
    if getting and ratio < _MUCH_SMALLER:
        resizing = sum(share for name, share in shares.items() if _resizes(name))
        # Resizing reads every pixel, then once more those of the columns that it keeps.
        smaller = getting * (1 - ratio) + resizing * (1 - 2 * ratio / (1 + math.sqrt(ratio)))
        yield "images resized offline", _cheaper(facts, smaller)
    if facts.consumer_rate:
        yield "a step twice as fast", replace(facts, consumer_rate=2 * facts.consumer_rate)


def _resizes(name: str) -> bool:
    return ":" not in name and any(word in name.lower() for word in _RESIZING)


def _cheaper(facts: LoaderFacts, share: float) -> LoaderFacts:
    """Return the facts with items that take this share less time; what they wait goes first."""
    cost = facts.cost
    saved = share * cost.own_s
    waited = min(saved, cost.blocked_s)
    rest = min(1.0, (saved - waited) / max(1e-12, cost.own_s - cost.blocked_s))
    left: ItemCost = replace(
        cost,
        blocked_s=cost.blocked_s - waited,
        cpu_s=cost.cpu_s * (1 - rest),
        helper_s=cost.helper_s * (1 - rest),
        helped_s=cost.helped_s * (1 - rest),
    )
    return replace(facts, cost=left)


class _Scaled:
    """The model, with loading and the step each scaled by the measurements that one of them bounds.

    Args:
        facts: Of the loader as it was measured.
        windows: The measurements; may be none.
    """

    def __init__(self, facts: LoaderFacts, windows: Sequence[Window]) -> None:
        self.facts = facts
        self.loading = self.step = 1.0
        self.noise = statistics.median([window.spread for window in windows]) if windows else 0.0
        self.measured = {window.num_workers: window for window in windows if window.median}
        load = {number: 1 / facts.supply(number) for number in self.measured}
        consume = _consume_s(facts)
        took = {number: 1 / window.median for number, window in self.measured.items()}
        by_step = [took[n] / consume for n in took if n and consume > _BOUND * load[n]]
        self.step = statistics.median(by_step or [1.0])
        by_load = [took[n] / load[n] for n in took if n and load[n] > _BOUND * consume]
        if 0 in took:
            by_load.append(max(0.0, took[0] - self.step * consume) / load[0])
        self.loading = statistics.median(by_load or [1.0])

    def predict(self, change: str, facts: LoaderFacts, *, number: int | None = None) -> Prediction:
        """Return what these facts bring with a number of workers, or with the best one."""
        chosen = analytic(facts) if number is None else number
        load, consume = self.loading / facts.supply(chosen), self.step * _consume_s(facts)
        rate = 1 / (max(load, consume) if chosen else load + consume)
        width = (_CHANGED if number is None else _MODEL) + 2 * self.noise + self.facts.cost.wait_fraction / 4
        seen = self.measured.get(chosen)
        if number is not None and seen is not None:
            rate, width = seen.median, 2 * max(seen.spread, self.noise, 0.02)
        return Prediction(
            change,
            chosen,
            rate,
            rate * max(0.0, 1 - width),
            rate * (1 + width),
            1e3 * facts.batch_size / rate,
        )


def _consume_s(facts: LoaderFacts) -> float:
    """Return the seconds of the training step an item; 0 when unknown."""
    return 1 / facts.consumer_rate if facts.consumer_rate else 0.0
