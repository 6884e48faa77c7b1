"""One small cache a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from cache_making import Made, build


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return build(tmp_path, 70)
