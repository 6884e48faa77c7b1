"""Five points a face from the files that detectors and data sets write them to.

Every reader gives the template's order: the eye at the viewer's left, the eye at the right, nose tip, mouth
corner at the left, at the right. Names as the person has them (`right_eye` first) are turned.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.data.formats.lists import is_file_heading
from dsrface.data.formats.text import decode_list, separator_of
from dsrface.errors import DataError
from dsrface.runtime.files import MAX_TEXT_BYTES, read_bounded

Points = NDArray[np.float64]

LANDMARK_COLUMNS = ("lx", "ly", "rx", "ry", "nx", "ny", "mlx", "mly", "mrx", "mry")
_HEADER_LINE = "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry"
_PART_COLUMNS = {"eye": "", "nose": "n", "mouth": "m"}
_WIDERFACE_BOX, _WIDERFACE_FIELDS = 4, 15
# serengil/retinaface names the sides as the person has them, the mtcnn package as the viewer does.
_RETINAFACE_KEYS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
_MTCNN_KEYS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def read_landmarks(path: Path) -> dict[str, Points]:
    """Read five points per image; the content decides which format it is.

    Known are CSV with the columns of `LANDMARK_COLUMNS` in any order, or without a first line when each line
    is a name and ten numbers, separated by commas, semicolons, tabs or blanks; CelebA's
    `list_landmarks_*.txt`; RetinaFace's (WIDER FACE) `label.txt`; JSON of serengil/retinaface, of MTCNN
    (`keypoints`), and of five points an image. Of several faces in one image the first is taken.

    Returns:
        File, relative to the photo folder with `/`, to float64 [5, 2] in pixels.

    Raises:
        DataError: unreadable or of an unknown format, with the line.
    """
    text = _text(path)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise _bad("The landmarks file is empty.", path)
    if text.lstrip()[0] in "{[":
        rows = _json_rows(text, path)
    elif any(line.startswith("# ") for _, line in lines[:1]):
        rows = _widerface_rows(lines, path)
    elif lines[0][1].strip().isdecimal():
        rows = _celeba_rows(lines[2:], path)
    else:
        rows = _csv_rows(lines, path)
    found: dict[str, Points] = {}
    for name, points in rows:
        found.setdefault(name.replace("\\", "/").removeprefix("./"), points)
    return found


def _text(path: Path) -> str:
    try:
        content = read_bounded(path, max_bytes=MAX_TEXT_BYTES)
    except FileNotFoundError:
        raise _bad(
            "There is no such landmarks file.",
            path,
            hint="--align takes auto, none, resize, or a file with five points a photo: a CSV file whose "
            f"first line is {_HEADER_LINE}, or what RetinaFace, MTCNN or CelebA write.",
        ) from None
    except OSError as error:
        raise _bad(f"Cannot read the landmarks: {error.strerror or error}.", path) from None
    if content.startswith(b"\x93NUMPY"):
        raise _bad(
            "This is a numpy array, which does not say which image a row belongs to.",
            path,
            hint="Write it as CSV, with the list of images in the order of the rows: "
            "python -c \"import numpy as n; p = n.load('points.npy').reshape(-1, 10); "
            "[print(f, *r, sep=',') for f, r in zip(open('files.txt').read().split(), p)]\" > landmarks.csv",
        )
    try:
        return decode_list(content)
    except UnicodeDecodeError as error:
        raise _bad(f"The landmarks file is no text: {error}.", path) from None


def _csv_rows(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    first = lines[0][1]
    separator = separator_of(first)
    table = [(number, _fields(line, separator)) for number, line in lines]
    head = [field.strip() for field in table[0][1]]
    has_no_head = len(head) > 1 and all(_is_number(field) for field in head[1:])
    if has_no_head and len(head) != 1 + len(LANDMARK_COLUMNS):
        raise _bad(
            f"The landmarks file has {len(head)} columns and no first line that names them; without one it "
            f"must have a file and {len(LANDMARK_COLUMNS)} numbers.",
            path,
            hint="Add a first line with names of your own for the further columns, e.g. "
            f"{_HEADER_LINE},score",
        )
    columns = ["file", *LANDMARK_COLUMNS] if has_no_head else [_column(name) for name in head]
    rows = table if has_no_head else table[1:]
    missing = [name for name in ("file", *LANDMARK_COLUMNS) if name not in columns]
    if missing:
        raise _bad(f"The landmarks file has no column {', '.join(missing)}.", path)
    places = [columns.index(name) for name in LANDMARK_COLUMNS]
    place_of_file = columns.index("file")
    for number, fields in rows:
        values = [fields[place] if place < len(fields) else "" for place in places]
        yield fields[place_of_file].strip(), _points(values, f"{path}, line {number}")


def _fields(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    fields = next(csv.reader([line], delimiter=separator))
    if separator == ",":
        return fields
    return [fields[0], *(field.replace(",", ".") for field in fields[1:])]  # as spreadsheets write in Europe


def _column(name: str) -> str:
    """Return the name in `LANDMARK_COLUMNS` of a column such as `lefteye_x`; `file` of one such as `path`."""
    plain = re.sub("[^a-z]", "", name.lower())
    if plain in LANDMARK_COLUMNS:
        return plain
    if is_file_heading(name):
        return "file"
    part = next((short for word, short in _PART_COLUMNS.items() if word in plain), None)
    if part is None or plain[-1] not in "xy":
        return name
    side = "l" if "left" in plain else "r" if "right" in plain else ""
    return f"{part}{side}{plain[-1]}"


def _celeba_rows(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    for number, line in lines:
        name, *values = line.split()
        yield name, _points(values, f"{path}, line {number}")


def _widerface_rows(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    name, is_taken = "", True
    for number, line in lines:
        if line.startswith("# "):
            name, is_taken = line[2:].strip(), False
            continue
        fields = line.split()
        if is_taken or len(fields) < _WIDERFACE_BOX + _WIDERFACE_FIELDS:
            continue  # another face of the same image, or one without points
        marks = fields[_WIDERFACE_BOX : _WIDERFACE_BOX + _WIDERFACE_FIELDS]
        yield name, _points([marks[k] for k in range(len(marks)) if k % 3 != 2], f"{path}, line {number}")
        is_taken = True


def _json_rows(text: str, path: Path) -> Iterator[tuple[str, Points]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"The landmarks file is no JSON: {error}.", path) from None
    if not isinstance(content, dict):
        raise _bad("The JSON must be an object of image to faces.", path)
    for name, faces in content.items():
        face = _first_face(faces)
        if face is None:
            continue
        marks, keys = face
        if not all(isinstance(marks.get(key), list | tuple) and len(marks[key]) == 2 for key in keys):
            raise _bad(f"A face lacks one of the points {', '.join(keys)}.", path, where=f"{path}, {name!r}")
        yield name, _points([value for key in keys for value in marks[key]], f"{path}, {name!r}")


def _first_face(faces: Any) -> tuple[Mapping[str, Any], Sequence[str]] | None:
    """Return the points of an image's first face, and their keys in the template's order."""
    if isinstance(faces, list) and len(faces) == len(_MTCNN_KEYS) and not isinstance(faces[0], dict):
        return dict(zip(_MTCNN_KEYS, faces, strict=True)), _MTCNN_KEYS
    if isinstance(faces, dict) and not ({"keypoints", "landmarks"} & faces.keys()):
        faces = list(faces.values())
    face = faces[0] if isinstance(faces, list) and faces else faces
    if not isinstance(face, dict):
        return None
    for key, order in (("landmarks", _RETINAFACE_KEYS), ("keypoints", _MTCNN_KEYS)):
        if isinstance(face.get(key), dict):
            return face[key], order
    return None


def turn_round(landmarks: Mapping[str, Points]) -> dict[str, Points] | None:
    """Return the points with left and right exchanged when every face of a file has them as the person has.

    One image cannot say whether a face is mirrored or names are exchanged, but a whole file of them can.

    Returns:
        The exchanged points; None when they are in the viewer's order, or in both orders.
    """
    if not landmarks or not all(_is_mirrored(points) for points in landmarks.values()):
        return None
    return {name: points[[1, 0, 2, 4, 3]] for name, points in landmarks.items()}


def _is_mirrored(points: Points) -> bool:
    across = points[1] - points[0]
    down = points[3:].mean(0) - points[:2].mean(0)
    return bool(across[0] * down[1] - across[1] * down[0] < 0)


def _points(values: Sequence[Any], where: str) -> Points:
    numbers = [float(value) if _is_number(value) else float("nan") for value in values]
    if len(numbers) != len(LANDMARK_COLUMNS):
        raise DataError(
            f"{len(LANDMARK_COLUMNS)} numbers are needed, five points; there are {len(numbers)}.",
            id="bad-landmarks",
            where=where,
        )
    points = np.array(numbers).reshape(5, 2)
    if not np.isfinite(points).all():
        raise DataError("A landmark is not a number.", id="bad-landmarks", where=where)
    return points


def _is_number(value: Any) -> bool:
    convert: Callable[[Any], float] = float
    try:
        convert(value)
    except (TypeError, ValueError):
        return False
    return True


def _bad(message: str, path: Path, *, where: str = "", hint: str = "") -> DataError:
    return DataError(
        message,
        id="bad-landmarks",
        where=where or path,
        hint=hint
        or f"A CSV file whose first line is {_HEADER_LINE}, or the file of RetinaFace, MTCNN or CelebA.",
    )
