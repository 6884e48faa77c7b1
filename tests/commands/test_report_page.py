"""The HTML report in a real browser: no accessibility violation and no sideways scrolling."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr, write_recogniser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RUN_AXE = """
addEventListener("load", async () => {
  const {violations} = await axe.run();
  const found = violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 150)]);
  const sideways = document.documentElement.scrollWidth - innerWidth;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify({found, sideways});
  document.body.append(out);
});
"""


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
        bootstrap=50,
    )
    run(config, emit=lambda _: None)
    return (root / "out" / "report.html").read_text(encoding="utf-8")


def test_the_first_sentence_needs_no_jargon(page):
    [plain] = re.findall(r'<p class="plain">(.*?)</p>', page)
    assert "Telling 10 persons apart from faces of 16 pixels" in plain
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


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None or "DSRFACE_AXE" not in os.environ, reason="needs Chromium and axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_axe_finds_no_violation(page, scheme, width, tmp_path):
    axe = Path(os.environ["DSRFACE_AXE"]).read_text(encoding="utf-8")
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    file = tmp_path / "report.html"
    scripts = f"<script>{axe}</script><script>{RUN_AXE}</script>"
    file.write_text(open_page.replace("</body>", f"{scripts}</body>"), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    options += [f"--window-size={width},900"] + (["--force-dark-mode"] if scheme == "dark" else [])
    done = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    answer = json.loads(unescape(found[1]))
    assert answer["found"] == []
    assert answer["sideways"] <= 0
