"""A validation set as an array of bcolz is refused with the line that converts it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsrface.data.decode import decode_image
from dsrface.data.folders import check_root
from dsrface.data.formats.bcolz_folder import bcolz_hint
from dsrface.data.formats.validation_set import read_validation_set
from dsrface.data.photos.scan import check_photo_source
from dsrface.errors import DataError

_STAND_IN = """
import numpy
def carray(rootdir, mode):
    return numpy.load(rootdir + "/data/array.npy")
"""


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    (tmp_path / "val sets" / "lfw" / "data").mkdir(parents=True)
    (tmp_path / "val sets" / "lfw" / "meta").mkdir()
    (tmp_path / "val sets" / "lfw" / "meta" / "sizes").write_text("{}")
    return tmp_path / "val sets"


def test_the_line_writes_a_file_that_is_read(sets: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    stored = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    np.save(sets / "lfw" / "data" / "array.npy", stored)
    np.save(sets / "lfw_list.npy", np.array([True, False]))
    (sets / "bcolz.py").write_text(_STAND_IN)
    _, *arguments = shlex.split(bcolz_hint(sets).splitlines()[-1])
    environment = {**os.environ, "PYTHONPATH": str(sets)}
    subprocess.run([sys.executable, *arguments], cwd=sets, env=environment, check=True)
    found = read_validation_set(sets / "lfw.bin")
    assert found.is_same == (True, False)
    assert np.array_equal([decode_image(data, where="set") for data in found.images], images)


@pytest.mark.parametrize("look", [check_root, check_photo_source])
@pytest.mark.parametrize("name", ["", "lfw"])
def test_commands_that_meet_one_say_so(sets: Path, look, name: str) -> None:
    with pytest.raises(DataError) as caught:
        look(sets / name)
    assert re.search(r"lfw['\"] is an array of bcolz", caught.value.hint)
