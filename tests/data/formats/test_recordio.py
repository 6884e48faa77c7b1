from __future__ import annotations

import contextlib
import itertools
import struct
from pathlib import Path

import pytest

from dsrface.data.formats.recordio import RecordFile, person_name
from dsrface.errors import DataError

MAGIC = struct.pack("<I", 0xCED7230A)


class Writer:
    """Writes RecordIO as dmlc-core does: a payload with an aligned magic number is cut there."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.index = path, b"", []

    def put(self, key: int, payload: bytes) -> None:
        self.index.append((key, len(self.data)))
        cuts = [place for place in range(0, len(payload) - 3, 4) if payload[place : place + 4] == MAGIC]
        edges = [0, *cuts, len(payload)]
        parts = [payload[a + (4 if a else 0) : b] for a, b in itertools.pairwise(edges)]
        for number, part in enumerate(parts):
            flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
            word = flag << 29 | len(part)
            self.data += MAGIC + struct.pack("<I", word) + part + b"\0" * (-len(part) % 4)

    def close(self, *, with_index: bool = True) -> Path:
        self.path.write_bytes(self.data)
        if with_index:
            self.path.with_suffix(".idx").write_text("".join(f"{k}\t{o}\n" for k, o in self.index))
        return self.path


def payload(label: float | list[float], image: bytes, key: int = 0) -> bytes:
    if isinstance(label, list):
        head = struct.pack("<IfQQ", len(label), 0.0, key, 0) + struct.pack(f"<{len(label)}f", *label)
        return head + image
    return struct.pack("<IfQQ", 0, label, key, 0) + image


@pytest.fixture
def opened():
    """Open files that are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(RecordFile(path))


def insightface(path: Path, *, with_index: bool) -> Path:
    writer = Writer(path)
    writer.put(0, payload([4, 6], b""))
    for key, (label, image) in enumerate([(0, b"aa"), (0, b"bbb"), (1, b"cccc")], start=1):
        writer.put(key, payload(label, image, key))
    writer.put(4, payload([1, 3], b""))
    writer.put(5, payload([3, 4], b""))
    return writer.close(with_index=with_index)


@pytest.mark.parametrize("with_index", [True, False])
def test_header_and_identity_records_hold_no_image(opened, tmp_path: Path, with_index: bool) -> None:
    file = opened(insightface(tmp_path / "train.rec", with_index=with_index))
    places = list(file.places())
    assert [(place.key, place.label) for place in places] == [(1, 0), (2, 0), (3, 1)]
    assert [file.image(place.offset) for place in places] == [b"aa", b"bbb", b"cccc"]
    assert person_name(places[2].label) == "id_000001"


def test_a_label_may_be_a_list_of_numbers_and_the_first_record_an_image(opened, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "train.rec")
    writer.put(0, payload([7.0, 0.0], b"jpeg"))
    file = opened(writer.close())
    (place,) = file.places()
    assert (place.label, file.image(place.offset)) == (7, b"jpeg")


@pytest.mark.parametrize("with_index", [True, False])
def test_a_payload_with_the_magic_number_in_it_is_whole_again(
    opened, tmp_path: Path, with_index: bool
) -> None:
    # The payload's header is 24 bytes long, so the image's bytes 0..3 and 8..11 lie on a multiple of 4.
    image = MAGIC + b"1234" + MAGIC + b"567"
    writer = Writer(tmp_path / "train.rec")
    writer.put(0, payload(3, image))
    writer.put(1, payload(4, b"next"))
    file = opened(writer.close(with_index=with_index))
    assert [file.image(place.offset) for place in file.places()] == [image, b"next"]


@pytest.mark.parametrize("with_index", [True, False])
def test_a_damaged_record_is_named_and_the_others_are_read(opened, tmp_path: Path, with_index: bool) -> None:
    path = insightface(tmp_path / "train.rec", with_index=with_index)
    data = bytearray(path.read_bytes())
    place = data.index(MAGIC, data.index(b"aa"))  # the record after the first image
    data[place : place + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    file = opened(path)
    places = list(file.places())
    bad = [item for item in places if item.problem]
    assert len(bad) == 1
    assert "no record starts at byte" in bad[0].problem
    assert [file.image(item.offset) for item in places if not item.problem] == [b"aa", b"cccc"]


@pytest.mark.parametrize(
    ("label", "what"),
    [(float("nan"), "its label is nan"), (-1.0, "its label is -1.0"), (0.5, "its label is 0.5")],
)
def test_a_label_that_is_no_person_is_damage(opened, tmp_path: Path, label: float, what: str) -> None:
    writer = Writer(tmp_path / "train.rec")
    writer.put(0, payload(label, b"jpeg"))
    (place,) = opened(writer.close()).places()
    assert what in place.problem


def test_a_file_that_ends_too_early_names_its_last_record(opened, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "train.rec")
    writer.put(0, payload(0, b"whole"))
    writer.put(1, payload(0, b"x" * 100))
    path = writer.close()
    path.write_bytes(path.read_bytes()[:-50])
    file = opened(path)
    places = list(file.places())
    assert [bool(place.problem) for place in places] == [False, True]
    assert "cut off" in places[1].problem


def test_what_is_no_recordio_is_refused(opened, tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(b"\x89PNG....")
    with pytest.raises(DataError, match="does not start with a RecordIO record") as caught:
        opened(tmp_path / "train.rec")
    assert caught.value.id == "bad-recordio"
    path = insightface(tmp_path / "other.rec", with_index=True)
    path.with_suffix(".idx").write_text("0\tzero\n")
    with pytest.raises(DataError, match="not a key and an offset"):
        list(opened(path).places())


def test_the_index_of_another_file_is_said_to_be_one(opened, tmp_path: Path) -> None:
    path = insightface(tmp_path / "train.rec", with_index=False)
    path.with_suffix(".idx").write_text("0\t0\n1\t12\n2\t20\n3\t44\n")
    with pytest.raises(DataError, match="index is of another file") as caught:
        list(opened(path).places())
    assert "Delete the .idx" in caught.value.hint
