"""The HTML report: one file that holds everything, for a browser, a printer or an e-mail."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from dsrface.commands.evaluate.charts import (
    det_chart,
    difference_chart,
    histogram_chart,
    line_class,
    roc_chart,
)
from dsrface.commands.evaluate.findings import DRAWN
from dsrface.commands.evaluate.plain import plain_answer
from dsrface.commands.evaluate.result import RAW, Cell, Evaluation, TarAtFar
from dsrface.commands.shared.markup import (
    document,
    download,
    download_svg,
    note,
    readable,
    row,
    scrolling,
    section,
    table,
    table_section,
)
from dsrface.config.catalogue import MAIN_PROTOCOL, PROTOCOLS
from dsrface.metrics.bootstrap import Estimate
from dsrface.metrics.verification import min_impostors
from dsrface.runtime.files import write_text

_QUALITY = (("psnr_db", 2), ("ssim", 3), ("psnr_y_db", 2))  # figure of `Quality`, digits


def write_report(path: Path, evaluation: Evaluation, *faces: str) -> None:
    """Write the report.

    Args:
        path: The HTML file.
        evaluation: What was measured.
        faces: Sections that show faces; see `evaluate.faces`.
    """
    write_text(path, render(evaluation, *faces))


def render(evaluation: Evaluation, *faces: str) -> str:
    """Return the report as HTML."""
    sections = [
        _head(evaluation),
        _verification(evaluation),
        _thresholds(evaluation),
        _differences(evaluation),
        _quality(evaluation),
        *faces,
        _roc(evaluation),
        _histograms(evaluation),
        _identification(evaluation),
        _matrix(evaluation),
        _limits(evaluation),
        _method(evaluation),
    ]
    return document(f"dsrface evaluation, {evaluation.vlr_size} px", sections)


def _head(evaluation: Evaluation) -> str:
    counts = evaluation.counts
    facts = [
        (f"{evaluation.vlr_size} px", "VLR faces"),
        (f"{counts.persons:,}", f"persons, {evaluation.split} split"),
        (f"{counts.images:,}", "images"),
    ]
    if counts.genuine:
        facts += [(f"{counts.genuine:,}", "genuine pairs"), (f"{counts.impostor:,}", "impostor pairs")]
    boxes = "".join(f"<li><b>{escape(value)}</b> {escape(name)}</li>" for value, name in facts)
    details = "".join(f"<li>{escape(text)}</li>" for text in evaluation.details)
    return (
        '<header><p class="kicker">dsrface evaluate</p>'
        + (f'<p class="plain">{escape(plain)}</p>' if (plain := plain_answer(evaluation)) else "")
        + (f'<p class="drawn">{escape(DRAWN)}</p>' if DRAWN in evaluation.limits else "")
        + f"<h1>{escape(evaluation.headline)}</h1>"
        + (f'<ul class="details">{details}</ul>' if details else "")
        + f'<ul class="facts">{boxes}</ul></header>'
    )


def _verification(evaluation: Evaluation) -> str:
    if not evaluation.cells:
        return ""
    far, reject_all = evaluation.lowest_far, evaluation.reject_all
    has_accuracy = reject_all is not None
    head = [
        "Images",
        "Recogniser",
        "EER %",
        "AUC",
        "" if far is None else f"TAR % at FAR {far:g}",
        "d&prime;",
    ]
    head += ["Accuracy %"] if has_accuracy else []
    columns = [name for name in head if name]
    body = []
    for name, protocol in PROTOCOLS.items():
        cells = [cell for cell in evaluation.cells if cell.protocol == name]
        if not cells:
            continue
        title = escape(protocol.meaning)
        body.append(f'<tr class="group"><th colspan="{len(columns)}" scope="colgroup">{title}</th></tr>')
        body += [_verification_row(cell, evaluation, far, has_accuracy=has_accuracy) for cell in cells]
    body.append(
        f'<tr class="group"><th colspan="{len(columns)}" scope="colgroup">What nothing earns</th></tr>'
    )
    tar = [] if far is None else [f"{far * 100:g}"]
    body.append(row(["", "chance", "50", "0.5", *tar, "0", *(["50"] if has_accuracy else [])], style="base"))
    if reject_all is not None:
        blank = ["&ndash;"] * (len(columns) - 3)
        for name, share in (("reject all", reject_all), ("accept all", 1 - reject_all)):
            body.append(row(["", name, *blank, f"{share * 100:.1f}"], style="base"))
    has_interval = any(cell.eer.low is not None for cell in evaluation.cells)
    words = (
        f"{'Grey brackets: 95 % intervals by person. ' * has_interval}EER: lower is better; everything else: "
        "higher. ~ few impostor pairs for this FAR."
    )
    if has_accuracy:
        words += f" Accuracy: mean &plusmn; standard deviation over {escape(evaluation.counts.folds_from)}."
    title = "Verification: is it the same person?"
    return section(
        title, table(title, columns, body) + note(words) + _csv(evaluation) + _far_table(evaluation)
    )


def _verification_row(cell: Cell, evaluation: Evaluation, far: float | None, *, has_accuracy: bool) -> str:
    is_winner = cell.protocol == MAIN_PROTOCOL and cell.name == evaluation.winner
    name = escape(cell.recogniser) + (' <span class="badge">lowest EER</span>' if is_winner else "")
    cells = [
        f'<span class="swatch {line_class(cell)}"></span>{escape(cell.images)}',
        name,
        _figure(cell.eer, 100, 1),
        _figure(cell.auc, 1, 3),
    ]
    if far is not None:
        cells.append(_tar(next(item for item in cell.tars if item.far == far)))
    cells.append(_figure(cell.d_prime, 1, 2))
    if has_accuracy:
        accuracy = cell.accuracy
        cells.append(
            "&ndash;"
            if accuracy is None
            else f'{accuracy.mean * 100:.1f} <span class="ci">&plusmn; {accuracy.std * 100:.1f}</span>'
        )
    style = "winner" if is_winner else "raw" if cell.recogniser == RAW else ""
    return row(cells, style=style)


def _csv(evaluation: Evaluation) -> str:
    """Return the link that saves the figures of verification, rates in [0, 1]."""
    head = ["protocol", "images", "recogniser", "eer", "eer_low", "eer_high", "auc", "auc_low", "auc_high"]
    rows = [
        [cell.protocol, cell.images, cell.recogniser]
        + [value for item in (cell.eer, cell.auc) for value in (item.value, item.low, item.high)]
        for cell in evaluation.cells
    ]
    return download("verification.csv", head, rows)


def _far_table(evaluation: Evaluation) -> str:
    cells = evaluation.main_cells
    if not cells or len(cells[0].tars) < 2:  # one rate is in the table above
        return ""
    rows = [
        row([escape(cell.images), escape(cell.recogniser), *(_tar(item) for item in cell.tars)])
        for cell in cells
    ]
    head = ["Images", "Recogniser", *(f"FAR {item.far:g}" for item in cells[0].tars)]
    words = (
        "At most that FAR, no interpolation. A rate needs at least 3 / FAR impostor pairs; "
        f"there are {evaluation.counts.impostor:,}."
    )
    return (
        "<details><summary>True-accept rates at every false-accept rate, HR gallery</summary>"
        f"{table('True-accept rates', head, rows)}{note(words)}</details>"
    )


def _thresholds(evaluation: Evaluation) -> str:
    if not evaluation.thresholds:
        return ""
    head = ["Images", "Recogniser", "FAR asked", "threshold", "FAR here", "TAR here"]
    rows = [
        row(
            [
                escape(item.images),
                escape(item.recogniser),
                f"{item.chosen.far:g}",
                _figure(item.chosen.score, 1, 3),
                _figure(item.far, 100, 2),
                _figure(item.tar, 100, 1),
            ]
        )
        for item in evaluation.thresholds
    ]
    words = (
        f"Chosen on {evaluation.thresholds[0].chosen.num_persons} validation persons, HR against VLR, and "
        f"applied to the {escape(evaluation.split)} split; rates in %. A rate here that is far from the one "
        "that was asked for shows what a threshold is worth on other people."
    )
    return section(
        "A threshold for use", table("A threshold for use", head, rows, style="narrow") + note(words)
    )


def _differences(evaluation: Evaluation) -> str:
    shown = [
        item
        for item in evaluation.comparisons
        if item.metric == "eer" and item.protocol == MAIN_PROTOCOL and RAW not in item.first
    ]
    if not shown:
        return ""
    words = (
        "Both figures of a difference come from the same pairs and the same draws of persons. Where the "
        "interval covers 0, no difference is shown; that is not a proof that there is none."
    )
    chart = difference_chart(shown)
    figure = f'<figure class="chart">{chart}</figure>'
    return section("Is the difference real?", figure + note(words) + download_svg("differences.svg", chart))


def _quality(evaluation: Evaluation) -> str:
    rows = [
        row([escape(item.images), *(_figure(getattr(item, name), 1, digits) for name, digits in _QUALITY)])
        for item in evaluation.quality
    ]
    gains = {item.metric: item for item in evaluation.comparisons if item.protocol == "images"}
    if gains:
        figures = [_figure(gains[name].difference, 1, digits, sign="+") for name, digits in _QUALITY]
        rows.append(row(["DSR - bicubic", *figures], style="winner"))
    words = (
        f"Mean of the images' own values, {evaluation.vlr_size} to {evaluation.high_size} px, RGB, 8 bits; Y "
        "is the luma of ITU-R BT.601, whose PSNR published tables give. PSNR rewards smooth images: a gain "
        "says that pixels are closer, not that a person is recognised better."
    )
    head = ["Images", "PSNR, dB", "SSIM", "PSNR of Y, dB"]
    return table_section("Image quality against the HR face", head, rows, words, style="narrow")


def _roc(evaluation: Evaluation) -> str:
    main = evaluation.main_cells
    if not main:
        return ""
    ceilings = [
        cell for cell in evaluation.cells if PROTOCOLS[cell.protocol].is_ceiling and cell.recogniser != RAW
    ]
    shown = [*ceilings, *main]
    named = [(line_class(cell), cell.name) for cell in shown] + [("c-chance r-chance", "chance")]
    legend = "".join(
        f'<li><svg width="34" height="10" aria-hidden="true"><path class="{style}" d="M1 5H33"/></svg> '
        f"{escape(name)}</li>"
        for style, name in named
    )
    chart = roc_chart(shown, num_impostor=evaluation.counts.impostor)
    det = det_chart(
        [cell for cell in shown if cell.recogniser != RAW], num_impostor=evaluation.counts.impostor
    )
    points = [[cell.images, cell.recogniser, *point] for cell in shown for point in cell.roc]
    return section(
        "Error rates at every threshold, HR gallery",
        f'<div class="charts"><figure class="chart"><figcaption>ROC</figcaption>{chart}</figure>'
        f'<figure class="chart"><figcaption>DET: both kinds of error, lower left is better</figcaption>{det}'
        f'</figure></div><ul class="legend">{legend}</ul>'
        + download_svg("roc.svg", chart)
        + download_svg("det.svg", det)
        + download("curves.csv", ["images", "recogniser", "far", "tar"], points),
    )


def _histograms(evaluation: Evaluation) -> str:
    main = evaluation.main_cells
    if not main:
        return ""
    figures = []
    for cell in main:
        alike = [item.histogram for item in main if (item.recogniser == RAW) == (cell.recogniser == RAW)]
        low, high = min(item.low for item in alike), max(item.high for item in alike)
        chart = histogram_chart(cell, low=low, high=high)
        figures.append(f"<figure><figcaption>{escape(cell.name)}</figcaption>{chart}</figure>")
    words = (
        '<span class="swatch h-genuine"></span>genuine pairs '
        '<span class="swatch h-impostor"></span>impostor pairs; cosine of the embeddings, each kind scaled '
        "to its own number of pairs."
    )
    return section("Scores, HR gallery", f'<div class="grid2">{"".join(figures)}</div>' + note(words))


def _identification(evaluation: Evaluation) -> str:
    if evaluation.gallery is None:
        return ""
    gallery = evaluation.gallery
    has_rank5 = any(item.rank5 is not None for item in evaluation.identification)
    has_tpir = any(item.tpir is not None for item in evaluation.identification)
    head = ["Probes", "Recogniser", "Rank 1 %", *(["Rank 5 %"] if has_rank5 else [])]
    head += [f"TPIR % at FPIR {gallery.fpir:g}"] if has_tpir else []
    rows = []
    for item in sorted(evaluation.identification, key=lambda entry: entry.recogniser == RAW):
        cells = [escape(item.images), escape(item.recogniser), _figure(item.rank1, 100, 1)]
        cells += [_figure(item.rank5, 100, 1)] if has_rank5 else []
        cells += [_figure(item.tpir, 100, 1)] if has_tpir else []
        rows.append(row(cells, style="raw" if item.recogniser == RAW else ""))
    chance = ["", "chance", f"{100 / gallery.num_enrolled:.1f}"]
    chance += [f"{100 * min(1, 5 / gallery.num_enrolled):.1f}"] if has_rank5 else []
    chance += ["&ndash;"] if has_tpir else []
    rows.append(row(chance, style="base"))
    words = (
        f"Gallery: one HR photo of each of {gallery.num_enrolled} persons. Probes: {gallery.num_known} other "
        f"photos of them, {gallery.num_unknown} photos of persons who are not enrolled. A probe's own photo "
        "is never in the gallery; ties count against the right person."
    )
    if not has_tpir:
        words += f" TPIR at FPIR {gallery.fpir:g} needs {min_impostors(gallery.fpir)} unknown probes."
    return section(
        "Identification: who is it?", table("Identification", head, rows, style="narrow") + note(words)
    )


def _matrix(evaluation: Evaluation) -> str:
    if not evaluation.matrix:
        return ""
    columns = list(dict.fromkeys((cell.degradation, cell.size_px) for cell in evaluation.matrix))
    head = ["Network", "Trained on", *(f"{kind}, {size_px} px" for kind, size_px in columns)]
    rows = []
    for network in dict.fromkeys(cell.network for cell in evaluation.matrix):
        own = [cell for cell in evaluation.matrix if cell.network == network]
        figures = [_figure(cell.gain_db, 1, 2, sign="+") for cell in own]
        rows.append(row([escape(readable(network)), escape(own[0].trained_on), *figures]))
    words = (
        "PSNR gain over bicubic on the same images, in dB. The HR faces of the split are reduced in each "
        "way; a network for another size gets the faces resized to its own."
    )
    title = "Trained on one degradation and size, tested on another"
    return table_section(title, head, rows, words)


def _limits(evaluation: Evaluation) -> str:
    return section(
        "What this does not show", f"<ul>{''.join(f'<li>{escape(t)}</li>' for t in evaluation.limits)}</ul>"
    )


def _method(evaluation: Evaluation) -> str:
    facts = [("data", evaluation.data), ("pairs", evaluation.counts.pairs_from)]
    facts += [(role, _described(entry)) for role, entry in evaluation.networks.items()]
    facts += [(name.replace("_", " "), str(value)) for name, value in evaluation.settings.items()]
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(readable(text))}</td></tr>'
        for name, text in facts
        if text
    )
    return section(
        "How it was measured",
        scrolling("How it was measured", f'<table class="method"><tbody>{rows}</tbody></table>'),
    )


def _described(entry: Mapping[str, str]) -> str:
    """Return a network in a line: what it is, and what is known of its images and its licence."""
    name = " ".join(entry[key] for key in ("name", "path") if key in entry) + _short_sha(entry)
    return "; ".join([name, *(f"{key}: {entry[key]}" for key in ("input", "licence") if key in entry)])


def _figure(found: Estimate | None, factor: float, digits: int, *, sign: str = "") -> str:
    if found is None or found.value is None:
        return "&ndash;"
    text = f"{found.value * factor:{sign}.{digits}f}"
    if found.low is not None and found.high is not None:
        low, high = found.low * factor, found.high * factor
        text += f' <span class="ci">[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]</span>'
    return text


def _tar(item: TarAtFar) -> str:
    if item.support == "none":
        return '<span class="ci">too few pairs</span>'
    return ("~" if item.support == "weak" else "") + _figure(item.tar, 100, 1)


def _short_sha(entry: Mapping[str, str]) -> str:
    return f", sha256 {entry['sha256'][:12]}" if "sha256" in entry else ""
