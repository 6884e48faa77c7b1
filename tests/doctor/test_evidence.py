"""What workers write while they load, and which members count as handles."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dsrface.doctor.endings import proof_failed
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.proof import evidence
from dsrface.doctor.proof.handles import HandleWatch, can_watch
from dsrface.doctor.trace.kinds import handle_kind


def test_a_position_that_moved_before_an_item_raised_is_known(tmp_path):
    record = evidence.Recorder(str(tmp_path), "start0-0")
    record("start", watched=1)
    record("batch", number=0, natural=False)
    record("raised", number=0, type="OSError", text="broken", where="", traceback="", moved=[(5, "rows.bin")])
    found = evidence.read(str(tmp_path), 0)
    assert found.moved == {5: "rows.bin"}
    assert found.error["type"] == "OSError"


@pytest.mark.skipif(not can_watch(), reason="positions are seen through /proc")
def test_what_a_worker_moved_and_closed_is_seen_here(tmp_path):
    (tmp_path / "rows.bin").write_bytes(bytes(100_000))
    with (tmp_path / "rows.bin").open("rb") as file, (tmp_path / "rows.bin").open("rb") as other:
        watch = HandleWatch()
        if not (child := os.fork()):
            file.read(50_000)
            file.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert [number for number, _ in watch.moved()] == [file.fileno()]
        assert other.tell() == 0


def test_a_connection_that_workers_moved_before_they_hung_is_named(tmp_path):
    record = evidence.Recorder(str(tmp_path), "start0-1")
    record("batch", number=1, natural=True)
    record("item", digest="1", s=0.1, at=1.0)
    owner = {"path": "dataset.session", "source": "train.py:7", "kind": "socket"}
    record("moved", moved=[(5, "socket to 127.0.0.1:80")], owner=owner)
    outcome = Outcome(ending="timeout", is_silent=True, stage="read batches")
    hang, handle = proof_failed(outcome, "fork", 2, str(tmp_path))
    assert (hang.id, hang.status) == ("worker.fork", "fail")
    assert (handle.id, handle.status) == ("ds.open_handles", "fail")
    assert "dataset.session" in handle.summary
    assert "Connect at first use" in handle.fix


def test_a_child_process_is_a_handle_only_where_something_is_written_to_it_or_read():
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as spoken_to:
        assert handle_kind(spoken_to) == "process"
    with subprocess.Popen([sys.executable, "-c", ""]) as alone:
        assert handle_kind(alone) == ""
