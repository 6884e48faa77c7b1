"""The user's own lines, told from those of Python, of installed packages and of dsrface."""

from __future__ import annotations

import json
import os
import sysconfig

import pytest

import dsrface.runtime.text
from dsrface.runtime.user_code import error_in, innermost, innermost_in, is_users, place_of, short_path


@pytest.mark.parametrize(
    "file",
    ["/home/me/data.py", "/home/me/doctor/data.py", "train.py", "<stdin>", "<ipython-input-1>", __file__],
)
def test_users_files(file):
    assert is_users(file)


@pytest.mark.parametrize(
    "file",
    [
        "",
        "<frozen importlib._bootstrap>",
        "/v/lib/python3.11/site-packages/torch/utils/data.py",
        r"C:\Python\Lib\site-packages\torch\utils.py",
        "/usr/lib/python3/dist-packages/PIL/Image.py",
        "/usr/lib/python3.11/threading.py",
        f"{sysconfig.get_path('stdlib')}/json/decoder.py",
        dsrface.runtime.text.__file__,
        "json/decoder.py",
        "encodings/cp1252.py",
        "C:/Python313/DLLs/_queue.pyd",
    ],
)
def test_files_of_others(file):
    assert not is_users(file)


def test_an_exception_is_placed_at_the_users_line_not_at_the_librarys():
    with pytest.raises(ValueError) as caught:
        json.loads("no json")
    assert innermost(caught.value).startswith(f"{short_path(__file__)}:")
    assert innermost(caught.value).endswith(
        " in test_an_exception_is_placed_at_the_users_line_not_at_the_librarys"
    )
    foreign = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    assert innermost(foreign) == ""
    assert "json" in place_of(foreign)
    assert place_of(ValueError("never raised")) == ""


def test_paths_below_the_working_folder_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_path(str(tmp_path / "my" / "data.py")) == os.path.join("my", "data.py")
    assert short_path(str(tmp_path.parent / "data.py")) == str(tmp_path.parent / "data.py")


def test_texts():
    raised = (
        '  File "/home/me/train.py", line 3, in <module>\n  File "/home/me/data.py", line 8, in __getitem__\n'
        '  File "/v/site-packages/PIL/Image.py", line 9, in open\n'
    )
    assert innermost_in(raised) == "/home/me/data.py:8 in __getitem__"
    dump = (
        '  File "/usr/lib/python3.11/threading.py", line 5 in acquire\n'
        '  File "/home/me/data.py", line 8 in __getitem__\n  File "/home/me/train.py", line 3 in <module>\n'
    )
    assert innermost_in(dump) == "/home/me/data.py:8 in __getitem__"
    assert innermost_in("nothing of the kind") == ""


def test_the_error_of_a_printed_traceback():
    frame = '  File "/home/me/data.py", line 8, in __getitem__\n    return self.f[0]\n           ^^^^^^^^^\n'
    caught = "RuntimeError: Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n"
    noted = (
        "TypeError: cannot pickle 'BufferedReader'\nwhen serializing dict item 'f'\nwhen serializing Records"
    )
    assert error_in(frame + noted) == "TypeError: cannot pickle 'BufferedReader'"
    assert error_in(frame + caught + frame + "ValueError: bad\n  and more") == "ValueError: bad"
    assert error_in("ValueError: two\nlines") == "ValueError: two"
    assert error_in("") == ""
