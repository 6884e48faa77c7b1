"""`dsrface enrol`: how known people look, in one file for `identify`."""

from __future__ import annotations

from dataclasses import dataclass

from dsrface.commands.shared.early import persons_of
from dsrface.commands.shared.people.faces import FaceReader, load_networks, read_faces, see
from dsrface.commands.shared.people.gallery import Origin, gather_people, stored_place, write_gallery
from dsrface.commands.shared.people.threshold import decide
from dsrface.commands.shared.result import CommandResult
from dsrface.config.people import EnrolConfig
from dsrface.data.photos.given import find_photos
from dsrface.data.photos.scan import pattern_hint
from dsrface.events import Emit, Note
from dsrface.models.judge_files import judge_by_default
from dsrface.models.sources import is_program
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device
from dsrface.runtime.text import count_text


@dataclass(frozen=True)
class EnrolResult(CommandResult):
    """Who was enrolled.

    Args:
        persons: Person to number of photos.
        threshold: Cosine from which on a match counts.
        far: Share of strangers that it accepts; None when unknown.
        skipped: Photos left out: name, reason and message.
    """

    persons: dict[str, int]
    threshold: float
    far: float | None
    skipped: tuple[dict[str, str], ...]


def run(config: EnrolConfig, *, emit: Emit) -> EnrolResult:
    """Embed every photo and write one row a person.

    Args:
        config: Complete configuration.
        emit: Takes notes and progress.

    Raises:
        DsrfaceError: a network, a photo or the threshold cannot be had.
    """
    root, names = find_photos(config.gallery)
    rule, attributed = persons_of(config, names)
    emit(Note(f"persons: {rule.text}"))
    if rule.is_flat and len(set(attributed.values())) == 1 and (hint := pattern_hint(names)):
        emit(Note(f"all photos are of one person by that. {hint.strip()}", is_warning=True))
    for name in names:
        if name not in attributed:
            emit(Note(f"skipped {name}: it {rule.why_not}", is_warning=True))
    device = choose_device(config.device)
    weights = config.weights or judge_by_default()
    recogniser, dsr = load_networks(weights, config.dsr, device, vlr_size=config.vlr_size)
    decision = decide(config, recogniser, dsr, device, emit)
    emit(Note(decision.text))
    reader = FaceReader(dsr, align=config.align)
    faces, skipped = read_faces(root, list(attributed), reader, on_bad_image=config.on_bad_image, emit=emit)
    seen = see(faces, recogniser, dsr, batch_size=config.batch_size, device=device)
    origin = Origin(
        weights=stored_place(weights, config.out),
        weights_sha256=recogniser.sha256,
        dsr="" if config.dsr is None else stored_place(config.dsr, config.out),
        dsr_sha256="" if dsr is None else dsr.sha256,
        threshold=decision.score,
        far=decision.far,
        threshold_text=decision.text,
    )
    persons = [attributed[face.name] for face in faces]
    gallery = gather_people(persons, seen.embeddings, seen.images, origin)
    write_gallery(config.out, gallery)
    left_out = f", {len(skipped)} left out" if skipped else ""
    trust = " --trust-gallery" if any(map(is_program, filter(None, (weights, config.dsr)))) else ""
    return EnrolResult(
        summary=f"{count_text(len(gallery.persons), 'person')} from {count_text(len(faces), 'photo')}"
        f"{left_out}; {decision.text}.",
        location=str(config.out),
        next_command=f"dsrface identify PHOTOS --gallery {quoted(config.out)}{trust}",
        persons=dict(zip(gallery.persons, gallery.counts.tolist(), strict=True)),
        threshold=decision.score,
        far=decision.far,
        skipped=tuple(skipped),
    )
