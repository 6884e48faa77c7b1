from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrface.data.folders import person_of, read_info
from dsrface.data.layout import FaceData, open_data
from dsrface.data.splits import split_persons
from dsrface.errors import DataError, RunError
from dsrface.runtime.files import write_json


def persons(data: FaceData, names: Iterable[str] = ("train", "val", "test")) -> list[set[str]]:
    return [set(data.split(name).persons) for name in names]


def test_the_users_flat_layout_works_as_it_is(flat_dir: Path) -> None:
    data = open_data(flat_dir)
    train = data.split("train")
    assert train.high_dir == flat_dir / "train" / "hr_images"
    assert train.low_dir(16) == flat_dir / "train" / "vlr_images"
    assert train.outputs_dir(16) == flat_dir / "train" / "dsr_outputs"
    assert train.outputs_dir(24) == flat_dir / "train" / "dsr_outputs_24x24"
    assert data.vlr_sizes == (16,)
    assert data.degradation(16) is None
    assert "derived from train" in data.notes[0]
    everyone = persons(data)
    assert all(everyone)
    assert sum(map(len, everyone)) == len(set.union(*everyone))
    assert sum(len(data.split(name)) for name in data.splits) == 120
    train.check_twins(train.low_dir(16))
    assert (train.high_dir / train.names[0]).is_file()


@pytest.mark.parametrize("without_train_folder", [True, False])
def test_flat_folders_may_lie_at_the_top_and_be_named_by_size(
    flat_dir: Path, tmp_path: Path, without_train_folder: bool
) -> None:
    root = tmp_path if without_train_folder else tmp_path / "train"
    shutil.copytree(flat_dir / "train" / "hr_images", root / "hr_images")
    shutil.copytree(flat_dir / "train" / "vlr_images", root / "vlr_images_16x16")
    train = open_data(tmp_path).split("train")
    assert train.low_dir(16) == root / "vlr_images_16x16"
    assert train.outputs_dir(16) == root / "dsr_outputs_16x16"


def test_flat_names_like_those_of_lfw_are_doubted(flat_dir: Path, tmp_path: Path) -> None:
    faces = sorted((flat_dir / "train" / "hr_images").iterdir())
    (tmp_path / "hr_images").mkdir()
    for number, face in enumerate(faces[:6]):
        shutil.copy(face, tmp_path / "hr_images" / f"{'ABC'[number % 3]}nna_Lind_{number:04d}.png")
    assert any("6 names look like first and last name" in note for note in open_data(tmp_path).notes)
    assert not any("look like" in note for note in open_data(flat_dir).notes)


def test_labels_count_persons_of_the_split(flat_dir: Path) -> None:
    split = open_data(flat_dir).split("train")
    assert sorted(set(split.labels.tolist())) == list(range(len(split.persons)))
    for name, label in zip(split.names, split.labels.tolist(), strict=True):
        assert person_of(name) == split.persons[label]


