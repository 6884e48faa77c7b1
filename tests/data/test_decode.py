from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from dsrface.data import decode
from dsrface.data.decode import (
    decode_image,
    decoded_size,
    encode_png,
    image_size,
    read_image,
    unread_images,
    walk_images,
    write_png,
)
from dsrface.errors import DsrfaceError, ImageError, MachineError

FACES = Path(os.environ.get("DSRFACE_FACES", Path(__file__).resolve().parents[3] / "shared" / "faces"))


def expected_rows() -> list[tuple[str, str]]:
    table = FACES / "bad" / "EXPECTED.csv"
    if not table.is_file():
        return [("absent", "load")]
    with table.open(encoding="utf-8", newline="") as handle:
        return [(row["file"], row["expect"]) for row in csv.DictReader(handle)]


IMAGES = [row for row in expected_rows() if not row[0].startswith("pairs_")]


@pytest.mark.parametrize(("file", "expect"), IMAGES, ids=[repr(file) for file, _ in IMAGES])
def test_each_odd_input_gets_what_its_row_says(bad_dir: Path, file: str, expect: str) -> None:
    path = bad_dir / file
    if expect == "skip":
        assert file not in set(walk_images(bad_dir))
        return
    if expect == "reject":
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.id
        assert path.name in caught.value.where
        return
    image = read_image(path)  # the rows with "either" can be read too
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.writeable


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("zero_byte.jpg", "empty-file"),
        ("text_renamed.jpg", "not-an-image"),
        ("bomb_header_50000x50000.png", "too-large"),
        ("bomb_valid_24000x24000_1bit.png", "too-large"),
        ("loop_a.jpg", "symlink-loop"),
        ("dangling.jpg", "dangling-link"),
        ("nowhere.jpg", "image-missing"),
        ("tree", "not-a-file"),
    ],
)
def test_the_reason_of_a_refusal_is_the_id_of_the_error(bad_dir: Path, file: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(bad_dir / file)
    assert caught.value.id == reason


@pytest.mark.parametrize(
    ("file", "original"),
    [
        ("good_control.jpg", "003/003_0001.jpg"),
        ("exif_orientation6.jpg", "011/011_0001.jpg"),
        ("exif_orientation3.jpg", "011/011_0001.jpg"),
        ("exif_garbage.jpg", "011/011_0001.jpg"),
        ("cmyk.jpg", "005/005_0001.jpg"),
        ("jpeg_named.png", "005/005_0001.jpg"),
        ("png_named.jpg", "005/005_0001.jpg"),
        ("UPPER.JPG", "005/005_0001.jpg"),
        ("palette.png", "009/009_0001.jpg"),
        ("rgba.png", "009/009_0001.jpg"),
        ("animated.gif", "010/010_0001.jpg"),
    ],
)
def test_variants_show_the_face_that_they_were_made_from(
    bad_dir: Path, faces_dir: Path, file: str, original: str
) -> None:
    face = read_image(faces_dir / "london" / original).astype(float)
    variant = read_image(bad_dir / file).astype(float)
    assert np.abs(variant - face).mean() < 3.0


@pytest.mark.parametrize(
    ("file", "original"), [("gray16.png", "006/006_0001"), ("gray_alpha.png", "008/008_0001")]
)
def test_grey_variants_keep_their_range(bad_dir: Path, faces_dir: Path, file: str, original: str) -> None:
    face = read_image(faces_dir / "london" / f"{original}.jpg").astype(float).mean(2)
    variant = read_image(bad_dir / file).astype(float)
    assert (variant == variant[..., :1]).all()
    assert np.abs(variant[..., 0] - face).mean() < 3.0


def test_a_foreign_switch_for_truncated_files_does_not_let_half_a_face_in(
    bad_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match="cut off"):
        read_image(bad_dir / "truncated.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits are Linux's")
@pytest.mark.parametrize("file", ["bomb_header_50000x50000.png", "bomb_valid_24000x24000_1bit.png"])
def test_bombs_are_refused_before_memory_is_used(bad_dir: Path, file: str) -> None:
    code = (
        "import sys, resource; from pathlib import Path; from dsrface.data.decode import read_image\n"
        "from dsrface.errors import ImageError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_image(Path(sys.argv[1]))\n"
        "except ImageError as error: print(error.id)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(bad_dir / file)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert output[0] == "too-large"
    assert int(output[1]) < 20 * 1024  # KiB


def test_the_limit_counts_pixels_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "a.png", np.zeros((100, 101, 3), np.uint8))
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_100)
    assert read_image(tmp_path / "a.png").shape == (100, 101, 3)
    assert image_size(tmp_path / "a.png") == (101, 100)
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_099)
    with pytest.raises(ImageError, match="101x100"):
        read_image(tmp_path / "a.png")


