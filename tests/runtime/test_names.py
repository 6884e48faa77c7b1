"""Names that every system can hold."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrface.runtime.names import MAX_BYTES, original_name, portable_name, same_file_key

ANY_TEXT = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=40)


def bytes_of(name: str) -> int:
    return len(name.encode())


@given(ANY_TEXT)
def test_any_text_becomes_a_name_and_comes_back(text):
    name = portable_name(text)
    assert original_name(name) == text or any("\ud800" <= char <= "\udfff" for char in text)
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert name[0] not in " ."
    assert name[-1] not in " ."
    assert bytes_of(name) <= MAX_BYTES


@pytest.mark.parametrize(
    "name", ["con", "NUL", "aux.png", "Com1", "lpt9.tar.gz", "COM¹", "prn ", "conin$", "nul .txt", "CON."]
)
def test_devices_of_windows_are_no_names(name):
    safe = portable_name(name)
    assert safe.casefold() != name.casefold()
    assert original_name(safe) == name
    if sys.version_info >= (3, 13):
        import ntpath

        assert not ntpath.isreserved(safe)


@pytest.mark.parametrize(
    "name", ["Łukasz", "山田 太郎", "100%", "a%zz", "console", "common.png", "x.con", "%41"]
)
def test_names_that_every_system_takes_stay_readable(name):
    assert portable_name(name) == (name if name != "%41" else "%2541")
    assert original_name(portable_name(name)) == name


def test_long_names_are_cut_and_stay_apart():
    first, second = portable_name("山" * 300 + "1"), portable_name("山" * 300 + "2")
    assert first != second
    assert max(bytes_of(first), bytes_of(second)) <= MAX_BYTES
    assert bytes_of(portable_name("?" * 300)) <= MAX_BYTES


def test_case_and_accents_make_no_other_file():
    assert same_file_key("Jos\u00e9") == same_file_key("JOSE\u0301")
    assert same_file_key("a") != same_file_key("b")
