"""Words around a sheet of faces."""

from __future__ import annotations

import numpy as np

from dsrface.commands.shared.people.sheet import Tile, write_sheet
from dsrface.data.decode import read_image
from dsrface.data.sheets import drawable, labelled


def test_titles_and_captions_stand_outside_the_faces():
    sheet = np.full((120, 240, 3), 200, np.uint8)
    found = labelled(sheet, ["VLR", "HR"], ["person_1/photo.png"], step_px=120)
    assert found.dtype == np.uint8
    assert np.array_equal(found[-120:, :240], sheet)
    above, right = found[:-120, :240], found[-120:, 240:]
    assert (above[:, :120] < 128).any()
    assert (above[:, 120:] < 128).any()
    assert (right < 128).any()


def test_a_sheet_of_people_has_titles(tmp_path):
    tile = Tile(np.full((16, 16, 3), 200, np.uint8), "")
    write_sheet(tmp_path / "sheet.png", [[tile, tile]], ["photo", "seen"])
    above = read_image(tmp_path / "sheet.png")[:18]
    assert (above[:, :118] < 128).any()
    assert (above[:, 118:] < 128).any()


def test_without_captions_there_is_no_margin_and_long_ones_are_cut():
    sheet = np.full((120, 120, 3), 200, np.uint8)
    assert labelled(sheet, ["VLR"], [], step_px=120).shape[1] == 120
    assert labelled(sheet, ["VLR"], ["x" * 500], step_px=120).shape[1] == 120 + 320


def test_names_are_drawn_in_letters_that_the_font_has():
    assert drawable("Jürgen Łuk é_1.png 名") == "Jurgen ?uk e_1.png ?"
