from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsrface.data.formats.five_points import are_relative, join_axes, turn_round
from dsrface.data.formats.landmarks import LANDMARK_COLUMNS, read_landmarks
from dsrface.errors import DataError

FACES = {
    "a/1.jpg": [[10.0, 20.0], [30.5, 21.0], [20.0, 30.0], [12.0, 40.0], [28.0, 41.0]],
    "b/2.jpg": [[110.0, 20.0], [130.5, 21.0], [120.0, 30.0], [112.0, 40.0], [128.0, 41.0]],
}
ORDERED = list(FACES.items())


def flat(points: list[list[float]]) -> list[str]:
    return [f"{value:g}" for point in points for value in point]


def as_csv(separator: str, *, header: bool) -> str:
    head = separator.join(["file", *LANDMARK_COLUMNS]) + "\n" if header else ""
    return head + "".join(separator.join([file, *flat(points)]) + "\n" for file, points in ORDERED)


def as_celeba() -> str:
    head = " ".join(f"{place}_{axis}" for place in ("lefteye", "righteye", "nose") for axis in "xy")
    head += " leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    lines = "".join(f"{file}   {'  '.join(flat(points))}\n" for file, points in ORDERED)
    return f"{len(FACES)}\n{head}\n{lines}"


def as_widerface() -> str:
    text = ""
    for file, points in ORDERED:
        marks = " ".join(f"{x:g} {y:g} 0.0" for x, y in points)
        text += f"# {file}\n1 2 30 40 {marks} 0.82\n5 5 9 9 {marks.replace('1', '7')} 0.5\n"
    return text


def as_retinaface() -> str:
    keys = ["right_eye", "left_eye", "nose", "mouth_right", "mouth_left"]
    return json.dumps(
        {f: {"face_1": {"score": 0.9, "landmarks": dict(zip(keys, p, strict=True))}} for f, p in ORDERED}
    )


def as_mtcnn() -> str:
    keys = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]
    return json.dumps(
        {f: [{"box": [1, 2, 3, 4], "keypoints": dict(zip(keys, p, strict=True))}] for f, p in ORDERED}
    )


def as_named_columns() -> str:
    """As CelebA's list comes from Kaggle, with a column more."""
    head = "image_id,lefteye_x,lefteye_y,righteye_x,righteye_y,nose_x,nose_y,"
    head += "leftmouth_x,leftmouth_y,mouth_right_x,mouth_right_y,score\n"
    return head + "".join(f"{','.join([file, *flat(points)])},0.9\n" for file, points in ORDERED)


def with_68(points: list[list[float]]) -> list[list[float]]:
    """iBUG's order: both eyes of six points each, the nose tip and the corners of the mouth."""
    found = [[0.0, 0.0]] * 68
    found[36:42], found[42:48] = [points[0]] * 6, [points[1]] * 6
    for number, point in zip((30, 48, 54), points[2:], strict=True):
        found[number] = point
    return found


def as_ffhq() -> str:
    image = [{"image": {"file_path": file, "face_landmarks": with_68(p)}} for file, p in ORDERED]
    return json.dumps(dict(enumerate(image)))


def as_numbered_columns() -> str:
    head = "file," + ",".join(f"x_{number},y_{number}" for number in range(68))
    return "\n".join([head, *(",".join([file, *flat(with_68(points))]) for file, points in ORDERED)])


def as_coco() -> str:
    """Two tables; a visibility after each point."""
    images = [{"id": number + 7, "file_name": file} for number, (file, _) in enumerate(ORDERED)]
    faces = [
        {
            "image_id": number + 7,
            "keypoints": [v for point in points for v in (*point, 2)],
            "num_keypoints": 5,
        }
        for number, (_, points) in enumerate(ORDERED)
    ]
    return json.dumps({"images": images, "annotations": faces, "categories": [{"id": 1}]})


