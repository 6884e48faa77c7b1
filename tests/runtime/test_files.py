"""Files: written under names that fit, read with a bound."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsrface.errors import RunError
from dsrface.runtime.files import (
    disk_error,
    read_bounded,
    read_json,
    temporary_path,
    write_bytes,
    write_json,
)


@pytest.mark.skipif(os.name == "nt", reason="250 bytes and a folder are too long there")
@pytest.mark.parametrize("name", ["n" * 251 + ".png", "山" * 83 + ".png", "n" * 255])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path, name):
    write_bytes(tmp_path / name, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_temporary_names_of_long_names_differ(tmp_path):
    first, second = (temporary_path(tmp_path / ("n" * 250 + end)) for end in "ab")
    assert first != second
    assert temporary_path(tmp_path / "a").name == f"a.{os.getpid()}.tmp"


def test_reading_has_a_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="5 B large; 4 B at most") as caught:
        read_bounded(tmp_path / "a", max_bytes=4)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.skipif(os.name == "nt", reason="POSIX special files")
def test_devices_and_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_bounded(path, max_bytes=5)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": ' * 5000, "\0", "{", "[]", "", "é", "{'a': 1}"])
def test_damaged_json_is_called_so(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.id == "file-damaged"


def test_written_json_is_strict(tmp_path):
    write_json(tmp_path / "a.json", {"loss": float("nan"), "more": [float("inf"), 1.5]})
    assert read_json(tmp_path / "a.json") == {"loss": None, "more": [None, 1.5]}


def test_a_path_below_a_file_is_called_so_where_the_system_says_that_nothing_is_there(tmp_path):
    (tmp_path / "file").touch()
    windows = OSError(errno.ENOENT, "No such file or directory")
    assert "A part of the path is a file" in str(disk_error(windows, tmp_path / "file" / "a" / "b"))
    assert "A part of the path is a file" not in str(disk_error(windows, tmp_path / "none" / "b"))
