"""Augmentation: twins move together, host and device agree, draws depend on (seed, epoch, index)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsrface.data.augment import Colour, Geometry, augment_pair, to_image01, to_image_u8
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.synthetic.drawing import draw_face

FACES = np.stack([draw_face(number, 0) for number in range(6)])
INDICES = np.arange(6)


def psnr(a, b):
    return -10 * np.log10(np.mean((a.astype(float) - b.astype(float)) ** 2) / 255**2)


def on_device(faces, geometry, *, epoch=0, indices=INDICES, colour=None):
    images = torch.from_numpy(faces)
    return augment_pair(
        images, images, geometry=geometry, colour=colour, seed=1, epoch=epoch, indices=indices
    )


def test_twins_get_the_same_geometry_and_light():
    inputs, high = on_device(FACES, Geometry(), colour=Colour(0.2, 0.2))
    assert torch.equal(inputs, high)
    assert not torch.equal(inputs, to_image01(torch.from_numpy(FACES)))


def test_samples_differ_and_do_not_depend_on_the_batch():
    same = np.stack([FACES[0]] * 4)
    whole, _ = on_device(same, Geometry(), indices=np.array([3, 9, 4, 11]), colour=Colour(0.2, 0.2))
    assert len({whole[i].numpy().tobytes() for i in range(4)}) == 4  # torchvision would draw one set for all
    alone, _ = on_device(same[:1], Geometry(), indices=np.array([4]), colour=Colour(0.2, 0.2))
    torch.testing.assert_close(alone[0], whole[2], rtol=0, atol=1e-6)
    later, _ = on_device(same, Geometry(), epoch=1, indices=np.array([3, 9, 4, 11]))
    assert not torch.equal(later, whole)


def test_host_and_device_move_alike():
    geometry = Geometry(flip=0.5, rotate_deg=8, scale=0.1, shift_px=6)
    moved, _ = on_device(FACES, geometry, epoch=3)
    flips = 0
    for index in range(6):
        host = geometry.apply(FACES[index], seed=1, epoch=3, index=index)
        device = to_image_u8(moved[index : index + 1])[0].numpy()
        assert psnr(host[8:-8, 8:-8], device[8:-8, 8:-8]) > 28  # bicubic against bilinear
        flips += geometry.flips(seed=1, epoch=3, index=index)
    assert 0 < flips < 6


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flip_alone_is_exact(flip):
    geometry = Geometry(flip=flip, rotate_deg=0, scale=0, shift_px=0)
    wanted = FACES[:, :, ::-1] if flip else FACES
    moved, _ = on_device(FACES, geometry)
    assert np.abs(to_image_u8(moved).numpy().astype(int) - wanted).max() <= 1
    assert np.array_equal(geometry.apply(FACES[0], seed=1, epoch=0, index=0), wanted[0])


def test_borders_are_continued_not_black():
    white = np.full((1, 112, 112, 3), 255, np.uint8)
    geometry = Geometry(flip=0, rotate_deg=45, scale=0.3, shift_px=30)
    for epoch in range(5):
        moved, _ = on_device(white, geometry, epoch=epoch, indices=np.array([0]))
        assert float(moved.min()) > 0.999
        assert geometry.apply(white[0], seed=1, epoch=epoch, index=0).min() == 255


def test_autocast_does_not_round_the_places():
    """affine_grid multiplies matrices inside, which autocast would do in bf16."""
    plain, _ = on_device(FACES, Geometry(), epoch=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved, _ = on_device(FACES, Geometry(), epoch=2)
    assert torch.equal(moved, plain)


def test_training_pairs_are_moved_first_and_degraded_after(tmp_path):
    """Moving an image that is 16 px already costs more than super-resolution gains."""
    from dsrface.data.datasets import PairDataset
    from dsrface.data.decode import write_png
    from dsrface.data.layout import make_split

    classic, rng = Degradation("classic", 16), np.random.default_rng(0)
    for number, face in enumerate(FACES):
        write_png(tmp_path / "hr_images" / f"p{number}_0.png", face)
    split = make_split("train", tmp_path, [f"p{number}_0.png" for number in range(6)], low_folders={})
    geometry = Geometry(flip=0, rotate_deg=30, scale=0, shift_px=0)
    dataset = PairDataset(split, inputs=tmp_path, augment=geometry, seed=1, degradation=classic)
    for index in range(6):
        sample = dataset[(2, index)]
        assert not np.array_equal(sample.high.numpy(), FACES[index])
        assert np.array_equal(sample.inputs.numpy(), degrade(sample.high.numpy(), classic, rng=rng))
    late = geometry.apply(degrade(FACES[4], classic, rng=rng), seed=1, epoch=2, index=4)
    assert psnr(late, dataset[(2, 4)].inputs.numpy()) < 40  # the other order is another image


def test_colour_keeps_the_range_and_zero_changes_nothing():
    moved, _ = on_device(FACES, None, colour=Colour(0.9, 0.9))
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    same, _ = on_device(FACES, None, colour=Colour(0, 0))
    assert torch.equal(same, to_image01(torch.from_numpy(FACES)))


def test_geometry_is_carried_by_any_start_method():
    import pickle

    geometry = Geometry()
    assert pickle.loads(pickle.dumps(geometry)) == geometry


def test_u8_round_trip():
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(to_image_u8(to_image01(images)), images)
    assert (
        to_image_u8(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)).flatten().tolist()
        == [0] * 3 + [255] * 3
    )
