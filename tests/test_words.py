"""Plain words in messages and pages: `unwanted_words.txt` lists what not to write, and what instead.

The glossary has the words to use; nothing in it is on the list.
"""

from __future__ import annotations

import functools
import io
import re
import tokenize
from collections.abc import Iterator
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


@functools.cache
def prose() -> list[tuple[str, str]]:
    """Return every line that people read, with its place: of Python the strings and the comments."""
    return [(f"{path.relative_to(ROOT)}:{line}", text) for path in FILES for line, text in lines_of(path)]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in {"STRING", "COMMENT", "FSTRING_MIDDLE"} and " " in token.string:
            yield from enumerate(token.string.splitlines(), start=token.start[0])


@pytest.mark.parametrize("word", WORDS)
def test_the_word_is_not_used(word):
    pattern = re.compile(word, re.IGNORECASE)
    found = [f"{place}: {line.strip()}" for place, line in prose() if pattern.search(line)]
    assert not found, f"write {WORDS[word]} instead"
