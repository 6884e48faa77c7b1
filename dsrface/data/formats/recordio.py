"""MXNet RecordIO, as insightface's training sets come: `train.rec`, `train.idx` and `property`.

The file is never read as a whole: a table of places is made from the index, or from the record headers when
there is no index, and an image is read when it is wanted.

Source:
    dmlc-core `recordio.h` for the framing, MXNet `recordio.IRHeader` for the payload, insightface
    `face2rec2.py` for the header record and the identity records.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from dsrface.errors import DataError

RECORD_SUFFIX = ".rec"
_MAGIC = 0xCED7230A
_FRAME = struct.Struct("<II")  # magic; 3 bits of continuation flag, 29 bits of length
_HEADER = struct.Struct("<IfQQ")  # number of labels (0: the next field is the label), label, id, id2
_LENGTH_MASK = (1 << 29) - 1
_OFFSETS_LOOKED_AT = 100  # to see whether an index belongs to its file
_WITHOUT_INDEX = "Delete the .idx file: the records are then found one after another."
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A record that holds an image, or one that cannot be read.

    Args:
        key: Its number in the index, or its position in a file without index.
        offset: Where it starts, in bytes.
        label: Number of the person; None for a damaged record.
        problem: What is wrong with it; empty for a sound one.
    """

    key: int
    offset: int
    label: int | None
    problem: str = ""


class RecordFile:
    """An open `.rec` file; safe to open once a process.

    Args:
        path: The `.rec` file; an `.idx` file of the same name is used when there is one.

    Raises:
        DataError: no such file, or no record at its start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise DataError(f"Cannot open the file: {error}.", id="bad-recordio", where=path) from None
        self._size = path.stat().st_size
        start = self._file.read(4)
        if start != struct.pack("<I", _MAGIC):
            self._file.close()
            raise DataError(
                f"The file does not start with a RecordIO record ({start.hex() or 'it is empty'}).",
                id="bad-recordio",
                where=path,
                hint="A .rec file of MXNet starts with the bytes 0a 23 d7 ce; download or copy it again.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def places(self) -> Iterator[RecordPlace]:
        """Yield every record that holds an image, and every damaged one, in the order of the file.

        The header record and the identity records of insightface's files hold no image and are passed over.

        Raises:
            DataError: an index that is none, or that of another file.
        """
        names = (self.path.with_suffix(suffix) for suffix in (".idx", ".IDX"))
        index = next((path for path in names if path.is_file()), None)
        offsets = self._from_index(index) if index is not None else self._scan()
        for key, offset in offsets:
            try:
                label, has_image = self._describe(offset)
            except DataError as error:
                yield RecordPlace(key, offset, None, error.message)
                continue
            if has_image:
                yield RecordPlace(key, offset, label)

    def image(self, offset: int) -> bytes:
        """Return the encoded image of the record at an offset.

        Raises:
            DataError: damaged; id `damaged-record`.
        """
        payload = self._payload(offset)
        return payload[self._start_of_image(payload) :]

    def _describe(self, offset: int) -> tuple[int, bool]:
        """Return the label of a record and whether an image follows, from its first bytes alone."""
        flag, length = self._frame(offset)
        if offset + _FRAME.size + length > self._size:
            raise _damaged("it is cut off: the file ends too early")
        if flag == _WHOLE:
            head = self._read(offset + _FRAME.size, min(length, _HEADER.size + 4))
        else:
            head = self._payload(offset)
            length = len(head)
        if len(head) < _HEADER.size:
            raise _damaged("it is too short for a header")
        num_labels, label, _, _ = _HEADER.unpack_from(head)
        if num_labels:
            if length < _HEADER.size + 4 * num_labels:
                raise _damaged(f"it is too short for its {num_labels} labels")
            (label,) = struct.unpack_from("<f", head, _HEADER.size)
        has_image = length > _HEADER.size + 4 * num_labels
        if has_image and not (math.isfinite(label) and label >= 0 and label == int(label)):
            raise _damaged(f"its label is {label!r}, not the number of a person")
        return (int(label) if has_image else -1), has_image

    def _payload(self, offset: int) -> bytes:
        """Return a record's bytes; one that contains the magic number is stored in parts, without it."""
        parts: list[bytes] = []
        while True:
            flag, length = self._frame(offset)
            part = self._read(offset + _FRAME.size, length)
            if len(part) < length:
                raise _damaged("it is cut off: the file ends too early")
            parts.append(part)
            if flag in (_WHOLE, _LAST):
                return struct.pack("<I", _MAGIC).join(parts)
            offset += _FRAME.size + length + -length % 4

    @staticmethod
    def _start_of_image(payload: bytes) -> int:
        if len(payload) < _HEADER.size:
            raise _damaged("it is too short for a header")
        num_labels = _HEADER.unpack_from(payload)[0]
        return _HEADER.size + 4 * int(num_labels)

    def _frame(self, offset: int) -> tuple[int, int]:
        found = self._read(offset, _FRAME.size)
        if len(found) < _FRAME.size:
            raise _damaged("its offset is beyond the end of the file")
        magic, word = _FRAME.unpack(found)
        if magic != _MAGIC:
            raise _damaged(f"no record starts at byte {offset}")
        return word >> 29, word & _LENGTH_MASK

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _from_index(self, path: Path) -> list[tuple[int, int]]:
        offsets = _read_index(path)
        looked_at = offsets[:: max(1, len(offsets) // _OFFSETS_LOOKED_AT)]
        starts = [self._read(offset, 4) for _, offset in looked_at if offset < self._size]
        if 2 * starts.count(struct.pack("<I", _MAGIC)) < len(starts):
            raise DataError(
                f"The index is of another file: at most of its offsets no record of {self.path.name} starts.",
                id="bad-recordio",
                where=path,
                hint=_WITHOUT_INDEX,
            )
        return offsets

    def _scan(self) -> Iterator[tuple[int, int]]:
        """Yield number and offset of every record, without an index; after damage, from the next magic."""
        key = offset = 0
        while offset < self._size:
            yield key, offset
            key += 1
            try:
                offset = self._end(offset)
            except DataError:
                offset = self._next_magic(offset + 4)

    def _end(self, offset: int) -> int:
        while True:
            flag, length = self._frame(offset)
            offset += _FRAME.size + length + -length % 4
            if flag in (_WHOLE, _LAST):
                return offset

    def _next_magic(self, offset: int) -> int:
        wanted, step = struct.pack("<I", _MAGIC), 1 << 20
        while offset < self._size:
            block = self._read(offset, step + 3)
            found = block.find(wanted)
            if found >= 0:
                return offset + found
            offset += step
        return self._size


def person_name(label: int) -> str:
    """Return the name of a person who is only a number: `id_000017`."""
    return f"id_{label:06d}"


def _read_index(path: Path) -> list[tuple[int, int]]:
    found = []
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not all(field.isdecimal() for field in fields):
            raise DataError(
                f"The index holds {line!r}, not a key and an offset.",
                id="bad-recordio",
                where=f"{path}, line {number}",
                hint=_WITHOUT_INDEX,
            )
        found.append((int(fields[0]), int(fields[1])))
    return sorted(found, key=lambda item: item[1])


def _damaged(what: str) -> DataError:
    return DataError(f"The record is damaged: {what}.", id="damaged-record")
