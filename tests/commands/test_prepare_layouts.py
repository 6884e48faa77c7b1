"""`dsrface prepare` on the layouts and containers that people have their faces in."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrface.commands import prepare
from dsrface.config.prepare import PrepareConfig
from dsrface.data.decode import encode_png, read_image
from dsrface.data.layout import open_data
from dsrface.data.photos import detect
from dsrface.data.photos.align import ARCFACE_TEMPLATE, align_face
from dsrface.data.synthetic.drawing import draw_face
from dsrface.errors import DataError, RunError, UsageError
from dsrface.events import Note


def run(source: Path, data: Path, **settings: object) -> tuple[prepare.PrepareResult, list[str]]:
    config = {"source": source, "data": data, "workers": 0, "vlr_sizes": (16,), **settings}
    events: list[object] = []
    result = prepare.run(PrepareConfig.model_validate(config), emit=events.append)
    return result, [event.message for event in events if isinstance(event, Note)]


def save(path: Path, person: int, number: int = 0, size_px: int = 112) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(draw_face(person, number, size_px=size_px)))


def persons_of(data: Path) -> dict[str, set[str]]:
    return {name: set(split.persons) for name, split in open_data(data).splits.items()}


def test_a_recordio_file_gives_the_same_faces_as_its_images(tmp_path: Path) -> None:
    record, index = b"", ""
    for key in range(12):
        buffer = io.BytesIO()
        Image.fromarray(draw_face(key // 3, key % 3)).save(buffer, "PNG")
        (tmp_path / "files" / f"id_{key // 3:06d}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / f"id_{key // 3:06d}" / f"{key:08d}.png").write_bytes(buffer.getvalue())
        payload = struct.pack("<IfQQ", 0, float(key // 3), key, 0) + buffer.getvalue()
        index += f"{key}\t{len(record)}\n"
        record += struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)
    broken = struct.pack("<IfQQ", 0, 1.0, 12, 0) + b"no image"
    index += f"12\t{len(record)}\n"
    record += struct.pack("<II", 0xCED7230A, len(broken)) + broken + b"\0" * (-len(broken) % 4)
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "TRAIN.REC").write_bytes(record)
    (tmp_path / "rec" / "TRAIN.IDX").write_text(index)
    (tmp_path / "rec" / "property").write_text("4,112,112")
    result, _ = run(tmp_path / "rec", tmp_path / "a")
    run(tmp_path / "files", tmp_path / "b")
    assert result.bad_images == {"not-an-image": 1}
    assert "12@" in (tmp_path / "a" / "bad_images.csv").read_text()
    for name, split in open_data(tmp_path / "a").splits.items():
        other = open_data(tmp_path / "b").split(name)
        assert list(split.names) == list(other.names)
        for image in split.names:
            assert np.array_equal(read_image(split.high_dir / image), read_image(other.high_dir / image))
    with pytest.raises(UsageError):
        run(tmp_path / "rec", tmp_path / "c", persons="1")


def test_split_folders_are_kept_and_what_is_missing_comes_from_train(tmp_path: Path) -> None:
    for number in range(9):
        folder = "test" if number >= 7 else "train"
        save(tmp_path / "photos" / folder / f"n{number}" / "1.png", number)
    result, notes = run(tmp_path / "photos", tmp_path / "data")
    found = persons_of(tmp_path / "data")
    assert found["test"] == {"n7", "n8"}
    assert found["train"] | found["val"] == {f"n{number}" for number in range(7)}
    assert found["val"]
    assert any(note.startswith("split: kept, the folders test, train") for note in notes)
    assert result.counts["test"] == {"persons": 2, "images": 2}
    run(tmp_path / "photos", tmp_path / "mixed", split_from="none", seed=3)
    assert persons_of(tmp_path / "mixed")["test"] != {"n7", "n8"}


def test_celeba_is_read_with_its_three_lists(tmp_path: Path) -> None:
    identity, marks, partition = "", "", ""
    for number in range(8):
        name = f"{number + 1:06d}.png"
        big = Image.fromarray(draw_face(number // 2, number % 2)).resize((224, 224))
        (tmp_path / "celeba" / "img_celeba").mkdir(parents=True, exist_ok=True)
        big.save(tmp_path / "celeba" / "img_celeba" / name)
        points = ARCFACE_TEMPLATE * 2
        identity += f"{name} {2880 + number // 2}\n"
        marks += f"{name} {' '.join(f'{value:.0f}' for value in points.reshape(-1))}\n"
        partition += f"{name} {(0, 0, 1, 2)[number // 2]}\n"
    lists = {"identity.txt": identity, "marks.txt": f"8\nlefteye_x ...\n{marks}", "partition.txt": partition}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    run(
        tmp_path / "celeba",
        tmp_path / "data",
        persons=str(tmp_path / "identity.txt"),
        align=str(tmp_path / "marks.txt"),
        split_from=str(tmp_path / "partition.txt"),
    )
    assert persons_of(tmp_path / "data") == {"train": {"2880", "2881"}, "val": {"2882"}, "test": {"2883"}}
    split = open_data(tmp_path / "data").split("val")
    photo = read_image(tmp_path / "celeba" / "img_celeba" / "000005.png")
    rounded = np.round(ARCFACE_TEMPLATE * 2)
    assert np.array_equal(read_image(split.high_dir / split.names[0]), align_face(photo, rounded))


@pytest.mark.parametrize(
    ("persons", "expected"),
    [("1", {"cam1", "cam2"}), ("2", {"day"}), (r"(?P<person>\d+)_cam", {"001", "002"})],
)
def test_persons_are_told_as_the_user_says(tmp_path: Path, persons: str, expected: set[str]) -> None:
    for camera in (1, 2):
        for person in (1, 2):
            file = f"cam{camera}/day/{person:03d}_cam{camera}.png"
            save(tmp_path / "photos" / file, person, camera)
    run(tmp_path / "photos", tmp_path / "data", persons=persons, split=(1, 0, 0))
    assert persons_of(tmp_path / "data")["train"] == expected


@pytest.mark.parametrize("persons", ["0", "no-such-file", "(?P<person>"])
def test_a_rule_that_is_none_is_refused(tmp_path: Path, persons: str) -> None:
    save(tmp_path / "photos" / "a" / "1.png", 1)
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "photos", tmp_path / "data", persons=persons)
    assert caught.value.id == "bad-persons"


def test_lists_in_the_source_are_offered_with_the_command_that_uses_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(6):
        save(source / "images" / f"{number}.png", number // 2)
    names = [f"images/{number}.png" for number in range(6)]
    (source / "persons.txt").write_text("".join(f"{name} {row // 2}\n" for row, name in enumerate(names)))
    (source / "partition.txt").write_text("".join(f"{name} {row // 2}\n" for row, name in enumerate(names)))
    (source / "notes.txt").write_text("taken in 2019\n")
    config = PrepareConfig(source=source, data=tmp_path / "data", workers=0)
    events: list[object] = []
    with pytest.raises(DataError, match="there is only images"):
        prepare.run(config, emit=events.append)
    (offer,) = [event.message for event in events if isinstance(event, Note) and event.is_warning]
    options = ["--split-from", str(source / "partition.txt"), "--persons", str(source / "persons.txt")]
    assert offer.endswith(shlex.join(options))


def test_a_folder_of_one_person_is_doubted(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "photos" / "anna" / f"{number}_01.png", 0, number)
    _, notes = run(tmp_path / "photos" / "anna", tmp_path / "data")
    assert any(note.endswith("if they are all of one person, give the folder above") for note in notes)


def test_a_list_says_whose_photos_without_a_folder_are(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "flat" / f"{number}.png", number)
    (tmp_path / "flat" / "list.csv").write_text("".join(f"{number}.png,p{number}\n" for number in range(4)))
    with pytest.raises(DataError) as caught:
        run(tmp_path / "flat", tmp_path / "data")
    assert "list.csv says it: --persons" in caught.value.hint


def test_a_person_of_two_given_splits_stays_whole(tmp_path: Path) -> None:
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        for number in numbers:
            save(tmp_path / "photos" / split / "anna" / f"{number}.png", 1, number)
    save(tmp_path / "photos" / "train" / "bo" / "1.png", 2)
    save(tmp_path / "photos" / "test" / "cy" / "1.png", 3)
    _, notes = run(tmp_path / "photos", tmp_path / "data", split=(0.9, 0, 0.1))
    assert persons_of(tmp_path / "data") == {"train": {"anna", "bo"}, "test": {"cy"}}
    assert any("1 persons are in several of the given splits" in note for note in notes)


def test_aligned_squares_are_reduced_on_request_only(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=256)
    (tmp_path / "photos" / "0" / "wide.png").write_bytes(encode_png(np.zeros((256, 200, 3), np.uint8)))
    result, _ = run(tmp_path / "photos", tmp_path / "data", align="resize", split=(1, 0, 0))
    assert result.bad_images == {"wrong-size": 1}
    split = open_data(tmp_path / "data").split("train")
    whole = Image.fromarray(draw_face(1, 0, size_px=256))
    expected = np.array(whole.resize((112, 112), Image.Resampling.BICUBIC))
    assert np.array_equal(read_image(split.high_dir / "1/1.png"), expected)
    with pytest.raises(DataError, match="wrong-size 4"):
        run(tmp_path / "photos", tmp_path / "none", align="none", split=(1, 0, 0))


def test_landmarks_as_the_person_has_them_are_turned_round(tmp_path: Path) -> None:
    text = "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\n"
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=224)
        points = (ARCFACE_TEMPLATE * 2)[[1, 0, 2, 4, 3]].reshape(-1)
        text += f"{person}/1.png,{','.join(f'{value:.2f}' for value in points)}\n"
    (tmp_path / "marks.csv").write_text(text)
    _, notes = run(tmp_path / "photos", tmp_path / "data", align=str(tmp_path / "marks.csv"), split=(1, 0, 0))
    assert any("turned round" in note for note in notes)
    split = open_data(tmp_path / "data").split("train")
    photo = read_image(tmp_path / "photos" / "1" / "1.png")
    expected = align_face(photo, np.round(ARCFACE_TEMPLATE * 2, 2))
    assert np.array_equal(read_image(split.high_dir / "1/1.png"), expected)


@pytest.mark.parametrize(("rule", "taken"), [("largest", 1), ("central", 0), ("refuse", None)])
def test_of_several_faces_in_a_landmarks_file_a_rule_takes_one(
    tmp_path: Path, rule: str, taken: int | None
) -> None:
    template = ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)
    faces = [template / 2 + np.array([200, 150]), template + np.array([80, 150])]
    marks = {}
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=400)
        marks[f"{person}/1.png"] = [{"kps": face.tolist()} for face in faces[: 1 + (person == 1)]]
    (tmp_path / "marks.json").write_text(json.dumps(marks))
    align = str(tmp_path / "marks.json")
    result, _ = run(tmp_path / "photos", tmp_path / "data", align=align, split=(1, 0, 0), faces=rule)
    if taken is None:
        assert result.bad_images == {"several-faces": 1}
        return
    assert any("1 photos show several faces" in text for text in result.warnings)
    rows = list(csv.DictReader((tmp_path / "data" / "several_faces.csv").open()))
    assert rows == [{"file": "1/1.png", "faces": "2"}]
    split = open_data(tmp_path / "data").split("train")
    expected = align_face(read_image(tmp_path / "photos" / "1" / "1.png"), faces[taken])
    assert np.array_equal(read_image(split.high_dir / "1/1.png"), expected)


def test_landmarks_in_shares_of_the_photo_align_as_those_in_pixels(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=224)
        points = (ARCFACE_TEMPLATE * 2 + 0.5) / 224
        (labels / str(person)).mkdir(parents=True)
        numbers = " ".join(f"{x:.9f} {y:.9f} 2" for x, y in points)
        (labels / str(person) / "1.txt").write_text(f"0 0.5 0.5 0.9 0.9 {numbers}\n")
    run(tmp_path / "photos", tmp_path / "data", align=str(labels), split=(1, 0, 0))
    split = open_data(tmp_path / "data").split("train")
    expected = align_face(read_image(tmp_path / "photos" / "1" / "1.png"), ARCFACE_TEMPLATE * 2)
    assert np.abs(read_image(split.high_dir / "1/1.png").astype(int) - expected).max() <= 1


def test_images_that_are_not_read_are_counted_and_listed(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person)
    shutil.copy(tmp_path / "photos" / "0" / "1.png", tmp_path / "photos" / "0" / "phone.heic")
    result, _ = run(tmp_path / "photos", tmp_path / "data", split=(1, 0, 0))
    assert result.bad_images == {"unread-format": 1}
    assert any("1 files look like images of formats that are not read" in text for text in result.warnings)
    rows = list(csv.DictReader((tmp_path / "data" / "bad_images.csv").open()))
    assert [row["file"] for row in rows] == ["0/phone.heic"]


def test_what_most_photos_were_left_out_for_is_said(tmp_path: Path) -> None:
    text = "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\n"
    for person in range(5):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=224)
        points = (ARCFACE_TEMPLATE * 2)[[1, 0, 2, 4, 3]] if person else ARCFACE_TEMPLATE * 2
        text += f"{person}/1.png,{','.join(f'{value:.2f}' for value in points.reshape(-1))}\n"
    (tmp_path / "marks.csv").write_text(text)
    _, notes = run(tmp_path / "photos", tmp_path / "data", align=str(tmp_path / "marks.csv"), split=(1, 0, 0))
    assert any("most of them because of this: The landmarks are mirrored" in note for note in notes)


def test_small_faces_that_are_taken_as_they_are_get_the_command_for_native_ones(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person, size_px=20)
    with pytest.raises(DataError) as caught:
        run(tmp_path / "photos", tmp_path / "data", align="none", split=(1, 0, 0))
    assert "--native" in caught.value.hint


@pytest.mark.parametrize("option", ["persons", "split_from"])
def test_a_list_that_was_corrected_is_not_the_list_of_the_data_set(tmp_path: Path, option: str) -> None:
    values = {"persons": ("a", "b", "c", "d"), "split_from": ("train", "train", "test", "test")}[option]
    for person in range(3):
        save(tmp_path / "photos" / f"{person}_1.png", person)
    settings = {option: str(tmp_path / "list.txt"), "split": (1, 0, 0)}
    text = "".join(f"{person}_1.png {values[person]}\n" for person in range(3))
    (tmp_path / "list.txt").write_text(text)
    run(tmp_path / "photos", tmp_path / "data", **settings)
    (tmp_path / "list.txt").write_text(f"# looked at\n{text}")
    assert run(tmp_path / "photos", tmp_path / "data", **settings)[0].status == "up to date"
    (tmp_path / "list.txt").write_text(text.replace(f"1_1.png {values[1]}", f"1_1.png {values[3]}"))
    with pytest.raises(RunError, match="what the lists say") as caught:
        run(tmp_path / "photos", tmp_path / "data", **settings)
    assert caught.value.id == "data-set-exists"


def test_a_vlr_size_alone_is_met_with_the_options_that_add_it(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person)
    run(tmp_path / "photos", tmp_path / "data", split=(1, 0, 0), vlr_sizes=(16, 24))
    with pytest.raises(RunError) as caught:
        run(tmp_path / "photos", tmp_path / "data", vlr_sizes=(12,))
    assert "To add 12 px to it: --vlr-sizes 12,16,24 --split 1.0,0.0,0.0" in caught.value.hint


def test_a_vlr_size_is_added_to_a_data_set(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person)
    run(tmp_path / "photos", tmp_path / "data", split=(1, 0, 0))
    kept = tmp_path / "data" / "train" / "vlr_images_16x16" / "1" / "1.png"
    before = kept.stat().st_mtime_ns
    result, _ = run(tmp_path / "photos", tmp_path / "data", split=(1, 0, 0), vlr_sizes=(16, 24))
    assert result.status == "sizes added"
    assert open_data(tmp_path / "data").vlr_sizes == (16, 24)
    assert kept.stat().st_mtime_ns == before
    run(tmp_path / "photos", tmp_path / "fresh", split=(1, 0, 0), vlr_sizes=(16, 24))
    digests = [
        json.loads((tmp_path / name / "dataset.json").read_text())["content_sha256"]
        for name in ("data", "fresh")
    ]
    assert digests[0] == digests[1]


def test_a_benchmark_may_be_test_alone(tmp_path: Path) -> None:
    for person in range(3):
        save(tmp_path / "photos" / str(person) / "1.png", person)
    result, _ = run(tmp_path / "photos", tmp_path / "data", split=(0, 0, 1))
    assert list(result.counts) == ["test"]
    assert result.next_command.endswith("--split test")


class _TwoFaces:
    """Stands in for the detector: a large face at the right, a smaller one in the middle."""

    def __init__(self) -> None:
        self.boxes = np.array([[210.0, 0, 330, 110, 0.9], [110.0, 0, 210, 100, 0.9]])
        self.points = np.stack([ARCFACE_TEMPLATE + np.array([x, 0.0]) for x in (215, 105)])

    def __call__(self, canvas: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return self.boxes, self.points.reshape(2, 10)


@pytest.mark.parametrize("side_px", [40, 80])
def test_hr_faces_made_of_few_pixels_are_said_also_by_a_run_that_goes_on(
    tmp_path: Path, side_px: int
) -> None:
    rows = ["file," + ",".join(f"{part}{axis}" for part in ("l", "r", "n", "ml", "mr") for axis in "xy")]
    for person in range(4):
        save(tmp_path / "photos" / f"p{person}" / "1.png", person, size_px=side_px)
        points = ARCFACE_TEMPLATE * side_px / 112
        rows.append(f"p{person}/1.png," + ",".join(f"{value:.3f}" for value in points.reshape(-1)))
    (tmp_path / "marks.csv").write_text("\n".join(rows))
    settings = {"align": str(tmp_path / "marks.csv"), "split": (1, 0, 0), "on_bad_image": "fail"}
    (tmp_path / "photos" / "p3" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        run(tmp_path / "photos", tmp_path / "data", **settings)
    result, _ = run(tmp_path / "photos", tmp_path / "data", **(settings | {"on_bad_image": "skip"}))
    said = [text for text in result.warnings if "were enlarged" in text]
    assert [text[:15] for text in said] == (["4 of 4 HR faces"] if side_px == 40 else [])
    again = f"data_native --native --align {tmp_path / 'marks.csv'}"
    assert result.next_command.endswith(again) == (side_px == 40)
    assert open_data(tmp_path / "data").info["enlarged"].get("median_px", 0) == (40 if side_px == 40 else 0)


@pytest.mark.parametrize("faces", ["largest", "central", "refuse"])
def test_several_faces_are_counted_listed_and_chosen_by_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: str
) -> None:
    def detector_init(self: detect.Detector) -> None:
        self._networks, self._make_network = {}, _TwoFaces

    monkeypatch.setattr(detect.Detector, "__init__", detector_init)
    monkeypatch.setattr(detect, "is_available", lambda: True)
    canvas = np.zeros((112, 330, 3), np.uint8)
    canvas[:, :112], canvas[:, 105:217], canvas[:, 215:327] = 9, draw_face(1, 0), draw_face(2, 0)
    (tmp_path / "photos" / "anna").mkdir(parents=True)
    (tmp_path / "photos" / "anna" / "group.png").write_bytes(encode_png(canvas))
    (tmp_path / "photos" / "bo").mkdir()
    (tmp_path / "photos" / "bo" / "1.png").write_bytes(encode_png(draw_face(3, 0)))
    settings = {"split": (1, 0, 0), "faces": faces, "align": "auto"}
    monkeypatch.setattr(prepare.alignment, "photo_sizes", lambda *_: [(256, 256)] * 2)
    result, _ = run(tmp_path / "photos", tmp_path / "data", **settings)
    if faces == "refuse":
        assert result.bad_images == {"several-faces": 1}
        return
    assert any(f"1 photos show several faces; the {faces} was taken" in text for text in result.warnings)
    assert (tmp_path / "data" / "several_faces.csv").read_text().split() == ["file,faces", "anna/group.png,2"]
    face = read_image(tmp_path / "data" / "train" / "hr_images" / "anna" / "group.png")
    wanted = draw_face(2 if faces == "largest" else 1, 0)
    assert np.abs(face[:100, :100].astype(int) - wanted[:100, :100]).mean() < 3


NATIVE = {
    "a": [(20, 20), (14, 18)],
    "b": [(8, 8), (31, 31)],
    "c": [(12, 12), (112, 112)],
    "d": [(48, 48), (26, 26)],
}


def native_photos(folder: Path) -> Path:
    for number, (person, sizes) in enumerate(NATIVE.items()):
        for image, size in enumerate(sizes):
            (folder / person).mkdir(parents=True, exist_ok=True)
            face = Image.fromarray(draw_face(number, image)).resize(size)
            face.save(folder / person / f"cam{image}_{size[0]}.png")
    return folder


def test_native_faces_go_to_the_nearest_size_and_get_no_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "is_available", lambda: False)
    source = native_photos(tmp_path / "photos")
    result, _ = run(source, tmp_path / "data", native=True, split=(0, 0, 1), vlr_sizes=(16, 24, 32))
    assert result.bad_images == {}
    assert result.counts == {"test": {"persons": 4, "images": 8}}
    test = tmp_path / "data" / "test"
    made = {path.relative_to(test).as_posix() for path in test.rglob("*.png")}
    assert made == {
        "vlr_images_24x24/a/cam0_20.png",
        "vlr_images_16x16/a/cam1_14.png",
        "vlr_images_16x16/b/cam0_8.png",
        "vlr_images_32x32/b/cam1_31.png",
        "vlr_images_16x16/c/cam0_12.png",
        "hr_images/c/cam1_112.png",
        "vlr_images_32x32/d/cam0_48.png",
        "vlr_images_24x24/d/cam1_26.png",
    }
    rows = list(csv.DictReader((tmp_path / "data" / "native_faces.csv").open()))
    sizes = {row["image"]: (row["native_px"], row["size_px"]) for row in rows}
    assert sizes["a/cam1_14.png"] == ("15.9", "16")
    data = open_data(tmp_path / "data")
    assert data.is_native
    assert len(data.split("test")) == 8
    assert list(data.split("test").at(24).names) == ["a/cam0_20.png", "d/cam1_26.png"]
    assert run(source, tmp_path / "data", native=True, split=(0, 0, 1), vlr_sizes=(16, 24, 32))[0].status == (
        "up to date"
    )
    with pytest.raises(DataError) as caught:
        data.check_twins(16, "test")
    assert caught.value.id == "no-twins"


def test_conditions_of_a_pattern_are_kept_for_native_faces(tmp_path: Path) -> None:
    source = native_photos(tmp_path / "photos")
    run(source, tmp_path / "data", native=True, align="none", persons=r"(?P<person>\w)/cam(?P<camera>\d)")
    rows = list(csv.DictReader((tmp_path / "data" / "native_faces.csv").open()))
    assert {row["image"].split("/")[0] + row["camera"] for row in rows} == {
        f"{p}{c}" for p in "abcd" for c in "01"
    }


def test_native_faces_with_landmarks_are_aligned_at_their_own_size(tmp_path: Path) -> None:
    text = "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\n"
    for person in range(3):
        # A face of 20 px in a photo of 40: the template is where the face is.
        canvas = np.full((40, 40, 3), 90, np.uint8)
        canvas[10:30, 10:30] = np.asarray(Image.fromarray(draw_face(person, 0)).resize((20, 20)))
        (tmp_path / "photos" / str(person)).mkdir(parents=True)
        (tmp_path / "photos" / str(person) / "1.png").write_bytes(encode_png(canvas))
        points = (ARCFACE_TEMPLATE + 0.5) * 20 / 112 - 0.5 + 10
        text += f"{person}/1.png,{','.join(f'{value:.4f}' for value in points.reshape(-1))}\n"
    (tmp_path / "marks.csv").write_text(text)
    settings = {
        "align": str(tmp_path / "marks.csv"),
        "native": True,
        "split": (1, 0, 0),
        "vlr_sizes": (20, 40),
    }
    run(tmp_path / "photos", tmp_path / "data", **settings)
    rows = list(csv.DictReader((tmp_path / "data" / "native_faces.csv").open()))
    assert [(row["native_px"], row["size_px"], row["aligned"]) for row in rows] == [("20.0", "20", "yes")] * 3
    face = read_image(tmp_path / "data" / "train" / "vlr_images_20x20" / "1" / "1.png")
    wanted = np.asarray(Image.fromarray(draw_face(1, 0)).resize((20, 20)))
    assert np.abs(face.astype(int) - wanted).mean() < 2
