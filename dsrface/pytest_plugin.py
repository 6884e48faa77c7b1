"""A pytest plugin: the fixture `assert_workers_safe`. It loads nothing until a test uses it."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def assert_workers_safe() -> Callable[..., None]:
    """Fail the test when DataLoader workers are not safe for an object, see `dsrface.assert_workers_safe`.

    Example:
        def test_my_data_survives_windows(assert_workers_safe):
            assert_workers_safe(MyDataset("photos"), start_method="spawn")
    """
    from dsrface.api import assert_workers_safe

    return assert_workers_safe
