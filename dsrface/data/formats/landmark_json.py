"""Landmarks as JSON: an object or a list, or a line for each image, whatever nests the points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dsrface.data.formats.five_points import COUNTS, Points, five_points, is_number
from dsrface.data.formats.list_rows import is_file_heading
from dsrface.data.formats.text import json_content
from dsrface.errors import DataError

# serengil/retinaface names the sides as the person has them, the mtcnn package as the viewer does.
_NAMED = {
    "landmarks": ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left"),
    "keypoints": ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),
}


def json_rows(text: str, where: str) -> Iterator[tuple[str, Points]]:
    """Yield the file and the points of every face.

    Known are serengil/retinaface, MTCNN (`keypoints`), insightface (`kps`), COCO, dlib and FFHQ (68 points),
    and five points an image; the file is the key, or a field such as `file`.

    Args:
        text: JSON, or JSON lines.
        where: Place of the file, for messages.

    Raises:
        DataError: no JSON, or a face of another form; id `bad-landmarks`.
    """
    for name, found, keys in _faces(_of_coco(_content(text, where)), None):
        place = f"{where}, {name!r}"
        if not name:
            raise DataError("A face does not say which file it is in.", id="bad-landmarks", where=where)
        yield name, five_points(_in_order(found, keys, place) if keys else found, place)


def _in_order(marks: Mapping[str, Any], keys: Sequence[str], place: str) -> list[Any]:
    if not all(isinstance(marks.get(key), list) and len(marks[key]) == 2 for key in keys):
        message = f"A face lacks one of the points {', '.join(keys)}."
        raise DataError(message, id="bad-landmarks", where=place)
    return [value for key in keys for value in marks[key]]


def _content(text: str, where: str) -> Any:
    try:
        return json_content(text)
    except ValueError as error:
        message = f"The landmarks file is no JSON: {error}."
        raise DataError(message, id="bad-landmarks", where=where) from None


def _faces(node: Any, name: str | None) -> Iterator[tuple[str, Any, Sequence[str]]]:
    """Yield the file, the points, and the names that the points have, of every face below a node.

    Args:
        node: Part of the content.
        name: The file that the node is about; None at the top, where the keys of an object are files.
    """
    if isinstance(node, dict):
        own = next((node[key] for key in node if isinstance(node[key], str) and is_file_heading(key)), name)
        for key, value in node.items():
            if isinstance(value, dict) and key in _NAMED:
                yield own or "", value, _NAMED[key]
            else:
                yield from _faces(value, key if own is None else own)
    elif isinstance(node, list):
        numbers = _numbers(node)
        if len(numbers) in COUNTS:
            yield name or "", numbers, ()
        else:
            for item in node:
                yield from _faces(item, name or "")


def _numbers(node: Sequence[Any]) -> list[Any]:
    """Return the numbers of a list, or of a list of points; empty for any other."""
    points = [_as_list(item) for item in node if isinstance(item, list | dict)]
    points = [item for item in points if len(item) in (2, 3)]
    flat = [value for point in points for value in point] if len(points) == len(node) else list(node)
    return flat if all(map(is_number, flat)) else []


def _as_list(point: list[Any] | dict[str, Any]) -> list[Any]:
    if isinstance(point, dict):
        return [point["x"], point["y"]] if {"x", "y"} <= point.keys() else []
    return point


def _of_coco(content: Any) -> Any:
    """Return a list of faces with their files for what COCO keeps in two tables; other content as it is."""
    if not isinstance(content, dict):
        return content
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return content
    if not all(isinstance(row, dict) for row in (*images, *annotations)):
        return content
    names = {row.get("id"): row.get("file_name") for row in images}
    return [{"file": names.get(row.get("image_id")), "kps": row.get("keypoints")} for row in annotations]
