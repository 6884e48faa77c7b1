"""What the commands of `tests/faults` read."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.synthetic.photo_folder import draw_dataset
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr, write_recogniser
from tests.faults.attempts import make


def make_inputs(folder: Path) -> None:
    """Draw photos and a data set, write networks, and make a cache and a gallery of people of them."""
    draw_dataset(folder / "photos", num_persons=6, images_per_person=2, seed=1)
    make_data(folder / "data", persons=(3, 2, 2), images=3)
    write_dsr(folder / "dsr.safetensors", tail=0.01)
    write_recogniser(folder / "recogniser.safetensors", seed=0)
    make(folder, "precompute", folder)
    make(folder, "enrol", folder)
