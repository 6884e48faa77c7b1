"""The README's image shows what the doctor finds today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fault is one of forked workers")
def test_the_image_is_fresh():
    command = [sys.executable, str(IMAGES / "make.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_needs_nothing_from_elsewhere():
    text = (IMAGES / "doctor.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
