"""What a benchmark asks for: faces, searches in a gallery, and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsrface.config.catalogue import PROTOCOLS
from dsrface.data.decode import ImageU8, at_size, decode_image, decoded_size, image_size, read_image
from dsrface.data.formats.five_points import Points
from dsrface.data.pairs import Pairs
from dsrface.data.photos.align import align_face
from dsrface.data.photos.faces import nearest_face
from dsrface.types import HIGH_SIZE_PX

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Face:
    """An image of a benchmark.

    Args:
        name: How it is called in the results.
        source: Its file, or its encoded bytes.
        person: Who it shows; every distractor is a person of its own.
        is_low: A native low-resolution face, which has no HR twin.
        points: Five landmarks that it is aligned by; None takes the image as it is, resized.
    """

    name: str
    source: Path | bytes
    person: str
    is_low: bool
    points: Points | None = None

    def read(self, size_px: int) -> ImageU8:
        """Return the face, uint8 [size_px, size_px, 3].

        Raises:
            DataError: the image or its landmarks cannot be used.
        """
        image = self._image()
        if self.points is not None:
            return align_face(image, self.points, size_px=size_px)
        return at_size(image, size_px)

    def read_native(self, sizes: Sequence[int]) -> tuple[ImageU8, ImageU8]:
        """Return the face at 112 px, and at whichever of some sizes is nearest to its own, uint8 [S, S, 3].

        Raises:
            DataError: as `read`.
        """
        image = self._image()
        whole, _ = nearest_face(image, self.points, (HIGH_SIZE_PX,))
        if tuple(sizes) == (HIGH_SIZE_PX,):
            return whole, whole
        return whole, nearest_face(image, self.points, sizes)[0]

    def size(self) -> tuple[int, int]:
        """Return the width and height of its image as the header says.

        Raises:
            DataError: the image cannot be read.
        """
        if isinstance(self.source, bytes):
            return decoded_size(self.source, where=self.name)
        return image_size(self.source)

    def _image(self) -> ImageU8:
        if isinstance(self.source, bytes):
            return decode_image(self.source, where=self.name)
        return read_image(self.source)


@dataclass(frozen=True)
class GallerySearch:
    """Whose are these probes?

    Args:
        title: What distinguishes it from the other searches, e.g. the distance.
        gallery: Positions of the enrolled faces; a person may have several.
        probes: Positions of the faces that are searched for; persons outside the gallery are unknown.
        ranks: Ranks to report.
        fpirs: False-positive identification rates to report, where there are unknown probes.
        open_set_rank: Rank that counts as found at those rates.
    """

    title: str
    gallery: Positions
    probes: Positions
    ranks: tuple[int, ...] = (1, 5, 20)
    fpirs: tuple[float, ...] = ()
    open_set_rank: int = 1


@dataclass(frozen=True)
class PairTest:
    """Is it the same person?

    Args:
        protocol: `HR-HR`, `HR-LR` or `LR-LR`.
        pairs: Positions of faces, or of templates where the benchmark has templates.
    """

    protocol: str
    pairs: Pairs


@dataclass(frozen=True)
class Template:
    """Images of one person that are compared as one.

    Args:
        faces: Positions of its faces.
        media: Photo or video that each is from; frames of one video count as one image.
        person: Who it shows.
    """

    faces: Positions
    media: NDArray[np.int64]
    person: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that was read.

    Args:
        name: As `--protocol` has it.
        faces: All images.
        searches: Identification.
        pair_tests: Verification.
        templates: Images that are compared as one; empty where each stands for itself.
        fars: False-accept rates that are published for it.
        has_twins: Its faces are HR, and their VLR faces are made by reducing them.
        notes: What was assumed, human-readable.
    """

    name: str
    faces: Sequence[Face]
    searches: tuple[GallerySearch, ...] = ()
    pair_tests: tuple[PairTest, ...] = ()
    templates: tuple[Template, ...] = ()
    fars: tuple[float, ...] = (0.1, 0.01, 0.001, 0.0001)
    has_twins: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def is_low(self) -> NDArray[np.bool_]:
        """Which faces are native low-resolution ones."""
        return np.array([face.is_low for face in self.faces], bool)


def nobody_to_find(benchmark: Benchmark) -> str:
    """Return why no search of a benchmark can find anybody; empty where one can, or where it has none."""
    faces = benchmark.faces
    for search in benchmark.searches:
        enrolled = {faces[place].person for place in search.gallery.tolist()}
        if any(faces[place].person in enrolled for place in search.probes.tolist()):
            return ""
    if not benchmark.searches:
        return ""
    (probe, *_), (match, *_) = (
        [faces[place] for place in places[:1].tolist()] or [None]
        for places in (benchmark.searches[0].probes, benchmark.searches[0].gallery)
    )
    if probe is None or match is None:
        return f"There are no images of {'probes' if probe is None else 'the gallery'}."
    return (
        f"No person of the probes is in the gallery: {probe.name} is of {probe.person!r}, "
        f"{match.name} of {match.person!r}."
    )


def twin_tests(pairs: Pairs) -> tuple[PairTest, ...]:
    """Return the three ways to compare pairs of HR faces: as they are, with one reduced, with both."""
    return tuple(PairTest(protocol, pairs) for protocol in PROTOCOLS)
