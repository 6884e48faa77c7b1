"""`--html FILE`: the doctor's report as a page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dsrface.commands.doctor.page import render, write_page
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks import machine
from dsrface.doctor.report import Finding, Report
from dsrface.runtime.resources import Cores, Memory
from tests.browser import check, in_browser

HEADING = "train.py:9: DataLoader(Faces, num_workers=0)\na step takes 205.8 ms"


@pytest.fixture
def report() -> Report:
    platform = machine.facts("fork", Cores(8, 8, None, None, 1, 8, "8 cores"), Memory(1 << 30, None, "free"))
    window = {"num_workers": 4, "items_per_s_median": 912.0, "mad": 0.04, "rounds": 3}
    return Report(
        version="1.0",
        target="train.py:Faces",
        platform={**platform, "torch": "2.14.1"},
        checks=(
            Finding("env.cpu", "pass", "8 cores"),
            Finding(
                "ds.open_handles",
                "fail",
                "dataset.file <is> shared",
                "a.py:9",
                "wrong items",
                "Open it late.",
            ),
            Finding("ds.unpicklable", "warn", "a lambda", "<function f at 0x7f6d65238b80>"),
            Finding("ds.output", "pass", "a batch of 32", data={"batch_size": 32}),
            Finding("perf.recommend", "info", "num_workers=4 (confidence low): measured"),
        ),
        recommendation={
            "flags": "num_workers=4",
            "confidence": "low",
            "num_workers": 4,
            "range": [2, 4],
            "measurements": [window],
            "table": {"4": 912.0},
        },
        lesson=("Workers cannot use it.",),
        duration_s=12.0,
    )


@pytest.fixture
def page(report) -> str:
    return render([(HEADING, report)], command="dsrface doctor -- python train.py")


def test_the_page_says_first_what_to_do_and_escapes_what_users_wrote(page):
    [plain] = re.findall(r'<p class="plain">(.*?)</p>', page)
    assert plain == "train.py:Faces: do not launch like this."
    assert "dataset.file &lt;is&gt; shared" in page
    assert "<code>DataLoader(dataset, batch_size=32, num_workers=4)</code>" in page
    assert "2 to 4 workers are equal within noise" in page
    assert "0x7f6d" not in page
    assert "dsrface doctor -- python train.py" in page


def test_the_page_is_written_and_has_every_group_once(report, tmp_path):
    write_page(tmp_path / "report.html", [("", report)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Machine",
        "Workers",
        "Items",
        "Speed",
        "A network in the data set: what workers would do",
        "How this was made",
    ]
    assert "src=" not in page


def test_where_no_workers_are_possible_no_number_of_them_is_weighed(report):
    forced = {
        "num_workers": 0,
        "confidence": "high",
        "range": [0, 0],
        "measurements": [],
        "table": {"0": 9.0},
    }
    page = render([("", replace(report, recommendation={**forced, "flags": "num_workers=0"}))], command="")
    assert ">Confidence" not in page
    assert "Items/s" not in page


def test_html_belongs_to_an_examination():
    with pytest.raises(ValueError, match="--html belongs to an examination"):
        DoctorConfig(html="x.html", explain="ds.rng")


@in_browser
def test_axe_finds_no_violation(page, tmp_path, scheme, width):
    check(page, tmp_path, scheme=scheme, width=width)
