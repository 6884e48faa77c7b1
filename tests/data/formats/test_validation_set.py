from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from dsrface.data.formats.validation_set import read_validation_set
from dsrface.errors import DataError

IMAGES = [b"\xff\xd8one", b"\xff\xd8two", b"\xff\xd8three\x00\xff", b"\xff\xd8four"]


def write(path: Path, content: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.parametrize(
    "answers",
    [[True, False], np.array([True, False]), np.array([1.0, 0.0], np.float32), [np.True_, np.False_], (1, 0)],
)
def test_every_way_in_which_such_files_are_written(
    tmp_path: Path, protocol: int, as_arrays: bool, answers: object
) -> None:
    images = [np.frombuffer(item, np.uint8) for item in IMAGES] if as_arrays else IMAGES
    found = read_validation_set(write(tmp_path / "lfw.bin", (images, answers), protocol))
    assert found.images == tuple(IMAGES)
    assert found.is_same == (True, False)


def test_bytes_of_python_2_are_read(tmp_path: Path) -> None:
    # What Python 2 wrote for (['ab', 'cd'], [True]) at protocol 2: its strings are opcode U.
    (tmp_path / "lfw.bin").write_bytes(b"\x80\x02]q\x00(U\x02abU\x02cde]\x88a\x86.")
    assert read_validation_set(tmp_path / "lfw.bin").images == (b"ab", b"cd")


class _Calls:
    def __init__(self, function: object, *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.args


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_unread(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    evil = [_Calls(os.system, f"touch {mark}")]
    path = write(tmp_path / "lfw.bin", (evil, [True]), protocol)
    with pytest.raises(DataError, match="would call") as caught:
        read_validation_set(path)
    assert caught.value.id == "unsafe-pickle"
    assert not mark.exists()


@pytest.mark.parametrize(
    "evil",
    [
        _Calls(eval, "1"),
        _Calls(np.ndarray, (2,)),
        np.array([object], object),
        _Calls(np.dtype, "O"),
        _Calls(np.dtype, [("a", "O")]),
        _Calls(getattr, b"", "join"),
    ],
)
def test_nothing_but_plain_arrays_is_built(tmp_path: Path, evil: object) -> None:
    with pytest.raises(DataError) as caught:
        read_validation_set(write(tmp_path / "lfw.bin", ([evil, evil], [True]), 4))
    assert caught.value.id == "unsafe-pickle"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1], "two lists"),
        (([b"a", b"b", b"c"], [True]), "3 images for 1 pairs"),
        ((["text", "text"], [True]), "of type str"),
        (([b"a", b"b"], [3]), "not true or false"),
    ],
)
def test_another_content_is_named(tmp_path: Path, content: object, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        read_validation_set(write(tmp_path / "lfw.bin", content, 4))
    assert caught.value.id == "bad-validation-set"


def test_a_file_cut_off_is_no_traceback(tmp_path: Path) -> None:
    path = write(tmp_path / "lfw.bin", (IMAGES, [True, False]), 4)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="no whole pickle"):
        read_validation_set(path)