def test_a_missing_twin_and_a_missing_size_are_named(flat_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(flat_dir, tmp_path / "data")
    split = open_data(tmp_path / "data").split("train")
    gone = split.names[4]
    (split.low_dir(16) / gone).unlink()
    with pytest.raises(DataError, match=r"1 of .* missing") as caught:
        split.check_twins(split.low_dir(16))
    assert gone in caught.value.message
    with pytest.raises(DataError, match="it has: 16"):
        split.low_dir(24)


def test_low_faces_that_nobody_will_use_are_counted_once(flat_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(flat_dir, tmp_path / "data")
    data = open_data(tmp_path / "data")
    assert data.check_twins(16, "train", "val") == []  # the other splits' faces lie in the same folder
    low = data.split("train").low_dir(16)
    for name in ("zz_1.png", "zz_0.png"):
        shutil.copy(low / data.split("train").names[0], low / name)
    (doubt,) = data.check_twins(16, "train", "val")
    assert doubt.startswith("2 VLR faces without an HR face")
    assert doubt.endswith("first 'zz_0.png'")


def test_a_split_that_prepare_left_out_says_how_to_get_one(flat_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(flat_dir, tmp_path / "data")
    write_json(tmp_path / "data" / "dataset.json", {"schema_version": 1})
    with pytest.raises(DataError, match="no val split") as caught:
        open_data(tmp_path / "data").split("val")
    assert "`dsrface evaluate` takes --split train" in caught.value.hint


def test_persons_in_two_given_splits_are_noted(flat_dir: Path, tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        shutil.copytree(flat_dir / "train", tmp_path / name)
    notes = open_data(tmp_path).notes
    assert any("both train and val" in note for note in notes)


def test_what_is_no_data_set_is_refused_with_the_way_out(tmp_path: Path, faces_dir: Path) -> None:
    for path in (tmp_path / "absent", faces_dir / "london"):
        with pytest.raises(DataError) as caught:
            open_data(path)
        assert caught.value.id == "no-data-set"
        assert "prepare" in caught.value.hint
    write_json(tmp_path / "dataset.json", {"schema_version": 99})
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    assert caught.value.id == "schema-version"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", []),
        ("sizes", {"high_px": "112"}),
        ("degradations", {"16": [[[]]]}),
        ("counts", {"train": {"images": "x"}}),
        ("content_sha256", 5),
    ],
)
def test_a_description_that_somebody_has_changed_is_called_damaged(
    tmp_path: Path, key: str, value: object
) -> None:
    write_json(tmp_path / "dataset.json", {"schema_version": 1, key: value})
    with pytest.raises(RunError, match=key) as caught:
        read_info(tmp_path)
    assert caught.value.id == "file-damaged"


@given(st.sets(st.text(min_size=1, max_size=8), min_size=3, max_size=60), st.integers(0, 9))
def test_splits_are_never_empty_and_give_each_person_one_place(names: set[str], seed: int) -> None:
    chosen = split_persons(names, seed=seed)
    assert set(chosen) == names
    assert set(chosen.values()) == {"train", "val", "test"}
    assert chosen == split_persons(sorted(names, reverse=True), seed=seed)


def test_adding_persons_moves_nobody_in_a_data_set_of_some_size() -> None:
    names = [f"person {number}" for number in range(400)]
    before, after = split_persons(names[:300], seed=1), split_persons(names, seed=1)
    assert all(after[name] == place for name, place in before.items())
    assert before != split_persons(names[:300], seed=2)
    share = sum(place == "val" for place in after.values()) / 400
    assert 0.06 < share < 0.14


def test_too_few_persons_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        split_persons(["a", "b"])
    assert caught.value.id == "too-few-persons"
    assert split_persons(["a"], fractions={"train": 1.0, "val": 0, "test": 0}) == {"a": "train"}


def test_faces_deleted_after_prepare_are_told_and_change_the_digest(flat_dir: Path, tmp_path: Path) -> None:
    faces = sorted((flat_dir / "train" / "hr_images").iterdir())[:4]
    for split in ("train", "val"):
        (tmp_path / split / "hr_images").mkdir(parents=True)
        for face in faces:
            shutil.copy(face, tmp_path / split / "hr_images" / face.name)
    counts = {"train": {"persons": 1, "images": 4}, "val": {"persons": 1, "images": 4}, "test": {"images": 0}}
    info = {"schema_version": 1, "content_sha256": "0" * 64, "counts": counts}
    write_json(tmp_path / "dataset.json", info)
    whole = open_data(tmp_path)
    assert (whole.source_digest, whole.notes) == ("0" * 64, ())

    (tmp_path / "train" / "hr_images" / faces[0].name).unlink()
    less = open_data(tmp_path)
    assert less.source_digest != whole.source_digest
    assert less.notes == ("The train split holds 3 faces; `dsrface prepare` has made 4",)
