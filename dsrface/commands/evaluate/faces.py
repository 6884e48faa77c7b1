"""Sections of the report that show faces: every kind of image side by side, and the hardest pairs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.hardest import Hardest, HardPair, PersonErrors
from dsrface.commands.evaluate.result import HR, Evaluation
from dsrface.commands.evaluate.strips import Strip
from dsrface.commands.shared.markup import download, note, readable, row, section, table, table_section
from dsrface.data.decode import encode_png
from dsrface.data.layout import FaceSplit

_SHOWN_PX = 112
_SHOWN_PERSONS = 12


def strips_section(evaluation: Evaluation, strips: Sequence[Strip]) -> str:
    """Return the chosen faces in all their forms."""
    if not strips:
        return ""
    kinds = [name for name in ("VLR", "bicubic", "DSR", HR) if name in strips[0].images]
    by = "PSNR gain of DSR over bicubic" if "DSR" in kinds else "PSNR of bicubic"
    rows = [_strip_row(strip, kinds) for strip in strips]
    words = f"Chosen by rule: the two worst, median and best of {evaluation.counts.images:,} by {by}."
    return table_section("The images themselves", ["Face", *kinds], rows, words, style="strips")


def _strip_row(strip: Strip, kinds: Iterable[str]) -> str:
    cells = []
    for kind in kinds:
        caption = f"{strip.psnr_db[kind]:.2f} dB" if kind in strip.psnr_db else "&nbsp;"
        style = ' class="pixels"' if kind == "VLR" else ""
        image = _image(strip.images[kind], f"{kind} of {strip.name}", style=style)
        cells.append(f'<td>{image}<span class="ci">{caption}</span></td>')
    label = f'{escape(strip.title)}<br><span class="ci name">{_name(strip.name)}</span>'
    return f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>'


def hardest_section(
    hardest: Hardest, split: FaceSplit, images: Mapping[int, Mapping[str, NDArray[np.uint8]]]
) -> str:
    """Return the hardest pairs as images, and the errors of each person."""
    rows = [_pair_row(pair, hardest, split, images) for pair in hardest.pairs]
    head = ["Pair", "HR photo", f"{hardest.images} of the other", "HR of the other"]
    words = (
        f"{escape(hardest.images)}, {escape(hardest.recogniser)}: the pairs of one person with the lowest "
        "scores and those of two persons with the highest, at most one of the same persons. At "
        f"{hardest.threshold:.3f} both error rates are equal."
    )
    pairs = table("The hardest pairs", head, rows, style="strips") + note(words)
    return section("The hardest pairs", pairs + _persons(hardest.persons))


def _pair_row(
    pair: HardPair,
    hardest: Hardest,
    split: FaceSplit,
    images: Mapping[int, Mapping[str, NDArray[np.uint8]]],
) -> str:
    kinds = ((pair.gallery, HR), (pair.probe, hardest.images), (pair.probe, HR))
    cells = "".join(
        f"<td>{_image(images[place][kind], f'{kind} of {split.names[place]}')}"
        f'<span class="ci name">{_name(split.names[place])}</span></td>'
        for place, kind in kinds
    )
    wrong = (pair.score >= hardest.threshold) != pair.is_same
    kind = "one person" if pair.is_same else "two persons"
    label = f'{kind}<br><span class="ci">score {pair.score:.3f}{", judged wrongly" if wrong else ""}</span>'
    return f'<tr><th scope="row">{label}</th>{cells}</tr>'


def _persons(persons: Sequence[PersonErrors]) -> str:
    head = ["Person", "One person: missed", "of", "Two persons: accepted", "of"]
    values = [
        [item.person, str(item.missed), str(item.genuine), str(item.accepted), str(item.impostor)]
        for item in persons
    ]
    rows = [row([escape(readable(cell)) for cell in line]) for line in values[:_SHOWN_PERSONS]]
    words = "Errors at that threshold; a pair of two persons counts for both."
    if len(persons) > _SHOWN_PERSONS:
        words += f" The {_SHOWN_PERSONS} with most errors of {len(persons)}."
    return (
        "<details><summary>Errors by person</summary>"
        + table("Errors by person", head, rows, style="narrow")
        + note(words)
        + download("persons.csv", ["person", "missed", "genuine", "accepted", "impostor"], values)
        + "</details>"
    )


def _image(image: NDArray[np.uint8], alt: str, *, style: str = "") -> str:
    words = escape(readable(alt), quote=True)
    return f'<img{style} src="{_data_uri(image)}" width="{_SHOWN_PX}" height="{_SHOWN_PX}" alt="{words}">'


def _name(name: str) -> str:
    """Return a file's name that is broken where a reader would: after a folder, else after an underscore."""
    parts = re.findall("[^/]*/|[^/]+", escape(readable(name)).replace("_", "_<wbr>"))
    return "".join(f'<span class="part">{part}</span>' for part in parts)


def _data_uri(image: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image, level=9)).decode("ascii")
