"""What workers write while they load, and which members count as handles."""

from __future__ import annotations

import subprocess
import sys

from dsrface.doctor.proof import evidence
from dsrface.doctor.trace.kinds import handle_kind


def test_a_position_that_moved_before_an_item_raised_is_known(tmp_path):
    record = evidence.Recorder(str(tmp_path), "start0-0")
    record("start", watched=1)
    record("batch", number=0, natural=False)
    record("raised", number=0, type="OSError", text="broken", where="", traceback="", moved=[(5, "rows.bin")])
    found = evidence.read(str(tmp_path), 0)
    assert found.moved == {5: "rows.bin"}
    assert found.error["type"] == "OSError"


def test_a_child_process_is_a_handle_only_where_something_is_written_to_it_or_read():
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as spoken_to:
        assert handle_kind(spoken_to) == "process"
    with subprocess.Popen([sys.executable, "-c", ""]) as alone:
        assert handle_kind(alone) == ""
