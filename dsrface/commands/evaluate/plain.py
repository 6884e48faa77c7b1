"""The answer for a reader who knows no error rates: what was found and what to do, before the figures."""

from __future__ import annotations

from dsrface.commands.evaluate.result import BICUBIC, DSR, JUDGE, RAW, Comparison, Evaluation
from dsrface.config.catalogue import MAIN_PROTOCOL
from dsrface.metrics.bootstrap import MIN_DRAWS, MIN_PERSONS

_VERDICTS = {
    "better": "Super-resolution helps: use it.",
    "worse": "Super-resolution hurts: enlarge plainly instead.",
    "no difference shown": "No benefit of super-resolution is shown: enlarge plainly, or measure with more "
    "persons.",
    "not judged": "Whether super-resolution helps is not judged: measure with at least "
    f"{MIN_PERSONS} persons and {MIN_DRAWS} draws.",
}


def plain_answer(evaluation: Evaluation) -> str:
    """Return whether super-resolution helped, and whether to use it; empty where that was not measured."""
    found = _dsr_against_bicubic(evaluation)
    if found is None:
        return ""
    cells = {cell.name: cell for cell in evaluation.main_cells}
    with_dsr, without = cells[found.first].eer.value, cells[found.second].eer.value
    if with_dsr is None or without is None:
        return _VERDICTS[found.verdict]
    return (
        f"{_VERDICTS[found.verdict]} Telling {evaluation.counts.persons} persons apart from faces of "
        f"{evaluation.vlr_size} pixels, {_who(found)} is wrong in {with_dsr * 100:.0f} of 100 comparisons "
        f"with super-resolution and in {without * 100:.0f} with plain enlarging."
    )


def _dsr_against_bicubic(evaluation: Evaluation) -> Comparison | None:
    """Return the comparison by the judge, or with the recogniser of the winner, or the first there is."""
    found = [
        item
        for item in evaluation.comparisons
        if item.protocol == MAIN_PROTOCOL
        and item.metric == "eer"
        and item.first.startswith(DSR)
        and item.second.startswith(BICUBIC)
        and RAW not in item.first
    ]
    by_recogniser = {item.first.partition(" + ")[2]: item for item in found}
    winner = evaluation.winner.partition(" + ")[2]
    return by_recogniser.get(JUDGE) or by_recogniser.get(winner) or next(iter(found), None)


def _who(found: Comparison) -> str:
    return "an independent recogniser" if found.first == f"{DSR} + {JUDGE}" else "the recogniser"
