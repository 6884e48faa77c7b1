"""The static verdict against real workers: every kind of member under every start method."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
METHODS = ("fork", "spawn", "forkserver")
# Cells where the static verdict and a real worker differ, with the reason. Empty on torch 2.14, Python 3.11.
KNOWN: dict[tuple[str, str], str] = {}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="fork and forkserver are POSIX")
@pytest.mark.parametrize("method", METHODS)
def test_static_verdict_agrees_with_a_real_worker_for_every_kind_of_member(method):
    done = subprocess.run(
        [sys.executable, "doctor_zoo.py", method],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads(done.stdout.splitlines()[-1])
    differ = {kind: cell for kind, cell in table.items() if cell["static"] != cell["real"]}
    assert {kind for kind in differ if (kind, method) not in KNOWN} == set(), differ
    assert len(table) >= 40
    works = [kind for kind, cell in table.items() if cell["real"]]
    assert len(works) == len(table) if method == "fork" else 30 < len(works) < len(table) - 30
