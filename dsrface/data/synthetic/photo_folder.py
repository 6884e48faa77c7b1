"""A photo folder of drawn faces, for a first run without any photo.

Drawn faces prove that the pipeline works; they say nothing about accuracy on people.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsrface.data import draws
from dsrface.data.decode import encode_png, write_image_bytes
from dsrface.data.synthetic.drawing import draw_face

DRAWN_MARK = ".drawn"  # a file in a photo folder: its images are drawn, not photographed


def draw_dataset(
    folder: Path,
    *,
    num_persons: int,
    images_per_person: int,
    seed: int,
    on_face: Callable[[int, int], None] | None = None,
) -> None:
    """Write a photo folder: `person_0001/person_0001_0001.png` and so on.

    A hidden file marks the folder, so that `prepare` records and `evaluate` says that its faces are drawn.

    Args:
        folder: Made when missing.
        num_persons: Persons.
        images_per_person: Images of each.
        seed: Other seeds give other persons.
        on_face: Called with the number of images done and their total.
    """
    total = num_persons * images_per_person
    for number in range(total):
        person, variation = divmod(number, images_per_person)
        image = draw_face(draws.name_index(f"{seed}/{person}"), variation)
        name = f"person_{person + 1:04d}"
        write_image_bytes(folder / name / f"{name}_{variation + 1:04d}.png", encode_png(image))
        if on_face is not None:
            on_face(number + 1, total)
    (folder / DRAWN_MARK).touch()
