"""What `finetune` says of the thresholds that it has chosen."""

from __future__ import annotations

from pathlib import Path

from dsrface.metrics.thresholds import StoredThresholds
from dsrface.models.sources import facts_of
from dsrface.runtime.text import count_text


def thresholds_text(run: Path) -> str:
    """Return the thresholds in the weights that a run folder names, each with its interval by person."""
    stored = facts_of(run).get("thresholds")
    if stored is None:
        return "no threshold is in the recogniser's file: the validation persons cannot support one"
    found = StoredThresholds.from_json(stored)
    images, size = found.conditions.get("images"), found.conditions.get("vlr_size")
    faces = f"{images} faces" + ("" if images == "HR" else f" of {size} px")
    parts = [
        f"{item.score.value:.3f}"
        + ("" if item.score.low is None else f" [{item.score.low:.3f}, {item.score.high:.3f}]")
        + f" for a FAR of {item.far:g}"
        for item in found.chosen
    ]
    persons = count_text(found.chosen[0].num_persons, "validation person")
    return f"thresholds in the recogniser's file, chosen on {persons}, {faces}: {', '.join(parts)}"
