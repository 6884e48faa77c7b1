"""An item's time as it stands in the report: by kind of waiting, by what is done, and what its batch adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsrface.doctor.sizing.measure import ItemCost
from dsrface.runtime.text import figure_text

WITH_WORKERS = "num_workers="  # how a prediction of another number of workers starts

OTHER, UNEXPLAINED, COLLATE = "other", "unexplained", "collate"
_LEAST_SHARE = 0.01
_MOST_PARTS = 10


def account(
    cost: ItemCost, parts: Mapping[str, float], batch_parts: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return `per_item_ms`, `item_parts_ms` and `batch_parts_ms` for the report, in milliseconds an item.

    Args:
        cost: Of one item.
        parts: Seconds by name, see `parts.parts_of`; what is below 1 % of them is summed up.
        batch_parts: Seconds of an item by what is done with its batch, see `handover.batch_costs`.
    """
    kinds = {
        "cpu": cost.cpu_s,
        "other_processors": cost.helper_s,
        "wait_core": cost.wait_s,
        "blocked": cost.blocked_s,
    }
    return {
        "per_item_ms": _milliseconds(kinds),
        "item_parts_ms": _milliseconds(_largest(parts)),
        "batch_parts_ms": _milliseconds(batch_parts),
    }


def confidence_line(recommended: Mapping[str, Any]) -> str:
    """Return how sure the number is; empty where no workers are possible, for then nothing was weighed.

    Args:
        recommended: The report's recommendation.
    """
    is_forced = recommended["confidence"] == "high" and not recommended["measurements"]
    if is_forced and not recommended["num_workers"]:
        return ""
    low, high = recommended["range"]
    equal = f": {low} to {high} workers are equal within noise" if low != high else ""
    return f"confidence {recommended['confidence']}{equal}"


def parts_line(recommended: Mapping[str, Any]) -> str:
    """Return where an item's time goes, in one line; empty when it was not measured.

    Args:
        recommended: The report's recommendation.
    """
    parts, batch = recommended["item_parts_ms"], recommended["batch_parts_ms"]
    total = sum(parts.values())
    if not total:
        return ""
    shares = ", ".join(f"{name} {share:.0%}" for name, ms in parts.items() if (share := ms / total) >= 0.005)
    with_batch = ", ".join(f"{name} {figure_text(ms)} ms" for name, ms in batch.items())
    return f"an item's {figure_text(total)} ms: {shares}" + (f"; in its batch: {with_batch}" if batch else "")


def _largest(parts: Mapping[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    named = [name for name in parts if name != UNEXPLAINED and parts[name] >= _LEAST_SHARE * total]
    shown = {name: parts[name] for name in named[:_MOST_PARTS]}
    rest = parts.get(UNEXPLAINED, 0.0)
    other = total - rest - sum(shown.values())
    return {**shown, OTHER: max(0.0, other), UNEXPLAINED: rest} if parts else {}


def _milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(1e3 * value, 4) for name, value in seconds.items()}


def what_if_line(predictions: Sequence[Mapping[str, Any]]) -> str:
    """Return the predictions of a report in one line; those of other numbers of workers are left out."""
    shown = [
        f"{each['change']} {figure_text(each['items_per_s'])} "
        f"({' to '.join(figure_text(bound) for bound in each['interval'])})"
        for each in predictions
        if not each["change"].startswith(WITH_WORKERS)
    ]
    return f"items/s with {', '.join(shown)}" if shown else ""
