"""The scanner: each rule finds its fault and leaves the clean form alone; text, JSON, SARIF, exit codes."""

from __future__ import annotations

import json
import textwrap

import pytest

from dsrface.cli.app import run
from dsrface.doctor.scan.rules import RULES
from dsrface.doctor.scan.sarif import to_sarif
from dsrface.doctor.scan.scanner import scan

HEAD = """
import os, random, sqlite3, threading, zipfile
import numpy as np, torch, h5py
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torchvision import transforms as T
"""


def dataset(init="pass", item="return index", base="Dataset", extra=""):
    return f"""
class Data({base}):
    def __init__(self, path):
        {init}
    def __getitem__(self, index):
        {item}
    {extra}
"""


def stream(body, extra=""):
    return f"""
class Lines(IterableDataset):
    {extra}
    def __iter__(self):
        {body}
"""


FAULTS = {
    "scan.open-handle": [
        dataset("self.file = open(path, 'rb')"),
        dataset("self.zip = zipfile.ZipFile(path)"),
        dataset("self.h5 = h5py.File(path)", base="torch.utils.data.Dataset"),
        "class Base(Dataset): pass\n" + dataset("self.db = sqlite3.connect(path)", base="Base"),
    ],
    "scan.lambda": [
        dataset("self.key = lambda x: x"),
        dataset("self.t = T.Compose([T.ToTensor(), T.Lambda(lambda x: x / 2)])"),
        dataset("def f(x): return x\n        self.t = f"),
    ],
    "scan.local-class": ["def make():" + textwrap.indent(dataset(), "    ") + "    return Data('')"],
    "scan.cell-class": [dataset() + "loader = DataLoader(Data(''), num_workers=2)"],
    "scan.lock": [dataset("self.lock = threading.Lock()")],
    "scan.generator": [
        dataset("self.rng = np.random.default_rng(0)", "return self.rng.random()"),
        dataset("self.rng = torch.Generator().manual_seed(0)", "return torch.rand(1, generator=self.rng)"),
    ],
    "scan.path-list": [dataset("self.paths = sorted(os.listdir(path))")],
    "scan.cuda": [
        dataset(item="return torch.zeros(3).cuda()"),
        dataset("self.x = torch.zeros(3, device='cuda:0')"),
        dataset(item="return self.load(index)", extra="def load(self, i): return torch.zeros(3).to('cuda')"),
    ],
    "scan.fixed-seed": [dataset(item="np.random.seed(0); return np.random.rand()")],
    "scan.nested-loader": [dataset(item="return next(iter(DataLoader(self.parts[index])))")],
    "scan.unsharded": [
        stream("yield from open(self.path)"),
        stream("for f in self.files: yield f"),
    ],
    "scan.main-guard": ["for x in DataLoader([1], num_workers=2): pass"],
    "scan.worker-seed": [
        "def init(i): np.random.seed(42 + i)\nDataLoader([1], num_workers=2, worker_init_fn=init)",
    ],
    "scan.local-function": [
        "loader = DataLoader([1], num_workers=2, collate_fn=lambda x: x)",
        "def main(n):\n    def pick(x): return x\n    return DataLoader([1], num_workers=n, collate_fn=pick)",
    ],
    "scan.fork-only": ["loader = DataLoader([1], num_workers=2, multiprocessing_context='fork')"],
}
CLEAN = [
    dataset("self.path = path; self.file = None", "self.file = self.file or open(self.path)"),
    dataset("self.file = open(path); self.n = len(self.file.read()); self.file.close()"),
    dataset("self.pid = os.getpid(); self.file = open(path)"),
    dataset("self.names = sorted(path, key=lambda x: x[1])"),
    dataset("self.rng = np.random.default_rng(0); self.order = self.rng.permutation(9)"),
    dataset("self.classes = sorted(os.listdir(path))"),
    dataset(item="return torch.zeros(3).to(self.dtype) if torch.cuda.is_available() else index"),
    dataset(item="return np.random.default_rng((self.seed, index)).random()"),
    stream("info = get_worker_info(); yield from open(self.path).readlines()[info.id :: info.num_workers]"),
    stream("for x in self.dataset: yield x"),
    "if __name__ == '__main__':\n    for x in DataLoader([1], num_workers=2): pass",
    "for x in DataLoader([1], num_workers=0): pass",
    "def init(i): np.random.seed(torch.initial_seed())\nDataLoader([1], num_workers=2, worker_init_fn=init)",
    "loader = DataLoader([1], collate_fn=lambda x: x)",
    "if os.name != 'nt':\n    torch.multiprocessing.set_start_method('fork')\nDataLoader",
    "class Data:\n    def __init__(self, path): self.file = open(path)\nDataLoader",
]


