"""Counts and sizes in words, text for terminals, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from dsrface.runtime.text import count_text, csv_text, figure_text, json_text, printable, size_text


def test_counts():
    assert [count_text(number, "item") for number in (0, 1, 2)] == ["0 items", "1 item", "2 items"]


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (200 << 20, "200 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes(num_bytes, text):
    assert size_text(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0331, "0.033"),
        (0.1, "0.10"),
        (3, "3.0"),
        (9.99, "10.0"),
        (117.4, "117"),
        (4120.6, "4121"),
    ],
)
def test_a_measured_number_shows_two_figures_and_no_exponent(value, text):
    assert figure_text(value) == text
    assert figure_text(-value).removeprefix("-") == text


def test_control_characters_are_shown_and_not_sent():
    assert printable("a\x1b[31mred\x07\x9b\u202ex\udc80\r") == r"a\x1b[31mred\x07\x9b\u202ex\udc80\r"
    assert printable("C:\\photos\tand\nmore 山") == "C:\\photos\tand\nmore 山"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_is_strict(value):
    text = json_text({"a": [value, {"b": value}], "p": Path("x"), "c": "\x7f\x9b\udc80"})
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == {"a": [None, {"b": None}], "p": "x", "c": "\x7f\x9b\udc80"}
    assert text.isprintable()
    text.encode()


def test_no_cell_of_a_csv_file_is_a_formula():
    text = csv_text([["=HYPERLINK(1)", "+1-cmd", "@SUM", "-a"], ["-0.5", -1, "a=b", "1e-3"]])
    assert list(csv.reader(io.StringIO(text))) == [
        ["'=HYPERLINK(1)", "'+1-cmd", "'@SUM", "'-a"],
        ["-0.5", "-1", "a=b", "1e-3"],
    ]
