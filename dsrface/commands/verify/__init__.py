"""`dsrface verify`: do two photos show one person?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsrface.commands.shared.people.faces import (
    FaceReader,
    is_large,
    load_networks,
    note_doubts,
    note_large,
    see,
)
from dsrface.commands.shared.people.sheet import Tile, write_sheet
from dsrface.commands.shared.people.threshold import decide
from dsrface.commands.shared.result import CommandResult
from dsrface.config.people import VerifyConfig
from dsrface.data.photos.given import check_one_photo
from dsrface.errors import EXIT_ANSWER_IS_NO, EXIT_DONE
from dsrface.events import Emit, Note
from dsrface.models.judge_files import judge_by_default
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device


@dataclass(frozen=True)
class VerifyResult(CommandResult):
    """The answer.

    Args:
        is_same: Whether the score reaches the threshold.
        score: Cosine of both embeddings.
        threshold: Cosine from which on two photos show one person.
        far: Share of strangers that it accepts; None when unknown.
        native_px: Side of each face in its photo.
    """

    is_same: bool
    score: float
    threshold: float
    far: float | None
    native_px: tuple[float, float]

    @property
    def exit_code(self) -> int:
        """0, or 1 when the answer is no."""
        return EXIT_DONE if self.is_same else EXIT_ANSWER_IS_NO


def run(config: VerifyConfig, *, emit: Emit) -> VerifyResult:
    """Compare two photos.

    Args:
        config: Complete configuration.
        emit: Takes notes and progress.

    Raises:
        DsrfaceError: a network, a photo or the threshold cannot be had.
    """
    for path in (config.first, config.second):
        check_one_photo(path)
    device = choose_device(config.device)
    weights = config.weights or judge_by_default()
    recogniser, dsr = load_networks(weights, config.dsr, device, vlr_size=config.vlr_size)
    decision = decide(config, recogniser, dsr, device, emit)
    emit(Note(decision.text))
    reader = FaceReader(dsr, align=config.align)
    faces = [reader.read(path, path.name) for path in (config.first, config.second)]
    note_doubts(faces, emit)
    if config.threshold is None and all(map(is_large, faces)):
        note_large(faces, dsr, emit)
    seen = see(faces, recogniser, dsr, batch_size=2, device=device)
    score = float(seen.embeddings[0] @ seen.embeddings[1])
    is_same = score >= decision.score
    if config.sheet is not None:
        pairs = zip(faces, seen.images, strict=True)
        tiles = [tile for face, image in pairs for tile in (Tile(face.given, face.name), Tile(image, ""))]
        write_sheet(
            config.sheet,
            [[*tiles[:3], Tile(tiles[3].image, f"score {score:.3f}")]],
            ("first photo", "seen", "second photo", "seen"),
        )
    return VerifyResult(
        summary=f"{'The same person' if is_same else 'Not the same person'}: score {score:.3f}; "
        f"{decision.text}.",
        location=str(config.sheet or config.first),
        next_command=_next(config),
        is_same=is_same,
        score=score,
        threshold=decision.score,
        far=decision.far,
        native_px=(float(faces[0].native_px), float(faces[1].native_px)),
    )


def _next(config: VerifyConfig) -> str:
    networks = "".join(
        f" {flag} {quoted(path)}"
        for flag, path in (("--weights", config.weights), ("--dsr", config.dsr))
        if isinstance(path, Path)
    )
    return f"dsrface enrol PHOTOS{networks} --out people.npz"
