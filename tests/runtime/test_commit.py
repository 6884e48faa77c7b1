"""What Windows may still promise of memory."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from dsrface.doctor.checks import machine
from dsrface.runtime.commit import free_commit_bytes


def test_the_system_is_asked_and_only_windows_has_the_limit():
    free = free_commit_bytes()
    assert (free is None) == (os.name != "nt")
    assert free is None or free > psutil.virtual_memory().available // 4


@pytest.mark.parametrize(("version", "is_for_cpu"), [("2.14.1+cpu", True), ("2.14.1+cu130", False)])
def test_torch_says_itself_whether_it_is_for_cpu(tmp_path, monkeypatch, version, is_for_cpu):
    (tmp_path / "version.py").write_text(f"debug = False\n__version__ = '{version}'\n", encoding="utf-8")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    assert machine._is_torch_for_cpu() == is_for_cpu
