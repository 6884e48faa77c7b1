"""--write-patch: the call that made a loader, changed in a diff that applies."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from dsrface.doctor.launch.patch import Change, arguments_of, changed_arguments, make_patch

TWO = {
    "num_workers": 2,
    "prefetch_factor": 4,
    "persistent_workers": True,
    "pin_memory": False,
    "multiprocessing_context": None,
}
NONE = {**TWO, "num_workers": 0, "prefetch_factor": None, "persistent_workers": False}


@pytest.mark.parametrize(
    ("recommended", "before", "after"),
    [
        (TWO, "DataLoader(d)", "DataLoader(d, num_workers=2, prefetch_factor=4, persistent_workers=True)"),
        (
            TWO,
            "DataLoader(d, 8, num_workers=n, pin_memory=True)",
            "DataLoader(d, 8, num_workers=2, pin_memory=False, prefetch_factor=4, persistent_workers=True)",
        ),
        (NONE, "DataLoader(d, num_workers=9)", "DataLoader(d, num_workers=0)"),
        (
            NONE,
            'data.DataLoader(d, num_workers=9, prefetch_factor=3, multiprocessing_context="spawn")',
            "data.DataLoader(d, num_workers=0, prefetch_factor=None, multiprocessing_context=None)",
        ),
        (
            TWO,
            "DataLoader(\n    d,  # größer\n    shuffle=True,\n)",
            (
                "DataLoader(\n    d,  # größer\n    shuffle=True, "
                "num_workers=2, prefetch_factor=4, persistent_workers=True,\n)"
            ),
        ),
        (
            TWO,
            "DataLoader(d, 8, True, None, None, n, None, True)",
            "DataLoader(d, 8, True, None, None, 2, None, False, prefetch_factor=4, persistent_workers=True)",
        ),
        (
            TWO,
            "DataLoader(\n    d,\n    num_workers=(\n        n  # (some)\n    ),  # :)\n)",
            (
                "DataLoader(\n    d,\n    num_workers=(\n        2  # (some)\n    ), prefetch_factor=4, "
                "persistent_workers=True,  # :)\n)"
            ),
        ),
    ],
)
@pytest.mark.skipif(shutil.which("git") is None, reason="git applies it")
def test_the_patch_applies_and_changes_the_call_alone(tmp_path, monkeypatch, recommended, before, after):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train.py"
    file.write_text(f"# ä\nx = 1\nloader = {before}\ny = 2\n", encoding="utf-8")
    patch, missed = make_patch([Change("train.py:3", arguments_of(recommended))])
    assert not missed
    (tmp_path / "a.patch").write_text(patch, encoding="utf-8")
    apply("a.patch")
    assert file.read_text(encoding="utf-8") == f"# ä\nx = 1\nloader = {after}\ny = 2\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies it")
@pytest.mark.parametrize(
    ("before", "end"),
    [("x = 1\r\n", "\r\n"), ("x = 1\n\f\n", "\n"), ("x = 1\n'\u2028'\n", "\n"), ("x = 1\n", "")],
)
def test_the_patch_applies_whatever_ends_the_lines(tmp_path, monkeypatch, before, end):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_bytes(f"{before}DataLoader(d, num_workers=9){end}".encode())
    line = before.count("\n") + 1
    patch, missed = make_patch([Change(f"train.py:{line}", {"num_workers": 0})])
    assert not missed
    (tmp_path / "a.patch").write_bytes(patch.encode())
    apply("a.patch")
    assert (tmp_path / "train.py").read_bytes() == f"{before}DataLoader(d, num_workers=0){end}".encode()


def apply(patch):
    subprocess.run(["git", "apply", patch], check=True, env={"GIT_DIR": "none", "PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader(d, **options)",
        "DataLoader(d, *options)",
        "OwnLoader(d, 8, True, None, None, 4)",
        "make(d)",
        "DataLoader(d), DataLoader(d)",
        "DataLoader((",
    ],
)
def test_a_call_that_cannot_be_changed_for_certain_is_left_alone(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(f"loader = {text}\n", encoding="utf-8")
    assert make_patch([Change("train.py:1", arguments_of(TWO))]) == ("", ["train.py:1"])


def test_a_call_that_is_right_already_needs_no_patch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("loader = DataLoader(d, num_workers=0)\n", encoding="utf-8")
    assert make_patch([Change("train.py:1", arguments_of(NONE))]) == ("", [])


def test_what_a_loader_has_already_is_left_as_it_is_written():
    present = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False, "pin_memory": False}
    assert set(changed_arguments(TWO, present)) == {
        "num_workers",
        "prefetch_factor",
        "persistent_workers",
        "multiprocessing_context",
    }
