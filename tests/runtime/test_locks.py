"""One writer at a time, also on a network drive that passes no locks on."""

from __future__ import annotations

import platform
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dsrface.errors import RunError
from dsrface.runtime import locks
from dsrface.runtime.locks import exclusive
from dsrface.runtime.network_drives import is_on_network


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A folder on a drive that other machines write to, where everything happens soon."""
    monkeypatch.setattr(locks, "is_on_network", lambda folder: True)
    monkeypatch.setattr(locks, "_SIGN_S", 0.05)
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.5)
    return tmp_path


def test_a_second_one_is_refused_and_the_first_is_named(tmp_path):
    with (
        exclusive(tmp_path / ".lock", what="cache"),
        pytest.raises(RunError, match=r"cache \(pid \d+\)"),
        exclusive(tmp_path / ".lock", what="cache"),
    ):
        pass
    with exclusive(tmp_path / ".lock", what="cache"):
        pass
    assert not (tmp_path / ".lock.pid").exists()


def test_the_lock_file_stays_also_where_it_is_removed_on_release(tmp_path, monkeypatch):
    class LikeOnWindows(locks.FileLock):
        def release(self, force=False):
            was_held = self.is_locked
            super().release(force)
            if was_held:
                Path(self.lock_file).unlink()

    monkeypatch.setattr(locks, "FileLock", LikeOnWindows)
    with exclusive(tmp_path / ".lock", what="evaluation"):
        pass
    assert (tmp_path / ".lock").exists()


def test_a_machine_that_gives_signs_of_life_is_not_disturbed(drive):
    note, is_over = drive / ".lock.pid", threading.Event()

    def live_on():
        for sign in range(10_000):
            note.write_text(f"12 elsewhere\n{sign}\n")
            if is_over.wait(0.02):
                return

    note.write_text("12 elsewhere\n0\n")
    other = threading.Thread(target=live_on)
    other.start()
    try:
        with (
            pytest.raises(RunError, match=r"run folder \(pid 12 on elsewhere\)") as caught,
            exclusive(drive / ".lock", what="run folder"),
        ):
            pass
    finally:
        is_over.set()
        other.join()
    assert caught.value.id == "locked"
    assert note.exists()


def test_a_machine_that_was_killed_is_waited_for_no_longer_than_needed(drive):
    (drive / ".lock.pid").write_text("12 elsewhere\n7\n")
    with exclusive(drive / ".lock", what="run folder"):
        assert platform.node() in (drive / ".lock.pid").read_text()
    assert not (drive / ".lock.pid").exists()


def test_the_holder_gives_signs_of_life(drive):
    seen = set()
    with exclusive(drive / ".lock", what="run folder"):
        until = time.monotonic() + 30
        while len(seen - {""}) < 3 and time.monotonic() < until:
            seen.add((drive / ".lock.pid").read_text())
            time.sleep(0.01)
    assert len(seen - {""}) >= 3


@pytest.mark.parametrize(
    ("fstype", "opts", "expected"),
    [
        ("nfs4", "rw,relatime", True),
        ("fuse.sshfs", "rw", True),
        ("NTFS", "rw,remote", True),
        ("ext4", "rw", False),
    ],
)
def test_network_drives(tmp_path, monkeypatch, fstype, opts, expected):
    (tmp_path / "drive").mkdir()
    places = [(tmp_path.anchor, "ext4", "rw"), (str(tmp_path / "drive"), fstype, opts)]
    drives = [SimpleNamespace(mountpoint=place, fstype=kind, opts=how) for place, kind, how in places]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: drives)
    assert is_on_network(tmp_path / "drive" / "runs" / "1") == expected
    assert not is_on_network(tmp_path)