@pytest.mark.parametrize(
    "text",
    [
        as_ffhq(),
        as_numbered_columns(),
        json.dumps([{"file": file, "bbox": [0, 1, 2, 3], "kps": points} for file, points in ORDERED]),
        json.dumps({file: [{"bbox": [0, 1, 2, 3], "kps": points}] for file, points in ORDERED}),
        json.dumps(
            {file: [[1, 2, 30, 40, 0.9, *(v for point in points for v in point)]] for file, points in ORDERED}
        ),
        "\n".join(json.dumps({"image": file, "landmarks": points}) for file, points in ORDERED),
        json.dumps(
            [{"file": file, "landmarks": [{"x": x, "y": y} for x, y in points]} for file, points in ORDERED]
        ),
        as_coco(),
        as_csv(";", header=True).replace("file;", "Datei;").replace(".5", ",5"),
        as_named_columns(),
        as_csv(" ", header=False),
        as_csv(";", header=False).replace(".5", ",5"),
        json.dumps(FACES),
        as_csv(",", header=True),
        as_csv(",", header=False),
        as_csv(";", header=True),
        as_csv(";", header=False),
        as_csv("\t", header=False),
        "\ufeff" + as_csv(",", header=True).replace("\n", "\r\n"),
        as_celeba(),
        as_widerface(),
        as_retinaface(),
        as_mtcnn(),
    ],
)
def test_every_format_gives_the_same_points(tmp_path: Path, text: str) -> None:
    (tmp_path / "marks").write_text(text, encoding="utf-8", newline="")
    found = read_landmarks(tmp_path / "marks")
    assert list(found) == list(FACES)
    for file, points in ORDERED:
        assert np.array_equal(found[file][0], np.array(points))


def test_a_file_of_windows_is_read(tmp_path: Path) -> None:
    text = as_csv("\t", header=True).replace("/", "\\").replace("\n", "\r\n")
    (tmp_path / "marks").write_text(text, encoding="utf-16", newline="")
    assert list(read_landmarks(tmp_path / "marks")) == list(FACES)


def test_all_faces_of_an_image_are_read_and_those_without_points_are_not(tmp_path: Path) -> None:
    first, second = FACES.values()
    marks = [" ".join(f"{x:g} {y:g} 0.0" for x, y in points) for points in (first, second)]
    nobody = " ".join(["-1 -1 -1"] * 5)
    lines = [f"1 2 30 40 {text} 0.8" for text in (nobody, *marks, marks[0])]
    texts = {
        "widerface.txt": "# a/1.jpg\n" + "\n".join(lines) + f"\n# b/2.jpg\n{lines[0]}\n",
        "mtcnn.json": json.dumps({"a/1.jpg": [{"kps": first}, {"kps": second}], "b/2.jpg": []}),
        "table.csv": "\n".join(["file," + ",".join(LANDMARK_COLUMNS)]
            + [",".join(["a/1.jpg", *flat(points)]) for points in (first, second)]
            + ["b/2.jpg" + "," * 10, "c.jpg" + ",nan" * 10]),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found = read_landmarks(tmp_path / name)
        assert {file: faces.tolist() for file, faces in found.items()} == {"a/1.jpg": [first, second]}


@pytest.mark.parametrize("head", ["", "2\n", "2\nlefteye_x lefteye_y\n", " ".join(LANDMARK_COLUMNS) + "\n"])
def test_names_with_blanks_between_blanks_and_no_heading(tmp_path: Path, head: str) -> None:
    lines = [f"Ada Müller/my 1.JPG  {'  '.join(flat(points))}\n" for points in FACES.values()]
    (tmp_path / "marks.txt").write_text(head + "".join(lines), encoding="utf-8")
    found = read_landmarks(tmp_path / "marks.txt")
    assert {file: faces.tolist() for file, faces in found.items()} == {
        "Ada Müller/my 1.JPG": list(FACES.values())
    }


def test_all_x_before_all_y_are_joined_where_a_whole_file_has_them_so() -> None:
    points = {file: np.array([marks]) for file, marks in ORDERED}
    axes = {file: faces.transpose(0, 2, 1).reshape(-1, 5, 2) for file, faces in points.items()}
    assert join_axes(points) is None
    joined = join_axes(axes)
    assert joined is not None
    assert all(np.array_equal(joined[file], points[file]) for file in points)


def test_text_of_an_older_windows_gets_the_line_that_converts_it(tmp_path: Path) -> None:
    text = as_csv(",", header=True).replace("a/1", "Jörg/1")
    (tmp_path / "marks.csv").write_text(text, encoding="cp1252")
    with pytest.raises(DataError, match="no text") as caught:
        read_landmarks(tmp_path / "marks.csv")
    _, *arguments = shlex.split(caught.value.hint.partition("wrote it: ")[2])
    subprocess.run([sys.executable, *arguments], check=True)
    assert next(iter(read_landmarks(tmp_path / "marks_utf8.csv"))) == "Jörg/1.jpg"


def test_left_and_right_of_a_whole_file_are_turned_round(tmp_path: Path) -> None:
    points = {file: np.array([marks]) for file, marks in ORDERED}
    exchanged = {file: marks[:, [1, 0, 2, 4, 3]] for file, marks in points.items()}
    assert turn_round(points) is None
    assert turn_round({**exchanged, "c": points["a/1.jpg"]}) is None
    turned = turn_round(exchanged)
    assert turned is not None
    assert all(np.array_equal(turned[file], points[file]) for file in points)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("file,lx,ly\na.jpg,1,2\n", "no column rx"),
        (as_csv(",", header=True).replace("30.5", "left"), "not a number"),
        ("a.jpg,1,2,3,4,5,6,7,8,9,10,0.9\n", "12 columns and no first line"),
        ("2\nlefteye_x lefteye_y\na.jpg 1 2 3\n", "there are 3"),
        ('{"a.jpg": {"face_1": {"landmarks": {"nose": [1, 2]}}}}', "lacks one of the points"),
        ("[1, 2]", "no face with five points"),
        ("a.jpg\n1\n10 10 90 90 0 0 0\n", "neither landmarks nor names of columns"),
        (json.dumps([{"kps": FACES["a/1.jpg"]}]), "which file"),
        ("", "empty"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "marks").write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        read_landmarks(tmp_path / "marks")
    assert caught.value.id == "bad-landmarks"
    assert "marks" in caught.value.where


def test_a_numpy_file_gets_the_line_that_converts_it(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.zeros((2, 5, 2)))
    with pytest.raises(DataError, match="numpy array") as caught:
        read_landmarks(tmp_path / "points.npy")
    assert "landmarks.csv" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "name", "load"),
    [(b"PK\x03\x04\0", "npz", "n.load('points.npz')"), (b"\x80\x04", "pkl", "pickle.load")],
)
def test_other_binary_files_get_the_line_that_converts_them(
    tmp_path: Path, content: bytes, name: str, load: str
) -> None:
    (tmp_path / f"points.{name}").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_landmarks(tmp_path / f"points.{name}")
    assert load in caught.value.hint


