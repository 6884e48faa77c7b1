"""A page in a headless Chromium: what axe-core finds, how far it scrolls sideways, and words that are cut."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RUN_AXE = """
addEventListener("load", async () => {
  const {violations} = await axe.run();
  const found = violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 150)]);
  const sideways = document.documentElement.scrollWidth - innerWidth;
  const texts = [...document.querySelectorAll("svg text")];
  const cut = texts.filter(t => t.getBoundingClientRect().right > innerWidth).map(t => t.textContent);
  parent.postMessage(JSON.stringify({found, sideways, cut, width: innerWidth}), "*");
});
"""
# A window of Chromium is at least 500 pixels wide; a frame in it is as narrow as wanted, in the same scheme.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>
addEventListener("message", event => {{
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = event.data;
  document.body.append(out);
}});
</script>
"""


def in_browser(test):
    """Mark a test that needs Chromium and axe-core: `nox -s browser`; it is given a scheme and a width."""
    test = pytest.mark.parametrize("scheme", ["light", "dark"])(test)
    test = pytest.mark.parametrize("width", [1200, 400])(test)
    is_missing = CHROMIUM is None or "DSRFACE_AXE" not in os.environ
    return pytest.mark.browser(pytest.mark.skipif(is_missing, reason="needs Chromium and axe-core")(test))


def check(page: str, folder: Path, *, scheme: str, width: int) -> None:
    """Assert that a page has no accessibility violation, scrolls nowhere sideways and cuts no words."""
    axe = Path(os.environ["DSRFACE_AXE"]).read_text(encoding="utf-8")
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    scripts = f"<script>{axe}</script><script>{RUN_AXE}</script>"
    (folder / "page.html").write_text(open_page.replace("</body>", f"{scripts}</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    options += ["--window-size=1300,1000"] + (["--force-dark-mode"] if scheme == "dark" else [])
    done = subprocess.run(
        [str(CHROMIUM), *options, f"--user-data-dir={folder / 'profile'}", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    answer = json.loads(unescape(found[1]))
    assert answer["width"] == width, answer
    assert answer["found"] == [], answer["found"]
    assert answer["sideways"] <= 0, answer
    assert answer["cut"] == [], answer["cut"]
