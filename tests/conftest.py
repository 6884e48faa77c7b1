"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch: one thread per test process, or the xdist workers fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts background jobs with Ctrl-C ignored, and what they start inherits that; some tests send one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup does
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """Real faces, kept outside the project; DSRFACE_FACES names another folder."""
    default = Path(__file__).resolve().parents[2] / "shared" / "faces"
    folder = Path(os.environ.get("DSRFACE_FACES", default))
    if not folder.is_dir():
        pytest.skip(f"the folder of real faces is absent: {folder}")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of some size, such as "4m", that a test can fill up."""
    mount = tmp_path / "small"

    def make(size: str) -> Path:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("mounts a tmpfs: root on Linux")
        mount.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
        if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
            pytest.skip("mount is not allowed here")
        return mount

    yield make
    if mount.is_mount():
        subprocess.run(["umount", str(mount)], check=True)
