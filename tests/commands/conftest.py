"""A data set small enough to train on in a test: drawn faces, three splits, one VLR size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def make_data(root: Path, *, persons=(4, 3, 2), images=4, size_px=16, is_flat=False) -> Path:
    from dsrface.data.decode import write_png
    from dsrface.data.degrade import Degradation, degrade
    from dsrface.data.draws import generator
    from dsrface.data.synthetic.drawing import draw_face

    degradation = Degradation("classic", size_px)
    number = 0
    for split, num_persons in zip(("train", "val", "test"), persons, strict=True):
        for _ in range(num_persons):
            number += 1
            for image in range(images):
                high = draw_face(number, image, size_px=112)
                low = degrade(high, degradation, rng=generator(0, 0, image, "test"))
                if is_flat:
                    name, base, folder = f"p{number}_{image}.png", root, "vlr_images"
                else:
                    name, base, folder = (
                        f"p{number}/{image}.png",
                        root / split,
                        f"vlr_images_{size_px}x{size_px}",
                    )
                write_png(base / "hr_images" / name, high)
                write_png(base / folder / name, low)
    if not is_flat:
        degradations = {str(size_px): degradation.to_dict()}
        info = {"schema_version": 1, "degradations": degradations, "content_sha256": "0" * 64}
        (root / "dataset.json").write_text(json.dumps(info))
    return root


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def flat_data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("flat") / "data", persons=(8, 4, 4), is_flat=True)
