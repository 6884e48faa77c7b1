"""Photos whose names some system cannot hold become a data set that every system can."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from dsrface.commands import prepare
from dsrface.config.prepare import PrepareConfig
from dsrface.data.decode import encode_png
from dsrface.data.layout import open_data
from dsrface.data.synthetic.photo_folder import draw_dataset

ODD = [
    "con_1",
    "aux_1",
    "nul_1",
    "=HYPERLINK(1)_1",
    "Jos\u00e9_1",
    "Jose\u0301_2",
    "n" * 240 + "_1",
    "山" * 80 + "_1",
]


@pytest.mark.skipif(os.name == "nt", reason="such photos cannot lie on a disk there")
def test_odd_names_become_files_of_every_system(tmp_path: Path) -> None:
    source, data = tmp_path / "photos", tmp_path / "data"
    draw_dataset(tmp_path / "drawn", num_persons=len(ODD), images_per_person=1, seed=1)
    source.mkdir()
    for name, drawn in zip(ODD, sorted((tmp_path / "drawn").rglob("*.png")), strict=True):
        drawn.rename(source / f"{name}.png")
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    (source / "=cmd_9.png").write_bytes(encode_png(noise)[:200])
    config = PrepareConfig(
        source=source, data=data, align="none", workers=0, split=(1, 0, 0), vlr_sizes=(16,)
    )
    prepare.run(config, emit=lambda event: None)
    [split] = open_data(data).splits.values()
    assert len(split.names) == len(ODD)
    assert len(split.persons) == len(ODD)  # the two spellings of one name stay apart, as they were
    for path in data.rglob("*"):
        assert len(os.fsencode(path.name)) <= 210
        assert path.name.partition(".")[0].casefold() not in ("con", "aux", "nul")
    with (data / "bad_images.csv").open(encoding="utf-8", newline="") as handle:
        assert [row["file"] for row in csv.DictReader(handle)] == ["'=cmd_9.png"]


@pytest.mark.skipif(os.name == "nt", reason="a folder and 251 bytes are too long there")
def test_one_long_name_does_not_end_the_job(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "photos", num_persons=2, images_per_person=2, seed=1)
    first = min((tmp_path / "photos").rglob("*.png"))
    first.rename(first.with_name("n" * 251 + ".png"))
    config = PrepareConfig(
        source=tmp_path / "photos",
        data=tmp_path / "data",
        align="none",
        workers=0,
        split=(1, 0, 0),
        vlr_sizes=(16,),
    )
    result = prepare.run(config, emit=lambda event: None)
    assert result.bad_images == {}
