"""Fixtures of the doctor's tests."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _unchanged_path(monkeypatch):
    """Examining a file puts its folder on the path: in a process of its own, but in tests in this one."""
    monkeypatch.setattr(sys, "path", list(sys.path))
