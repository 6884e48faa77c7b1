"""Commands as people paste them."""

from __future__ import annotations

import shlex
from pathlib import PureWindowsPath

import pytest

from dsrface.runtime import command_line
from dsrface.runtime.command_line import joined, quoted


@pytest.mark.parametrize("word", ["plain", "a b", "it's", 'say "so"', "", "$HOME", "a&b", "runs/dsr16"])
def test_a_shell_reads_a_quoted_word_back(monkeypatch, word):
    monkeypatch.setattr(command_line.os, "name", "posix")
    assert shlex.split(quoted(word)) == [word]
    assert shlex.split(joined(["x", word])) == ["x", word]


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        (PureWindowsPath(r"runs\dsr16"), r"runs\dsr16"),
        (r"C:\My Photos\a.jpg", r'"C:\My Photos\a.jpg"'),
        ("a&b", '"a&b"'),
        ("f(1)", '"f(1)"'),
        ('say "so"', r'"say \"so\""'),
        ("", '""'),
    ],
)
def test_on_windows_single_quotes_are_no_quotes(monkeypatch, word, typed):
    monkeypatch.setattr(command_line.os, "name", "nt")
    assert quoted(str(word)) == typed
