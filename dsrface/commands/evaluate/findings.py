"""The answer in words: who wins, whether a difference is shown, and what these figures do not show."""

from __future__ import annotations

from collections.abc import Sequence

from dsrface.commands.evaluate.figures import Scored
from dsrface.commands.evaluate.result import (
    BICUBIC,
    DSR,
    RAW,
    REFERENCES,
    Cell,
    Comparison,
    Counts,
    Quality,
)
from dsrface.config.catalogue import MAIN_PROTOCOL
from dsrface.metrics.bootstrap import MIN_DRAWS, MIN_PERSONS, Estimate
from dsrface.runtime.text import count_text

NEVER_EVIDENCE = (
    "A super-resolved face is a reconstruction: the network drew what is likely, not what was there. "
    "It is never evidence of who somebody is."
)
DRAWN = "Drawn faces: these figures prove that the pipeline works, not that it recognises people."
_FEW_PERSONS = 50
_SEEN_SPLITS = {
    "train": "A network was trained on these persons: expect far worse figures on others.",
    "val": "Checkpoints were chosen on the val persons: the figures flatter. Report the test split.",
}


def percent(found: Estimate) -> str:
    """Return a rate as `6.9 % [4.1, 9.8]`, without the brackets when there is no interval."""
    return _with_interval(found, 100, 1, " %")


def decibel(found: Estimate) -> str:
    """Return a PSNR as `25.12 dB [24.90, 25.40]`."""
    return _with_interval(found, 1, 2, " dB")


def points(found: Estimate) -> str:
    """Return a difference of rates as `-0.6 points [-1.1, -0.1]`."""
    return _with_interval(found, 100, 1, " points", sign="+")


def quality_answer(
    quality: Sequence[Quality], comparisons: Sequence[Comparison], vlr_size: int
) -> tuple[str, str]:
    """Return the sentence on image quality and the name of the better images."""
    bicubic = next(item for item in quality if item.images == BICUBIC)
    gain = next((item for item in comparisons if item.metric == "psnr_db"), None)
    if gain is None:
        return f"Bicubic from {vlr_size} px has a PSNR of {decibel(bicubic.psnr_db)} against HR.", BICUBIC
    text = _with_interval(gain.difference, 1, 2, " dB", sign="+")
    if gain.verdict == "not judged":
        return f"Image quality at {vlr_size} px, not judged: DSR - bicubic = {text} PSNR.", ""
    if gain.verdict == "no difference shown":
        return (
            f"Image quality at {vlr_size} px: no difference shown between DSR and bicubic ({text} PSNR).",
            "",
        )
    winner = DSR if gain.verdict == "better" else BICUBIC
    return f"Image quality at {vlr_size} px: {winner} wins, DSR - bicubic = {text} PSNR.", winner


def verification_answer(
    scored: Scored, comparisons: Sequence[Comparison], vlr_size: int
) -> tuple[str, list[str], str]:
    """Return the headline, further sentences, and the winner's name.

    The winner is the cell with the lowest EER against an HR gallery; a higher AUC decides between equal ones.
    The judge takes no part where there is another recogniser: it says who is right, not who is best.
    """
    main = [cell for cell in scored.cells if cell.protocol == MAIN_PROTOCOL]
    ranked = sorted((cell for cell in main if cell.recogniser not in REFERENCES), key=_merit)
    best = ranked[0]
    headline = f"At {vlr_size} px, {best.name} has the lowest EER: {percent(best.eer)}"
    own = [
        item
        for item in comparisons
        if item.protocol == MAIN_PROTOCOL and item.metric == "eer" and RAW not in item.first
    ]
    by_dsr = next(
        (i for i in own if i.first == f"{DSR} + {best.recogniser}" and i.second.startswith(BICUBIC)), None
    )
    if by_dsr is not None:
        headline += f". DSR against bicubic: {_said(by_dsr)}"
    details = []
    if len(ranked) > 1:
        rival = scored.compare(best, ranked[1], "eer")
        details.append(f"Next is {ranked[1].name} with {percent(ranked[1].eer)}: {_margin(rival)}.")
    details += [f"{item.first} against {item.second}: {_said(item)}." for item in own if item is not by_dsr]
    raw = next((cell for cell in main if cell.recogniser == RAW and cell.images == best.images), None)
    if raw is not None and scored.compare(best, raw, "eer").verdict != "better":
        details.append(
            f"{best.name} is not shown to beat the cosine of 28x28 grey pixels, which has an EER of "
            f"{percent(raw.eer)}, so its figures say little."
        )
    return headline + ".", details, best.name


