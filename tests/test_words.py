"""Plain words in messages and pages: `unwanted_words.txt` lists what not to write, and what instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("unwanted_words.txt").read_text(encoding="utf-8")
WORDS = dict(line.split("\t") for line in LIST.splitlines() if not line.startswith("#"))
FILES = sorted(
    [
        *(ROOT / "dsrface").rglob("*.py"),
        *(ROOT / "dsrface").rglob("*.toml"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
    ]
)


@pytest.mark.parametrize("word", WORDS)
def test_the_word_is_not_used(word):
    pattern = re.compile(word, re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, f"write {WORDS[word]} instead"
