"""Data sets as strangers write them, in a file of their own: what the report says first, and its fix."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console
from test_faults import examine

from dsrface.cli.doctor_report import render_report
from dsrface.doctor import targets
from dsrface.doctor.checks.registry import all_checks
from dsrface.doctor.examination.endings import place
from dsrface.doctor.main_guard import unguarded_lines
from dsrface.doctor.process.probe import Limits, Outcome, run_stage
from dsrface.doctor.report import Finding, Report, in_order
from dsrface.errors import UsageError
from dsrface.runtime.worker_death import explain

HEAD = """
import os, random, time, zipfile
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset
class Base(Dataset):
    def __len__(self): return 2000
    def __getitem__(self, index): return torch.zeros(3), index
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file and return the target that names its `make`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, name):
        file = tmp_path / f"{name}.py"
        file.write_text(HEAD + textwrap.dedent(text), encoding="utf-8")
        return f"{file}:make"

    yield write
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


def survey(spec, **options):
    return examine("", spec=spec, **options)


def test_an_item_that_only_the_timing_meets_is_told(write):
    spec = write(
        """
        class make(Base):
            def __getitem__(self, index):
                if index >= 1000 and index % 8 == 7: raise OSError("truncated")
                return torch.zeros(3), index
        """,
        "stranger_rare",
    )
    found = survey(spec)
    assert found["ds.items"].status == "fail"
    assert "truncated" in found["ds.items"].summary


def test_a_generator_of_the_module_repeats_in_every_worker(write):
    spec = write(
        """
        RNG = np.random.default_rng(0)
        UNUSED = random.Random(0)
        class make(Base):
            def __getitem__(self, index): return torch.zeros(3) + float(RNG.normal()), index
        """,
        "stranger_rng",
    )
    found = survey(spec)["ds.rng"]
    assert found.status == "warn"
    assert "stranger_rng.RNG" in found.summary
    assert "UNUSED" not in found.where


def test_none_and_missing_length_are_called_by_name(write):
    none = survey(write("class make(Base):\n    def __getitem__(self, i): return None\n", "stranger_none"))
    assert "None" in none["ds.output"].fix
    assert none["ds.output"].where == ""
    spec = write(
        "class make(Dataset):\n    def __getitem__(self, i): return torch.zeros(3)\n", "stranger_nolen"
    )
    assert "__len__" in survey(spec)["ds.items"].fix


def test_an_archive_is_named_not_its_inside(write, tmp_path):
    with zipfile_of(tmp_path / "x.zip"):
        pass
    spec = write(
        f"""
        class make(Base):
            def __init__(self): self.archive = zipfile.ZipFile({str(tmp_path / "x.zip")!r})
        """,
        "stranger_zip",
    )
    found = survey(spec, methods=["fork", "spawn"])
    assert [line.split(" ")[0] for line in found["ds.unpicklable"].where.splitlines()] == ["dataset.archive"]
    assert len(found["ds.open_handles"].where.splitlines()) == 1


def zipfile_of(path):
    import zipfile

    return zipfile.ZipFile(path, "w")


def test_a_script_that_trains_in_a_loop_over_epochs_is_unguarded(tmp_path):
    file = tmp_path / "train.py"
    file.write_text(
        "loader = DataLoader(data)\nfor epoch in range(3):\n    for batch in loader:\n        pass\n"
        'if __name__ == "__main__":\n    for batch in loader: pass\n'
    )
    assert unguarded_lines(str(file)) == [3]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("look()", [3]),
        ("def go():\n    look()\n\nwith open(__file__):\n    go()", [7]),
        ("def go():\n    look()\n\nif __name__ == '__main__':\n    go()", []),
        ("try:\n    if __name__ == '__main__':\n        look()\nfinally:\n    pass", []),
        ("if __name__ != '__main__':\n    pass\nelse:\n    look()", [6]),
    ],
)
def test_the_line_that_a_script_runs_is_unguarded_where_an_import_runs_it(tmp_path, lines, expected):
    file = tmp_path / "train.py"
    file.write_text(
        "from dsrface.doctor.main_guard import unguarded_lines\n"
        f"look = lambda: print(unguarded_lines(__file__))\n{lines}\n"
    )
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


def test_missing_arguments_are_told_with_an_example(write):
    spec = write("def make(root, size=8): return Base()\n", "stranger_args")
    with pytest.raises(UsageError, match="root") as caught:
        targets.build({"kind": "spec", "spec": spec, "args": None})
    assert """--dataset-args '{"root": "..."}'""" in caught.value.hint
    with pytest.raises(UsageError, match="mkae") as caught:
        targets.build({"kind": "spec", "spec": spec.replace(":make", ":mkae"), "args": None})
    assert "Did you mean make?" in caught.value.hint


def test_a_line_that_cannot_be_read_is_the_place(write):
    found = survey(write("def make(:\n", "stranger_syntax"))["ds.build"]
    assert found.where.endswith("stranger_syntax.py:8")


def test_failures_come_first_and_hidden_checks_are_not_counted():
    checks = (
        Finding("env.cpu", "info", "busy"),
        Finding("ds.rng", "warn", "alike"),
        Finding("ds.items", "fail", "no"),
    )
    platform = {
        "python": "3.11",
        "torch": "2",
        "start_method": "fork",
        "start_method_source": "-",
        "cores": {"effective": 2},
    }
    report = Report("1", "", platform, in_order(checks, all_checks()), None, (), 1.0)
    out = io.StringIO()
    render_report(report, Console(file=out, width=80))
    text = out.getvalue()
    assert text.index("ds.items") < text.index("ds.rng")
    assert "env.cpu" not in text


def test_a_hanging_item_ends_the_survey_long_before_its_limit(write):
    spec = write(
        """
        class make(Base):
            def __getitem__(self, index): time.sleep(10_000)
        """,
        "stranger_hang",
    )
    request = {
        "stage": "survey",
        "target": {"kind": "spec", "spec": spec, "args": None},
        "method": "fork",
        "methods": ["fork"],
        "num_workers": 1,
        "memory_bytes": 8 << 30,
        "batch_size": 4,
        "allow_cuda": False,
        "measure_s": 0.02,
    }
    outcome = run_stage(request, Limits(timeout_s=400, silence_s={"load items": 1.0}))
    assert (outcome.ending, outcome.stage, outcome.last("item")["index"]) == ("timeout", "load items", "0")


def test_the_place_of_a_crash_is_the_users_line():
    log = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/ctypes/__init__.py", line 517 in string_at\n'
        '  File "/home/me/data.py", line 8 in __getitem__\nExtension modules: numpy\n'
    )
    assert place(Outcome(log=log)) == "/home/me/data.py:8 in __getitem__"


def test_an_error_raised_on_top_of_another_does_not_drag_its_traceback_along():
    text = (
        "Caught TypeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "/v/site-packages/torch/collate.py", line 1, in collate\nTypeError: found Image\n\n'
        "During handling of the above exception, another exception occurred:\n\nTraceback ...\n"
        '  File "/v/site-packages/torch/worker.py", line 2, in loop\nTypeError: found Image\n'
    )
    told = explain(TypeError(text), num_workers=2)
    assert told.message == "Worker 0 met an exception while it loaded a sample: TypeError: found Image"
    assert not told.where
