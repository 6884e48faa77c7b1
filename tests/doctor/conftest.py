"""Fixtures of the doctor's tests."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from dsrface.runtime import user_code

# These keep what is examined in modules of its own. Through a test module all of pytest can be reached.
SPECIMENS_ELSEWHERE = {"test_faults.py", "test_fixes.py", "test_judgment.py"}
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _unchanged_path(monkeypatch):
    """Examining a file puts its folder on the path: in a process of its own, but in tests in this one."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(autouse=True)
def _other_tests_are_not_the_users(request, monkeypatch):
    """Leave other tests out of what is walked: no examined process has them, and it takes seconds."""
    known = user_code.is_users

    def is_users(file: str) -> bool:
        path = Path(file)
        is_specimen = path.parent == request.path.parent and not path.name.startswith(("test_", "conftest"))
        is_own = path == request.path and path.name not in SPECIMENS_ELSEWHERE
        return known(file) and (is_specimen or is_own or not path.is_relative_to(TESTS))

    monkeypatch.setattr(user_code, "is_users", functools.cache(is_users))


def pytest_collection_modifyitems(items):
    """Let warnings be: the specimens leave files open and fork threads on purpose."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
