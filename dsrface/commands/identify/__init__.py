"""`dsrface identify`: who is in these photos? Unknown people are answered as unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsrface.commands.shared.people.faces import (
    FaceReader,
    Seen,
    load_networks,
    note_large,
    read_faces,
    see,
)
from dsrface.commands.shared.people.gallery import Gallery, located, read_gallery
from dsrface.commands.shared.people.sheet import Tile, write_sheet
from dsrface.commands.shared.result import CommandResult
from dsrface.config.people import IdentifyConfig
from dsrface.data.photos.given import find_photos
from dsrface.errors import RunError, WeightsError
from dsrface.events import Emit, Note
from dsrface.models.loaded import LoadedModel
from dsrface.models.sources import is_program
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device

_MAX_ROWS = 200  # of a sheet


@dataclass(frozen=True)
class Match:
    """An enrolled person and how similar the face is to theirs.

    Args:
        person: Name.
        score: Cosine.
    """

    person: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What is said of one photo.

    Args:
        name: Of the photo.
        person: Who it is; None for unknown.
        matches: The best ones, whether accepted or not.
        native_px: Side of the face in the photo.
        num_faces: Faces found in the photo; the largest was taken.
    """

    name: str
    person: str | None
    matches: tuple[Match, ...]
    native_px: float
    num_faces: int


@dataclass(frozen=True)
class IdentifyResult(CommandResult):
    """Who is in the photos.

    Args:
        answers: One a photo.
        threshold: Cosine from which on a match counts.
        false_matches: Of a hundred strangers, about how many would be taken for somebody enrolled, at most;
            None when unknown.
        skipped: Photos left out: name, reason and message.
    """

    answers: tuple[Answer, ...]
    threshold: float
    false_matches: float | None
    skipped: tuple[dict[str, str], ...]


def run(config: IdentifyConfig, *, emit: Emit) -> IdentifyResult:
    """Compare every photo with everybody who is enrolled.

    Args:
        config: Complete configuration.
        emit: Takes notes and progress.

    Raises:
        DsrfaceError: the gallery, its networks or a photo cannot be used.
    """
    gallery = read_gallery(config.gallery)
    root, names = find_photos(config.photos)
    device = choose_device(config.device)
    weights = located(gallery.origin.weights, config.gallery)
    network = located(gallery.origin.dsr, config.gallery) if gallery.origin.dsr else None
    _check_trust(config, weights, network)
    recogniser, dsr = load_networks(weights, network, device)
    _check_networks(config, gallery, recogniser, dsr)
    threshold = gallery.origin.threshold if config.threshold is None else config.threshold
    given = f"threshold {threshold:.3f}, as given"
    emit(Note(gallery.origin.threshold_text if config.threshold is None else given))
    reader = FaceReader(dsr, align=config.align)
    faces, skipped = read_faces(root, names, reader, on_bad_image=config.on_bad_image, emit=emit)
    if config.threshold is None:
        note_large(faces, dsr, emit)
    seen = see(faces, recogniser, dsr, batch_size=config.batch_size, device=device)
    answers = answer(seen, gallery, threshold=threshold, top=config.top)
    if config.sheet is not None:
        matches = [f"match {number + 1}" for number in range(len(answers[0].matches))]
        titles = ["photo", "seen", *matches]
        write_sheet(config.sheet, _rows(seen, answers, gallery)[:_MAX_ROWS], titles)
    num_known = sum(item.person is not None for item in answers)
    far = gallery.origin.far if config.threshold is None else None
    false_matches = None if far is None else 100 * (1 - (1 - far) ** len(gallery.persons))
    warning = (
        ""
        if false_matches is None
        else f" Of 100 strangers up to {false_matches:.0f} would be taken for one of the "
        f"{len(gallery.persons)} enrolled."
    )
    location = config.gallery if config.sheet is None else config.sheet
    return IdentifyResult(
        summary=f"{num_known} of {len(answers)} photos show somebody enrolled, "
        f"{len(answers) - num_known} are unknown; threshold {threshold:.3f}.{warning}",
        location=str(location),
        next_command=f"dsrface identify {quoted(config.photos)} --gallery {quoted(config.gallery)}"
        f"{' --trust-gallery' if config.trust_gallery else ''} --json",
        answers=answers,
        threshold=threshold,
        false_matches=false_matches,
        skipped=tuple(skipped),
    )


def answer(seen: Seen, gallery: Gallery, *, threshold: float, top: int) -> tuple[Answer, ...]:
    """Return what is said of each face.

    Args:
        seen: The faces.
        gallery: Enrolled people.
        threshold: Cosine from which on the best match is the answer.
        top: Best matches to list.
    """
    scores = seen.embeddings @ gallery.embeddings.T
    answers = []
    for face, row in zip(seen.faces, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        matches = tuple(Match(gallery.persons[number], float(row[number])) for number in best)
        person = matches[0].person if matches[0].score >= threshold else None
        answers.append(Answer(face.name, person, matches, float(face.native_px), face.num_faces))
    return tuple(answers)


def _check_trust(config: IdentifyConfig, *networks: Path | None) -> None:
    """Run no code because a file says so, which may come from anybody."""
    program = next((network for network in networks if network is not None and is_program(network)), None)
    if program is not None and not config.trust_gallery:
        raise WeightsError(
            f"The gallery names a network that is a program: {program}",
            id="program-named",
            where=config.gallery,
            hint="Programs are not run unless asked for. If you made the gallery: "
            f"dsrface identify {quoted(config.photos)} --gallery {quoted(config.gallery)} --trust-gallery",
        )


def _check_networks(
    config: IdentifyConfig, gallery: Gallery, recogniser: LoadedModel, dsr: LoadedModel | None
) -> None:
    origin = gallery.origin
    for loaded, sha256 in ((recogniser, origin.weights_sha256), (dsr, origin.dsr_sha256)):
        if loaded is not None and loaded.sha256 != sha256:
            raise RunError(
                f"{loaded.path} is not what the gallery was made with.",
                id="stale",
                where=config.gallery,
                hint="Enrol again: embeddings of different networks cannot be compared.",
            )


def _rows(seen: Seen, answers: Sequence[Answer], gallery: Gallery) -> list[list[Tile]]:
    """Return a row a photo: the face as it is, what the network saw, the best matches."""
    rows = []
    for face, image, found in zip(seen.faces, seen.images, answers, strict=True):
        row = [
            Tile(face.given, Path(face.name).name),
            Tile(image, f"= {found.person}" if found.person else "unknown"),
        ]
        row += [
            Tile(gallery.faces[gallery.persons.index(match.person)], f"{match.score:.2f} {match.person}")
            for match in found.matches
        ]
        rows.append(row)
    return rows