def test_lines_that_convert_are_read_after_it(tmp_path: Path) -> None:
    points = {file: np.array(marks) for file, marks in ORDERED}
    np.savez(tmp_path / "points.npz", **points)
    (tmp_path / "points.pkl").write_bytes(pickle.dumps(points))
    for name in ("points.npz", "points.pkl"):
        with pytest.raises(DataError) as caught:
            read_landmarks(tmp_path / name)
        _, *arguments = shlex.split(caught.value.hint.partition("CSV: ")[2])[:3]
        made = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, check=True)
        (tmp_path / "landmarks.csv").write_bytes(made.stdout)
        assert list(read_landmarks(tmp_path / "landmarks.csv")) == list(points)


def test_columns_of_a_box_get_the_first_line_that_names_them(tmp_path: Path) -> None:
    lines = [",".join([file, "1", "2", "3", "4", *flat(points)]) for file, points in ORDERED]
    (tmp_path / "marks.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read_landmarks(tmp_path / "marks.csv")
    head = caught.value.hint.rpartition(" ")[2]
    (tmp_path / "marks.csv").write_text("\n".join([head, *lines]))
    found = read_landmarks(tmp_path / "marks.csv")
    assert all(np.array_equal(found[file][0], np.array(points)) for file, points in ORDERED)


@pytest.mark.parametrize("suffix", [".txt", ".pts"])
def test_a_folder_with_a_point_a_line(tmp_path: Path, suffix: str) -> None:
    for file, points in ORDERED:
        path = (tmp_path / file).with_suffix(suffix)
        path.parent.mkdir(exist_ok=True)
        text = "\n".join(f"{x} {y}" for x, y in points)
        path.write_text(f"version: 1\nn_points: 5\n{{\n{text}\n}}\n" if suffix == ".pts" else text)
    found = read_landmarks(tmp_path)
    assert all(
        np.array_equal(found[file.rpartition(".")[0]][0], np.array(points)) for file, points in ORDERED
    )


def test_a_folder_of_yolo_has_a_file_an_image_and_shares_of_its_sides(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "classes.txt").write_text("face\n")
    marks = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4], [0.3, 0.4]]
    numbers = " ".join(f"{x} {y} 2" for x, y in marks)
    (tmp_path / "a" / "1.txt").write_text(f"0 0.5 0.5 0.4 0.4 {numbers}\n")
    found = read_landmarks(tmp_path)
    assert {file: faces.tolist() for file, faces in found.items()} == {"a/1": [marks]}
    assert are_relative(found)
    assert not are_relative({file: np.array(points) for file, points in ORDERED})
