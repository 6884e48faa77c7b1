"""The HTML report in a real browser: no accessibility violation and no sideways scrolling."""

from __future__ import annotations

import re

import pytest

from tests.browser import check, in_browser
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr, write_recogniser


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    from dsrface.commands.evaluate import run
    from dsrface.config.evaluate import EvaluateConfig

    root = tmp_path_factory.mktemp("report")
    config = EvaluateConfig(
        data=make_data(root / "data", persons=(2, 2, 10)),
        vlr_size=16,
        dsr=write_dsr(root / "dsr.safetensors", tail=0.05),
        recogniser=write_recogniser(root / "recogniser.safetensors", seed=0),
        out=root / "out",
        finetuned=write_recogniser(root / "tuned.safetensors", seed=1),
        bootstrap=100,
    )
    run(config, emit=lambda _: None)
    return (root / "out" / "report.html").read_text(encoding="utf-8")


def test_the_first_sentence_needs_no_jargon(page):
    [plain] = re.findall(r'<p class="plain">(.*?)</p>', page)
    what_to_do = r": (use it|enlarge plainly instead|enlarge plainly, or measure with more persons)\. "
    assert re.search(what_to_do + "Telling 10 persons apart from faces of 16 pixels", plain)
    assert not re.search(r"EER|DSR|bicubic|\[", plain)


def test_tables_are_named_and_rows_have_headers(page):
    assert page.count("<table") == page.count('<div class="scroll" role="region" tabindex="0" aria-label="')
    assert not re.search(r"<th[^>]*></th>", page)
    assert "-0.0 " not in page


def test_the_figures_can_be_saved(page):
    from urllib.parse import unquote

    [data] = re.findall(r'download="verification.csv" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    lines = unquote(data).splitlines()
    assert lines[0].startswith("protocol,images,recogniser,eer")
    assert any(line.startswith("HR-LR,DSR,frozen,0.") for line in lines)


def test_every_chart_can_be_saved_as_a_file_of_its_own(page):
    from urllib.parse import unquote
    from xml.etree import ElementTree as ET

    found = dict(re.findall(r'download="(\w+\.svg)" href="data:image/svg\+xml;charset=utf-8,([^"]+)"', page))
    assert sorted(found) == ["det.svg", "differences.svg", "roc.svg"]
    for data in found.values():
        chart = ET.fromstring(unquote(data))
        assert chart.tag == "{http://www.w3.org/2000/svg}svg"
        assert "--paper: #ffffff" in (chart[0].text or "")
    assert 'download="curves.csv"' in page


def test_the_hardest_pairs_are_shown_and_errors_are_counted_by_person(page):
    [section] = re.findall(r"<h2>The hardest pairs</h2>(.*?)</section>", page, re.DOTALL)
    assert section.count("<img") == 6 * 3
    assert 'alt="HR of p' in section
    assert 'download="persons.csv"' in section
    assert '<th scope="row">torch</th>' in page


@in_browser
def test_axe_finds_no_violation(page, tmp_path, scheme, width):
    check(page, tmp_path, scheme=scheme, width=width)
