"""Counts and sizes in words."""

from __future__ import annotations

import pytest

from dsrface.runtime.text import count_text, size_text


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
