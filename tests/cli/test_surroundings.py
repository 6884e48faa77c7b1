"""What surrounds the program may be poor: no rights, no locale, no home, few addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrface.cli.execute import COMMANDS, schema_of
from dsrface.commands.shared.people.gallery import Gallery, Origin, write_gallery
from dsrface.data.synthetic.photo_folder import draw_dataset

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX rights and limits")
WRITES = {
    "prepare": ("prepare", "in", "{}"),
    "evaluate": ("evaluate", "in", "--vlr-size", "16", "--out", "{}"),
    "train-dsr": ("train-dsr", "in", "--vlr-size", "16", "--run", "{}"),
    "finetune": ("finetune", "in", "--vlr-size", "16", "--hr-only", "--run", "{}"),
    "precompute": ("precompute", "--input", "in", "--weights", "run", "--output", "{}"),
    "embed": ("embed", "in", "--weights", "run", "--out", "{}.npz"),
    "enrol": ("enrol", "in", "--weights", "run", "--out", "{}.npz"),
    "identify": ("identify", "in", "--gallery", "g.npz", "--sheet", "{}.png"),
    "verify": ("verify", "a", "b", "--weights", "run", "--sheet", "{}.png"),
    "export": ("export", "run", "--out", "{}.safetensors"),
    "demo": ("demo", "--out", "{}"),
    "doctor": ("doctor", "--dataset", "json:loads", "--html", "{}.html"),
    "bench": ("bench", "loader", "--folder", "{}"),
}

NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a safetensors file


def dsrface(
    *words: object, prefix: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own; a variable given as empty is taken away."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "dsrface", *map(str, words)],
        env={key: value for key, value in (os.environ | environment).items() if value},
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )


def without_rights(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line that may only do what modes allow, also where root runs the tests."""
    if os.geteuid() != 0:
        return dsrface(*words, **environment)
    if shutil.which("setpriv") is None:
        pytest.skip("root may do everything")
    return dsrface(*words, prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all"), **environment)


def test_every_command_that_writes_is_tried_below():
    assert {name for name in COMMANDS if schema_of(name).writes or schema_of(name).fills} == set(WRITES)


@pytest.mark.parametrize("command", WRITES)
def test_a_result_that_cannot_be_written_is_said_before_the_work(call, tmp_path, monkeypatch, command):
    def refuse(name):
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr("dsrface.cli.execute.import_command", refuse)
    for folder in ("hr_images", "vlr_images_16x16"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "file").touch()
    origin = Origin("run", "", "", "", 0.5, None, "")
    rows = np.zeros((1, 1), np.float32)
    write_gallery(
        tmp_path / "g.npz", Gallery(("a",), rows[0].astype(int), rows, rows.astype(np.uint8), origin)
    )
    for name in ("a", "b", "in/a_1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    (tmp_path / "run" / "model.safetensors").write_bytes(NO_TENSORS)
    before = sorted(tmp_path.rglob("*"))
    done = call(*(word.format(Path("file") / "x") for word in WRITES[command]))
    assert done.code == 5, done.err
    assert "Cannot write" in done.err
    assert str(Path("file") / "x") in done.err
    assert sorted(tmp_path.rglob("*")) == before


@POSIX
def test_photos_are_only_read_and_one_without_permission_is_left_out(tmp_path):
    """Where there is neither a home, nor a place for temporary files, nor a locale, at that."""
    draw_dataset(tmp_path / "photos", num_persons=6, images_per_person=2, seed=1)
    photos = sorted((tmp_path / "photos").rglob("*.png"))
    photos[0].chmod(0)
    for folder in (*{photo.parent for photo in photos}, tmp_path / "photos"):
        folder.chmod(0o555)
    common = ("--align", "none", "--vlr-sizes", 16, "--workers", 0)
    poor = {"HOME": "", "TMPDIR": "/nowhere", "LC_ALL": "C"}
    done = without_rights("prepare", tmp_path / "photos", tmp_path / "data", *common, **poor)
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "data" / "bad_images.csv").read_text()
    assert f"{photos[0].name},image-unreadable,There is no permission to read the image." in listed


@POSIX
def test_a_folder_without_permission_is_refused_at_once(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "photo.png").touch()
    (tmp_path / "closed").mkdir(mode=0o555)
    done = without_rights("prepare", tmp_path / "in", tmp_path / "closed" / "data")
    assert done.returncode == 5
    assert "Permission denied" in done.stderr
    assert "Choose a folder that you may write to." in done.stderr


@POSIX
def test_a_path_that_is_no_text_is_refused_with_what_helps(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff")
    done = dsrface("export", path)
    assert done.returncode == 2
    assert "LC_ALL=C.UTF-8" in done.stderr
    words = ("config", "show", "export", "--set", "source=ä")
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "LC_ALL=C.UTF-8" in dsrface(*words, **poor).stderr
    assert dsrface(*words, LC_ALL="C").returncode == 0  # Python takes UTF-8 then


def test_a_bug_with_a_path_that_is_no_text_is_still_a_message(call, monkeypatch):
    def fail(*_, **__):
        raise ValueError("b\udcff")

    monkeypatch.setattr("dsrface.cli.execute.import_command", fail)
    done = call("bench", "loader")
    assert done.code == 70
    assert "b\\udcff" in done.err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS limits no addresses")
def test_a_limit_of_addresses_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(NO_TENSORS)
    done = dsrface("export", tmp_path, prefix=("sh", "-c", 'ulimit -v 900000; exec "$@"', "sh"))
    assert done.returncode == 5
    assert "`ulimit -v`" in done.stderr
