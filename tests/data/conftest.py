"""Data sets made from real faces, in the shapes that users have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsrface.data import draws
from dsrface.data.decode import read_image, walk_images, write_png
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.synthetic.photo_folder import draw_dataset


@pytest.fixture(scope="session")
def bad_dir(faces_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of EXPECTED.csv in one folder, odd names and loops of links included."""
    folder = tmp_path_factory.mktemp("bad") / "bad"
    shutil.copytree(faces_dir / "bad", folder)
    done = subprocess.run([sys.executable, str(folder / "make_special.py"), str(folder)], check=False)
    if done.returncode and os.name == "nt":
        pytest.skip("some of the odd names and links cannot be made on Windows")
    assert done.returncode == 0
    return folder


@pytest.fixture(scope="session")
def flat_dir(faces_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The users' layout: train/hr_images and train/vlr_images with <person>_<rest>.png."""
    root = tmp_path_factory.mktemp("flat")
    settings = Degradation("classic", 16)
    for name in list(walk_images(faces_dir / "orl"))[:120]:
        face = read_image(faces_dir / "orl" / name)
        file = Path(name).with_suffix(".png").name
        write_png(root / "train" / "hr_images" / file, face)
        low = degrade(face, settings, rng=draws.generator(0, 0, 0, "test"))
        write_png(root / "train" / "vlr_images" / file, low)
    return root


@pytest.fixture(scope="session")
def drawn_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn persons with four images each, in folders."""
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    draw_dataset(folder, num_persons=6, images_per_person=4, seed=1)
    return folder
