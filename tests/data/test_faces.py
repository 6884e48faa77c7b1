from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrface.data.decode import walk_images
from dsrface.data.synthetic.drawing import draw_face
from dsrface.data.synthetic.photo_folder import draw_dataset


def test_the_same_seeds_give_the_same_face_and_others_another() -> None:
    face = draw_face(1, 2)
    assert face.shape == (112, 112, 3)
    assert face.dtype == np.uint8
    assert (draw_face(1, 2) == face).all()
    assert (draw_face(1, 3) != face).any()
    assert (draw_face(2, 2) != face).any()
    assert draw_face(1, 2, size_px=56).shape == (56, 56, 3)


def test_identities_can_be_told_apart_but_not_by_pixels_alone() -> None:
    thumbs, labels = [], []
    for person in range(20):
        for variation in range(5):
            small = (
                Image.fromarray(draw_face(person, variation))
                .convert("L")
                .resize((28, 28), Image.Resampling.BOX)
            )
            values = np.asarray(small, float).ravel()
            values -= values.mean()
            thumbs.append(values / np.linalg.norm(values))
            labels.append(person)
    from sklearn.metrics import roc_auc_score

    scores = np.array(thumbs) @ np.array(thumbs).T
    same = np.equal.outer(labels, labels)
    upper = np.triu_indices(len(labels), 1)
    assert 0.7 < roc_auc_score(same[upper], scores[upper]) < 0.97


def test_eyes_and_mouth_lie_where_the_template_has_them() -> None:
    """On average over persons the eyes are the darkest spots of their height, at the template's places."""
    mean = np.mean([draw_face(person, 0).mean(2) for person in range(40)], axis=0)
    for x, y in ((38, 51), (73, 51)):
        around = mean[y - 14 : y + 15, x - 12 : x + 13]
        dark_y, dark_x = np.unravel_index(np.argmin(around[8:-8, 4:-4]), around[8:-8, 4:-4].shape)
        assert abs(dark_y + 8 - 14) <= 5
        assert abs(dark_x + 4 - 12) <= 6
        assert mean[y + 14, x] > mean[y - 1 : y + 2, x - 1 : x + 2].min() + 4  # the cheek below is lighter
    mouth = mean[92, 48:64].mean()
    assert mouth < mean[82, 48:64].mean() - 2


@pytest.mark.parametrize("seed", [0, 1])
def test_a_drawn_data_set_is_a_photo_folder(tmp_path: Path, seed: int) -> None:
    calls: list[tuple[int, int]] = []
    draw_dataset(
        tmp_path,
        num_persons=2,
        images_per_person=3,
        seed=seed,
        on_face=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(n, 6) for n in range(1, 7)]
    assert next(iter(walk_images(tmp_path))) == "person_0001/person_0001_0001.png"
    assert len(list(walk_images(tmp_path))) == 6
    assert len({path.read_bytes() for path in tmp_path.rglob("*.png")}) == 6
