"""Five points a face from the files that detectors and data sets write them to.

Every reader gives the template's order: the eye at the viewer's left, the eye at the right, nose tip, mouth
corner at the left, at the right. Names as the person has them (`right_eye` first) are turned.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dsrface.data.decode import has_image_suffix
from dsrface.data.formats.conversion import to_utf8, unread_kind
from dsrface.data.formats.five_points import COUNTS, Points, five_points, is_no_face, is_number
from dsrface.data.formats.landmark_json import json_rows
from dsrface.data.formats.list_rows import is_file_heading, split_image
from dsrface.data.formats.text import decode_list, separator_of
from dsrface.errors import DataError
from dsrface.runtime.files import MAX_TEXT_BYTES, read_bounded

LANDMARK_COLUMNS = ("lx", "ly", "rx", "ry", "nx", "ny", "mlx", "mly", "mrx", "mry")
_HEADER_LINE = "file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry"
_PROGRAMS = "or what RetinaFace, MTCNN, CelebA, insightface, dlib or YOLO write"
_PART_COLUMNS = {"eye": "", "nose": "n", "mouth": "m"}
_NUMBERED = re.compile("([xy])_?([0-9]+)")
_WIDERFACE_BOX, _WIDERFACE_FIELDS = 4, 15
_YOLO_BOX = 5
_POINT_SUFFIXES = (".txt", ".pts")
_PRINT_ROWS = "[print(f, *r, sep=',') for f, r in zip(open('files.txt').read().split(), p)]"
_PRINT_EACH = "[print(f, *n.ravel(r), sep=',') for f, r in p.items()]"
# What binary files are by their first bytes, and the line of Python that converts them.
_BINARIES = {
    b"\x93NUMPY": (
        "a numpy array, which does not say which image a row belongs to; files.txt lists them in its order",
        "import numpy as n; p = n.load('points.npy').reshape(-1, 10); " + _PRINT_ROWS,
    ),
    b"PK\x03\x04": (
        "a .npz file or another archive",
        "import numpy as n; p = n.load('points.npz'); " + _PRINT_EACH,
    ),
    b"\x80": (
        "a pickle, which could run code: where you trust it, and it holds points by file, convert it",
        "import pickle, numpy as n; p = pickle.load(open('points.pkl', 'rb')); " + _PRINT_EACH,
    ),
}


def read_landmarks(path: Path) -> dict[str, Points]:
    """Read five points of each face; the content decides which format it is.

    Known are CSV with the columns of `LANDMARK_COLUMNS` in any order, or without a first line when each line
    is a name and ten numbers, separated by commas, semicolons, tabs or blanks; CelebA's
    `list_landmarks_*.txt`; RetinaFace's (WIDER FACE) `label.txt`; JSON of serengil/retinaface, of MTCNN
    (`keypoints`), insightface (`kps`), COCO and FFHQ; and a folder with a file for each image:
    YOLO's `.txt`, or `.txt` or `.pts` with a point a line. 68 points (dlib) count for five. Faces without
    points, as WIDER FACE has them, are passed over.

    Returns:
        File, relative to the photo folder with `/`, to float64 [n, 5, 2] of its faces in pixels, or in shares
        of width and height where the file has those: `five_points.are_relative`.

    Raises:
        DataError: unreadable or of an unknown format, with the line.
    """
    if path.is_dir():
        return _by_file(_folder_of_files(path))
    text = _text(path)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise _bad("The landmarks file is empty.", path)
    if text.lstrip()[0] in "{[":
        rows = json_rows(text, str(path))
    elif _is_widerface([line for _, line in lines[:2]]):
        rows = _widerface_rows(lines, path)
    elif lines[0][1].strip().isdecimal():
        rows = _celeba_rows(lines[1:], path)
    else:
        rows = _csv_rows(lines, path)
    found = _by_file(rows)
    if not found:
        raise _bad("The landmarks file holds no face with five points.", path)
    return found


def _by_file(rows: Iterable[tuple[str, Points]]) -> dict[str, Points]:
    """Return the faces of each file, each of them once."""
    found: dict[str, list[Points]] = {}
    for name, points in rows:
        if is_no_face(points):
            continue
        faces = found.setdefault(name.replace("\\", "/").removeprefix("./"), [])
        if not any(np.array_equal(points, face) for face in faces):
            faces.append(points)
    return {name: np.stack(faces) for name, faces in found.items()}


def _folder_of_files(folder: Path) -> Iterator[tuple[str, Points]]:
    """Read a file an image: class, box and points in a line, as YOLO has them; or a point a line, as iBUG."""
    has_points = False
    for path in sorted(item for suffix in _POINT_SUFFIXES for item in folder.rglob(f"*{suffix}")):
        lines = [line.replace(",", " ").split() for line in _text(path).splitlines() if line.strip()]
        points = [line for line in lines if len(line) == 2 and all(map(is_number, line))]
        faces = [line[_YOLO_BOX:] for line in lines if len(line) - _YOLO_BOX in COUNTS]
        if not faces and 2 * len(points) in COUNTS:
            faces = [[value for point in points for value in point]]
        for values in faces:
            yield path.relative_to(folder).with_suffix("").as_posix(), five_points(values, str(path))
            has_points = True
    if not has_points:
        raise _bad(
            "No .txt or .pts file of the folder holds five points, in a line of YOLO or one a line.", folder
        )


def _text(path: Path) -> str:
    try:
        content = read_bounded(path, max_bytes=MAX_TEXT_BYTES)
    except FileNotFoundError:
        raise _bad(
            "There is no such landmarks file.",
            path,
            hint="--align takes auto, none, resize, or a file with five points a photo: a CSV file whose "
            f"first line is {_HEADER_LINE}, {_PROGRAMS}.",
        ) from None
    except OSError as error:
        raise _bad(f"Cannot read the landmarks: {error.strerror or error}.", path) from None
    is_kind, convert = unread_kind(path)
    if is_kind:
        raise _bad(is_kind, path, hint=convert)
    for start, (what, line) in _BINARIES.items():
        if content.startswith(start):
            raise _bad(f"This is {what}.", path, hint=f'Write it as CSV: python -c "{line}" > landmarks.csv')
    try:
        return decode_list(content)
    except UnicodeDecodeError as error:
        raise _bad(f"The landmarks file is no text: {error}.", path, hint=to_utf8(path)) from None


def _csv_rows(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    first = lines[0][1]
    separator = separator_of(first)
    table = [(number, _fields(line, separator)) for number, line in lines]
    head = [field.strip() for field in table[0][1]]
    if len(table) > 1 and len(table[1][1]) == len(head) + 1 and has_image_suffix(table[1][1][0].strip()):
        head = ["file", *head]  # as CelebA's heading, which says nothing of the first column
    has_no_head = len(head) > 1 and all(is_number(field) for field in head[1:])
    if len(head) == 1:
        raise _bad(f"The first line, {first.strip()!r}, has neither landmarks nor names of columns.", path)
    if has_no_head and len(head) - 1 not in COUNTS:
        raise _bad(
            f"The landmarks file has {len(head)} columns and no first line that names them; without one it "
            f"must have a file and {len(LANDMARK_COLUMNS)} numbers.",
            path,
            hint="Add a first line with names of your own for the further columns, e.g. "
            + _header_with_others(len(head) - 1 - len(LANDMARK_COLUMNS)),
        )
    columns = ["file"] if has_no_head else [_column(name) for name in head]
    rows = table if has_no_head else table[1:]
    if "file" not in columns and rows:  # its heading may be of any language
        columns = [
            "file" if has_image_suffix(field.strip()) else name
            for name, field in zip(columns, rows[0][1], strict=False)
        ]
    places = list(range(1, len(head))) if has_no_head else _numbered_columns(head)
    wanted = ("file",) if places else ("file", *LANDMARK_COLUMNS)
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise _bad(f"The landmarks file has no column {', '.join(missing)}.", path)
    places = places or [columns.index(name) for name in LANDMARK_COLUMNS]
    place_of_file = columns.index("file")
    for number, fields in rows:
        values = [fields[place] if place < len(fields) else "" for place in places]
        yield fields[place_of_file].strip(), five_points(values, f"{path}, line {number}")


def _header_with_others(num_others: int) -> str:
    """Return the first line for more columns than a file and five points; a box is before the points."""
    box = ",".join(f"box{number}" for number in range(1, 5)) if num_others > 3 else ""
    rest = ",".join(f"other{number}" for number in range(1, num_others + 1 - 4 * bool(box)))
    file, points = _HEADER_LINE.split(",", 1)
    return ",".join(filter(None, [file, box, points, rest]))


def _fields(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return _blank_fields(line)
    fields = next(csv.reader([line], delimiter=separator))
    if separator == ",":
        return fields
    return [fields[0], *(field.replace(",", ".") for field in fields[1:])]  # as spreadsheets write in Europe


def _numbered_columns(head: Sequence[str]) -> list[int]:
    """Return the places of columns x0, y0, x1, ... in that order; empty unless they are 5 or 68 points."""
    found = {
        (int(match[2]), match[1]): place
        for place, name in enumerate(head)
        if (match := _NUMBERED.fullmatch(name))
    }
    return [found[key] for key in sorted(found)] if len(found) in COUNTS else []


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


def _blank_fields(line: str) -> list[str]:
    """Return the fields of a line with blanks between them, and maybe in the name of its image."""
    found = split_image(line)
    return line.split() if found is None else [found[0], *found[1].split()]


def _celeba_rows(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    has_head = not any(map(is_number, _blank_fields(lines[0][1]))) if lines else False
    for number, line in lines[has_head:]:
        name, *values = _blank_fields(line)
        yield name, five_points(values, f"{path}, line {number}")


def _is_widerface(first: Sequence[str]) -> bool:
    """Return whether a file begins with `# IMAGE` and its faces, rather than with a remark."""
    return first[0].startswith("# ") and all(
        line.startswith("# ") or all(map(is_number, line.split())) for line in first[1:]
    )


def _widerface_rows(lines: Sequence[tuple[int, str]], path: Path) -> Iterator[tuple[str, Points]]:
    name = ""
    for number, line in lines:
        if line.startswith("# "):
            name = line[2:].strip()
            continue
        fields = line.split()
        if len(fields) < _WIDERFACE_BOX + _WIDERFACE_FIELDS:
            continue  # a face without points
        marks = fields[_WIDERFACE_BOX : _WIDERFACE_BOX + _WIDERFACE_FIELDS]
        yield name, five_points([marks[k] for k in range(len(marks)) if k % 3 != 2], f"{path}, line {number}")


def _bad(message: str, path: Path, *, where: str = "", hint: str = "") -> DataError:
    return DataError(
        message,
        id="bad-landmarks",
        where=where or path,
        hint=hint or f"A CSV file whose first line is {_HEADER_LINE}, {_PROGRAMS}.",
    )
