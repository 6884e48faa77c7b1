"""Archives of benchmarks as they lie on disks: shadows of macOS, second copies, lists of Windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dsrface.data.benchmarks.searches import read_tinyface
from dsrface.data.benchmarks.verifications import read_ijb, read_lfw
from dsrface.data.photos.scan import scan_photos
from dsrface.errors import DataError


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12)).save(path)


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    for name in ("anna/anna_0001.jpg", "anna/anna_0002.jpg", "bo/bo_0001.jpg"):
        save(tmp_path / "lfw" / name)
    (tmp_path / "pairs.txt").write_text("1\t1\nanna\t1\t2\nanna\t1\tbo\t1\n")
    return tmp_path


@pytest.fixture
def ijb(tmp_path: Path) -> Path:
    marks = " ".join(str(value) for value in range(10))
    lists = {
        "face_tid_mid": "1.jpg 7 1\n2.jpg 8 1\n",
        "template_pair_label": "7 8 1\n",
        "name_5pts_score": f"1.jpg {marks} 0.9\n2.jpg {marks} 0.9\n",
    }
    for number in (1, 2):
        save(tmp_path / "loose_crop" / f"{number}.jpg")
    for name, text in lists.items():
        (tmp_path / f"ijbc_{name}.txt").write_text(text)
    return tmp_path


def test_shadows_of_macos_are_passed_over(lfw: Path) -> None:
    for shadow in (lfw / "__MACOSX" / "lfw" / "pairs.txt", lfw / "lfw" / "._pairs.txt"):
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_bytes(b"\0\5\26\7")
    assert len(read_lfw(lfw, None).faces) == 3
    for part in ("Gallery_Match", "Gallery_Distractor", "Probe"):
        save(lfw / "tinyface" / "Testing_Set" / part / "1_1.jpg")
    (lfw / "__MACOSX" / "tinyface" / "Testing_Set").mkdir(parents=True)
    assert len(read_tinyface(lfw).faces) == 3


def test_test_folders_of_a_benchmark_are_not_taken_for_persons_in_silence(tmp_path: Path) -> None:
    for name in (
        "Training_Set/7/7_1.jpg",
        "Testing_Set/Probe/9_1.jpg",
        "Testing_Set/Gallery_Distractor/x.jpg",
    ):
        save(tmp_path / name)
    (doubt,) = scan_photos(tmp_path).doubts
    assert "laid out as tinyface" in doubt
    assert "--protocol tinyface --vlr-size 16 measures it" in doubt
    assert not scan_photos(tmp_path, persons=r"(?P<person>\d+)_").doubts
    assert not scan_photos(tmp_path / "Training_Set").doubts


def test_scface_and_folders_that_are_poses_are_not_taken_for_persons_in_silence(tmp_path: Path) -> None:
    save(tmp_path / "scface" / "mugshots" / "001_frontal.jpg")
    save(tmp_path / "scface" / "distance_1" / "cam_1" / "001_cam1_1.jpg")
    save(tmp_path / "scface" / "distance_1" / "cam_2" / "001_cam2_1.jpg")
    (doubt,) = scan_photos(tmp_path / "scface").doubts
    assert "--protocol scface" in doubt
    for person in ("001", "002", "003"):
        for pose in ("frontal", "profile"):
            save(tmp_path / "cfp" / "Images" / person / pose / "01.jpg")
    (doubt,) = scan_photos(tmp_path / "cfp").doubts
    assert "the same 2 names, e.g. 'frontal'" in doubt
    assert doubt.endswith("--persons 2")
    assert not scan_photos(tmp_path / "cfp", persons="2").doubts


def test_a_list_of_splits_may_name_persons_and_is_blamed_itself(tmp_path: Path) -> None:
    for name in ("anna/1.jpg", "bo/1.jpg"):
        save(tmp_path / "photos" / name)
    (tmp_path / "splits.csv").write_text("person,split\nanna,train\nbo,test\n")
    found = scan_photos(tmp_path / "photos", split_from=str(tmp_path / "splits.csv"))
    assert found.splits == {"anna": "train", "bo": "test"}
    (tmp_path / "splits.csv").write_text("cy/9.jpg,train\n")
    with pytest.raises(DataError, match=r"splits.csv names none of the 2 photos"):
        scan_photos(tmp_path / "photos", split_from=str(tmp_path / "splits.csv"))


def test_two_sets_of_images_or_lists_are_not_mixed(lfw: Path) -> None:
    save(lfw / "lfw_original" / "anna" / "anna_0001.jpg")
    with pytest.raises(DataError, match=r"lfw/anna.* and lfw_original/anna.*several sets"):
        read_lfw(lfw, None)
    (lfw / "lfw" / "short_pairs.txt").write_text("1\t1\n")
    with pytest.raises(DataError, match=r"2 files \*pairs.txt: lfw/short_pairs.txt, pairs.txt"):
        read_lfw(lfw, None)


def test_a_table_of_pairs_is_found(lfw: Path) -> None:
    (lfw / "pairs.txt").unlink()
    with pytest.raises(DataError, match=r"no \*pairs.txt"):
        read_lfw(lfw, None)
    (lfw / "pairs.csv").write_text("name,imagenum1,imagenum2,\nanna,1,2,\nanna,1,bo,1\n")
    assert read_lfw(lfw, None).pair_tests[0].pairs.num_genuine == 1


def test_ijb__a_list_with_the_mark_and_line_ends_of_windows(ijb: Path) -> None:
    path = ijb / "ijbc_face_tid_mid.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [face.name for face in read_ijb(ijb).faces] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("face_tid_mid", b"\xe9.jpg 7 1\n", "Cannot read the list"),
        ("face_tid_mid", b"1.jpg 7 x\n", "'x' is not a number"),
        ("face_tid_mid", b"1.jpg 7\n", "3 fields are needed"),
        ("name_5pts_score", b"1.jpg" + b" inf" * 10 + b" 0.9\n", "'inf' is not a number"),
        ("template_pair_label", b"7 9 1\n", "names no template"),
    ],
)
def test_ijb__a_bad_list_is_named(ijb: Path, name: str, content: bytes, what: str) -> None:
    (ijb / f"ijbc_{name}.txt").write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        read_ijb(ijb)
    assert caught.value.id == "bad-list-file"
    assert f"ijbc_{name}.txt" in str(caught.value.where)
