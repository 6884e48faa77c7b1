"""Standard streams that cannot hold a character, have no reader, or are full: the work goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsrface.cli.output import Output
from dsrface.cli.people import list_answers

PROGRAM = """
import sys
from dsrface.cli import execute, main
from dsrface.cli import output as _

class Result:
    summary, location, next_command, exit_code = "done", "out_\u30c7\u30fc\u30bf", "", 0
    def to_dict(self):
        return {"person": "\u5c71\u7530"}

class Module:
    @staticmethod
    def run(config, *, emit):
        import logging
        sys.stdin.readline()
        for _ in range(3):
            print("x" * 100_000)
            logging.getLogger("dsrface").warning("y" * 100_000)
        open(sys.argv[1], "w").write("finished")
        return Result()

execute.import_command = lambda name: Module
main(["bench", "loader", *sys.argv[2:]])
"""


def start(tmp_path: Path, *flags: str, **streams) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "proof"), *flags],
        stdin=subprocess.PIPE,
        env=environment,
        **streams,
    )


def finish(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    return child.communicate(b"go\n", timeout=60)


def test_a_pipe_is_utf8_whatever_the_code_page(tmp_path):
    child = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = finish(child)
    assert child.returncode == 0, err
    assert out.decode().rstrip().endswith("where  out_データ")
    child = start(tmp_path, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, _ = finish(child)
    assert json.loads(out.decode()) == {"person": "山田"}


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_a_reader_that_leaves_ends_no_work(tmp_path, stream):
    reads, writes = os.pipe()
    null = subprocess.DEVNULL
    pipes = {"stdout": null, "stderr": null} | (
        {"stdout": writes, "stderr": writes} if stream == "both" else {stream: writes}
    )
    child = start(tmp_path, **pipes)
    os.close(writes)
    os.close(reads)
    finish(child)
    assert child.returncode == 0
    assert (tmp_path / "proof").read_text() == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_is_full_is_named_and_ends_no_work(tmp_path):
    with open("/dev/full", "wb") as full:
        child = start(tmp_path, "-q", stdout=full, stderr=subprocess.PIPE)
        _, err = finish(child)
    assert child.returncode == 0, err
    assert (tmp_path / "proof").read_text() == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_document_that_could_not_be_written_is_an_error(tmp_path):
    with open("/dev/full", "wb") as full:
        child = start(tmp_path, "--json", stdout=full, stderr=subprocess.PIPE)
        _, err = finish(child)
    assert child.returncode == 5
    assert json.loads(err.splitlines()[-1])["where"] == "standard output"


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
def test_a_terminal_that_closes_ends_no_work(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    child = start(tmp_path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.close(ours)
    finish(child)
    assert child.returncode == 0
    assert (tmp_path / "proof").read_text() == "finished"


def test_what_a_file_says_reaches_no_terminal_raw(call):
    done = call("prepare", "photos\x1b[31m\x07\x9b", "data")
    assert done.code == 3
    assert not {"\x1b", "\x07", "\x9b"} & set(done.err)
    assert r"photos\x1b[31m\x07\x9b" in done.err


def test_the_answer_for_a_photo_is_one_line_however_long(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    match = SimpleNamespace(person="Anna Adams", score=0.5)
    answer = SimpleNamespace(name="holidays/" + "a" * 60 + "\x1b[2J.jpg", person=None, matches=[match] * 3)
    list_answers(SimpleNamespace(answers=[answer]), Output())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("unknown (Anna Adams 0.500, Anna Adams 0.500, Anna Adams 0.500)")
    assert "\x1b" not in line
