"""Cells of a notebook run without Jupyter, and their lines have names."""

from __future__ import annotations

import json
import sys
import traceback
from types import SimpleNamespace

import pytest

from dsrface.doctor.targets import build
from dsrface.doctor.trace.paths import class_line
from dsrface.errors import UsageError
from dsrface.runtime import notebooks
from dsrface.runtime.user_code import short_path

CELLS = [
    "%matplotlib inline\nimport math\nif True:\n    !pip list\n    x = 1",
    "%%writefile other.py\nthis is no Python",
    """class Lines:
    def __init__(self):
        self.at = x

    def __getitem__(self, index):
        return math.sqrt(-index)
""",
    "raise RuntimeError('must not run')",
]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(tmp_path)
    cells = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in CELLS]
    cells.insert(1, {"cell_type": "markdown", "source": ["words"]})
    file = tmp_path / "train.ipynb"
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return file


def test_the_cell_that_defines_a_name_is_the_last_to_run_and_is_named(notebook):
    module = notebooks.run(notebook, until="Lines")
    assert class_line(module.Lines, None) == "train.ipynb cell 3:1"
    assert class_line(module.Lines, "at") == "train.ipynb cell 3:3"
    with pytest.raises(ValueError, match=r"math domain error|expected a nonnegative input") as caught:
        module.Lines()[1]
    assert "train.ipynb cell 3" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(RuntimeError, match="must not run"):
        notebooks.run(notebook)


def test_a_notebook_is_a_target(notebook):
    target = build({"spec": f"{notebook}:Lines"})
    assert (type(target.dataset).__module__, target.dataset.at) == ("__main__", 1)


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": [{}]}'])
def test_what_is_no_notebook_is_said(notebook, text):
    notebook.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="no notebook"):
        notebooks.run(notebook)


def test_a_cell_of_a_running_jupyter_has_its_number(monkeypatch):
    compiler = SimpleNamespace(format_code_name={"/tmp/k/7.py": ("Cell", "In[4]")}.get)
    shell = SimpleNamespace(compile=compiler)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert short_path("/tmp/k/7.py") == "In[4]"
    assert short_path("/tmp/k/8.py") == "/tmp/k/8.py"
