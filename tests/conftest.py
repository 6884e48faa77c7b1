"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch: one thread per test process, or the xdist workers fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """Real faces, kept outside the project; DSRFACE_FACES names another folder."""
    default = Path(__file__).resolve().parents[2] / "shared" / "faces"
    folder = Path(os.environ.get("DSRFACE_FACES", default))
    if not folder.is_dir():
        pytest.skip(f"the folder of real faces is absent: {folder}")
    return folder
