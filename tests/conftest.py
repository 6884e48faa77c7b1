"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before torch: one thread per test process, or the xdist workers fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts background jobs with Ctrl-C ignored, and what they start inherits that; some tests send one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """Real faces, kept outside the project; DSRFACE_FACES names another folder."""
    default = Path(__file__).resolve().parents[2] / "shared" / "faces"
    folder = Path(os.environ.get("DSRFACE_FACES", default))
    if not folder.is_dir():
        pytest.skip(f"the folder of real faces is absent: {folder}")
    return folder
