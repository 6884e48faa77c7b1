"""Fixtures of the doctor's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _unchanged_path(monkeypatch):
    """Examining a file puts its folder on the path: in a process of its own, but in tests in this one."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def pytest_collection_modifyitems(items):
    """Let warnings be: the specimens leave files open and fork threads on purpose."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