def test_what_is_wholly_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "pipe.png")
    assert caught.value.id == "not-a-file"


def test_png_round_trip_is_exact_and_deterministic(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    write_png(tmp_path / "deep" / "a.png", image)
    assert (read_image(tmp_path / "deep" / "a.png") == image).all()
    assert (
        encode_png(image) == encode_png(image[:, :, :].copy()) == (tmp_path / "deep" / "a.png").read_bytes()
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_written_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError):
        write_png(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), np.uint8))


def test_the_walk_ends_and_passes_over_what_is_no_image(bad_dir: Path) -> None:
    names = list(walk_images(bad_dir))
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert "tree/006/006_0001.jpg" in names
    assert not any(".hidden" in name or "notes" in name or "again" in name for name in names)


def test_an_image_error_survives_a_worker(bad_dir: Path) -> None:
    import pickle

    with pytest.raises(ImageError) as caught:
        read_image(bad_dir / "truncated.jpg")
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, DsrfaceError)
    assert (again.id, again.where, again.hint) == (caught.value.id, caught.value.where, caught.value.hint)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_linked_folders_are_walked_and_loops_are_not(tmp_path: Path) -> None:
    store, source = tmp_path / "store" / "anna", tmp_path / "photos"
    write_png(store / "anna_1.png", np.zeros((4, 4, 3), np.uint8))
    source.mkdir()
    (source / "anna").symlink_to(store)
    (store / "back").symlink_to(source)
    (store / "self").symlink_to(store)
    assert list(walk_images(source)) == ["anna/anna_1.png"]


@pytest.mark.parametrize(("suffix", "format"), [(".avif", "AVIF"), (".jp2", "JPEG2000")])
def test_avif_and_jpeg_2000_are_read(tmp_path: Path, suffix: str, format: str) -> None:
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[:, None, None], (1, 48, 3))
    Image.fromarray(ramp).save(tmp_path / f"face{suffix}", format)
    assert list(walk_images(tmp_path)) == [f"face{suffix}"]
    assert np.abs(read_image(tmp_path / f"face{suffix}").astype(int) - ramp).max() <= 8
    data = (tmp_path / f"face{suffix}").read_bytes()
    assert np.array_equal(decode_image(data, where="memory"), read_image(tmp_path / f"face{suffix}"))
    assert decoded_size(data, where="memory") == (48, 48)


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".MPO", "MPO"), (".apng", "PNG"), (".j2c", "JPEG2000"), (".jpf", "JPEG2000")]
)
def test_further_suffixes_of_formats_that_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    Image.new("RGB", (8, 6), (200, 10, 10)).save(tmp_path / f"a{suffix}", kind)
    assert list(walk_images(tmp_path)) == [f"a{suffix}"]
    assert read_image(tmp_path / f"a{suffix}").shape == (6, 8, 3)


def test_images_that_are_not_read_are_found(tmp_path: Path) -> None:
    png = encode_png(np.zeros((4, 4, 3), np.uint8))
    for name in (
        "a/1.png",
        "a/photo.heic",
        "a/array.npy",
        "a/icon.ICO",
        "a/no_suffix",
        "a/photo.png_large",
        ".hidden.heic",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png)
    (tmp_path / "list.txt").write_text("a/1.png 0")
    found = list(unread_images(tmp_path))
    assert found == ["a/array.npy", "a/icon.ICO", "a/no_suffix", "a/photo.heic", "a/photo.png_large"]
