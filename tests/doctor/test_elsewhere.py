"""`--python PATH`: a data set is examined in the Python of its project."""

from __future__ import annotations

import json
import platform
import sys

import pytest

from dsrface.cli.app import run
from dsrface.doctor.examination.elsewhere import ask
from dsrface.errors import UsageError
from dsrface.runtime.start_methods import default_start_method

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")

DATA = """
import sys
from torch.utils.data import Dataset

class Lines(Dataset):
    def __init__(self):
        self.pick = lambda index: index
    def __len__(self):
        return 40
    def __getitem__(self, index):
        return self.pick(index)
"""


@pytest.fixture
def program(tmp_path):
    """Write a program, and return its path."""

    def program(text):
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        file.chmod(0o755)
        return str(file)

    return program


def test_the_other_python_finds_this_package_without_having_it(program, tmp_path, capfd):
    (tmp_path / "lines.py").write_text(DATA, encoding="utf-8")
    python = program(f'cd / && exec {sys.executable} "$@"')
    report = tmp_path / "report.json"
    target = ["--dataset", f"{tmp_path / 'lines.py'}:Lines", "--python", python]
    code = run(["doctor", *target, "--no-probe", "--budget", "60", "--output", str(report)])
    result = json.loads(report.read_text(encoding="utf-8"))
    checks = {check["id"]: check for check in result["checks"]}
    forks = default_start_method() == "fork"
    assert code == (0 if forks else 1), capfd.readouterr().err
    assert checks["ds.unpicklable"]["status"] == ("warn" if forks else "fail")
    assert "lines.py:7" in checks["ds.unpicklable"]["where"]
    assert checks["env.python"]["data"] == {"python": platform.python_version()}
    assert result["platform"]["start_method_source"] == f"default of Python {platform.python_version()}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('[[3, 8], "3.8.18", "fork", "2.1.0"]', "3.9 or later"),
        ('[[3, 11], "3.11.7", "fork", ""]', "no torch"),
        ('[[3, 11], "3.11.7", "fork", "1.12.1+cu113"]', "1.13 or later"),
        ("hello", "does not answer"),
    ],
)
def test_a_python_that_cannot_be_used_is_refused_with_the_reason(program, answer, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        ask(program(f"echo '{answer}'"))
    assert caught.value.id == "bad-python"


def test_what_is_told_of_a_python_is_taken_from_it(program):
    python = ask(program("""echo '[[3, 14], "3.14.0", "forkserver", "2.14.1"]'"""))
    assert (python.start_method, python.version) == ("forkserver", "3.14.0")
    with pytest.raises(UsageError, match="no program"):
        ask("no-such-python")