def limits(
    counts: Counts,
    *,
    is_drawn: bool,
    split: str,
    trained_on: bool | None,
    is_untuned: bool,
    num_draws: int,
    cells: Sequence[Cell],
) -> tuple[str, ...]:
    """Return what the figures do not show, the gravest first.

    Args:
        counts: What was measured on.
        is_drawn: Whether the data set holds drawn faces.
        split: Its split.
        trained_on: Whether a network was trained on this very data set; None where that is not recorded.
        is_untuned: Whether the fine-tuned recogniser holds the same numbers as the frozen one.
        num_draws: Bootstrap draws.
        cells: Verification.
    """
    found = []
    if is_drawn:
        found.append(DRAWN)
    if is_untuned:
        found.append(
            "The frozen and the fine-tuned recogniser hold the same numbers: no fine-tuning is measured here."
        )
    if split in _SEEN_SPLITS and trained_on is None:
        found.append(
            f"Which data set the networks were trained on is not recorded: was it this one, {split} flatters."
        )
    elif split in _SEEN_SPLITS and trained_on:
        found.append(_SEEN_SPLITS[split])
    found += _few_persons(counts.persons)
    if num_draws < MIN_DRAWS:
        found.append(f"Fewer than {MIN_DRAWS} bootstrap draws, so no intervals: nothing is judged.")
    if any(_is_pinned(cell.eer) for cell in cells):
        found.append(
            "An interval of width 0 means that no error was seen in any draw, not that none can happen."
        )
    found += _few_impostors(counts.impostor, cells)
    found.append("One data set: other cameras, poses and groups of people will give other figures.")
    found.append(NEVER_EVIDENCE)
    return tuple(found)


def _few_persons(num_persons: int) -> list[str]:
    persons = count_text(num_persons, "person")
    if num_persons < MIN_PERSONS:
        untrusted = f"below {MIN_PERSONS} no interval can be trusted, so none is given and nothing is judged"
        return [f"Only {persons}: {untrusted}."]
    return [f"Only {persons}: differences must be large to show."] if num_persons < _FEW_PERSONS else []


def _few_impostors(num_impostor: int, cells: Sequence[Cell]) -> list[str]:
    rates = ", ".join(f"{item.far:g}" for item in cells[0].tars if item.support != "good") if cells else ""
    few = f"{num_impostor} impostor pairs are few for a FAR of {rates}"
    marks = "below 3 / FAR a rate is not given, below 30 / FAR it is marked with ~"
    return [f"{few}: {marks}."] if rates else []


def _said(item: Comparison) -> str:
    return f"{item.verdict}, EER {points(item.difference)}"


def _margin(item: Comparison) -> str:
    if item.verdict == "not judged":
        return f"the difference is not judged ({points(item.difference)})"
    if item.verdict == "no difference shown":
        return f"no difference between the two is shown ({points(item.difference)})"
    return f"the difference is {points(item.difference)}"


def _merit(cell: Cell) -> tuple[float, float]:
    return (
        1.0 if cell.eer.value is None else cell.eer.value,
        0.0 if cell.auc.value is None else -cell.auc.value,
    )


def _is_pinned(found: Estimate) -> bool:
    return found.value == 0 and found.low == found.high == 0


def _with_interval(found: Estimate, factor: float, digits: int, unit: str, *, sign: str = "") -> str:
    if found.value is None:
        return "not defined"
    text = f"{_number(found.value * factor, digits, sign)}{unit}"
    if found.low is None or found.high is None:
        return text
    low, high = (_number(end * factor, digits, sign) for end in (found.low, found.high))
    return f"{text} [{low}, {high}]"


def _number(value: float, digits: int, sign: str) -> str:
    """Return a rounded number; what rounds to zero has no sign."""
    return f"{round(value, digits) or 0.0:{sign if round(value, digits) else ''}.{digits}f}"