def notebook(file, *cells):
    parts = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text in cells]
    file.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# Data"}, *parts]}))
    return file


@pytest.fixture
def found(tmp_path):
    """Scan a text and return the rules that fired."""

    def found(text, *, is_notebook=False):
        file = tmp_path / "data.py"
        file.write_text(HEAD + text, encoding="utf-8")
        if is_notebook:
            file = notebook(tmp_path / "data.ipynb", HEAD, text)
        return [finding.rule for finding in scan([file]).findings]

    return found


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in FAULTS.items() for text in texts])
def test_a_fault_is_found_by_its_rule_alone(found, rule, text):
    assert found(text, is_notebook=rule == "scan.cell-class") == [rule]


@pytest.mark.parametrize("text", CLEAN)
def test_the_clean_form_is_left_alone(found, text):
    assert found(text) == []


def test_every_rule_has_a_fault_and_says_what_to_do():
    assert set(FAULTS) == set(RULES)
    for rule in RULES.values():
        assert all((rule.title, rule.why, rule.fix, rule.example))
        assert rule.id in rule.text()


def test_a_suppressed_line_is_left_out(found):
    text = dataset("self.file = open(path, 'rb')  # doctor: ignore[scan.open-handle]")
    assert found(text) == []
    assert found(text.replace("open-handle]", "lambda]")) == ["scan.open-handle"]


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "data.py").write_text(HEAD + FAULTS["scan.lambda"][0], encoding="utf-8-sig")
    report = scan([tmp_path])
    assert [finding.rule for finding in report.findings] == ["scan.lambda"]
    assert not report.unreadable


def test_sarif_names_every_rule_and_the_place(tmp_path):
    file = tmp_path / "data.py"
    file.write_text(HEAD + FAULTS["scan.open-handle"][0], encoding="utf-8")
    [run] = to_sarif(scan([file]))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    [result] = run["results"]
    assert result["ruleId"] == "scan.open-handle"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 9, "startColumn": 21}


def test_the_command_prints_places_and_fails(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("import torch\nclass Dataset(:", encoding="utf-8")
    (tmp_path / "data.py").write_text(HEAD + FAULTS["scan.open-handle"][0], encoding="utf-8")
    sarif = tmp_path / "findings.sarif"
    assert run(["doctor", "--scan", str(tmp_path), "--output", str(sarif)]) == 1
    out = capsys.readouterr().out
    assert "data.py:9:21: error scan.open-handle: Data.file is a file opened in __init__" in out
    assert "1 error, 0 warnings, 0 notes in 2 files, 1 could not be parsed" in out
    assert json.loads(sarif.read_text(encoding="utf-8"))["version"] == "2.1.0"


def test_a_notebook_is_read_by_cells(tmp_path, capsys):
    opened = dataset("self.file = open(path, 'rb')")
    loop = "!pip install torch\nfor x in DataLoader(Data(''), num_workers=0): pass"
    file = notebook(tmp_path / "train.ipynb", "%matplotlib inline\n" + HEAD, "what is (this", opened, loop)
    report = scan([tmp_path])
    [finding] = report.findings
    assert (finding.rule, finding.cell, finding.line) == ("scan.open-handle", 3, 4)
    assert finding.place.endswith("train.ipynb cell 3:4:21")
    assert "cell 2" in report.unreadable[0]
    [result] = to_sarif(report)["runs"][0]["results"]
    assert result["message"]["text"].startswith("cell 3, line 4: Data.file")
    file.write_text("no DataLoader, and no notebook", encoding="utf-8")
    assert run(["doctor", "--scan", str(file)]) == 0
    assert "1 could not be parsed" in capsys.readouterr().out


def test_strict_fails_on_warnings(tmp_path):
    (tmp_path / "data.py").write_text(HEAD + FAULTS["scan.lambda"][0], encoding="utf-8")
    assert run(["doctor", "--scan", str(tmp_path)]) == 0
    assert run(["doctor", "--scan", str(tmp_path), "--strict"]) == 1


def test_what_does_not_exist_is_a_usage_error(tmp_path, capsys):
    assert run(["doctor", "--scan", str(tmp_path / "none")]) == 2
    assert "no-such-path" in capsys.readouterr().err
    assert run(["doctor", "--explain", "scan.open-hande"]) == 2
    assert "scan.open-handle" in capsys.readouterr().err
    assert run(["doctor", "--explain", "scan.lambda"]) == 0
