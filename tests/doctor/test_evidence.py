"""What workers write while they load, and which members count as handles."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from dsrface.doctor.checks.randomness import GENERATORS
from dsrface.doctor.examination.endings import proof_failed, with_last_words
from dsrface.doctor.process.probe import Outcome
from dsrface.doctor.proof import compare, evidence
from dsrface.doctor.proof.draws import Draws
from dsrface.doctor.proof.handles import HandleWatch, can_watch
from dsrface.doctor.proof.owners import owner_of_descriptor
from dsrface.doctor.proof.reference import Reference
from dsrface.doctor.proof.start import Start
from dsrface.doctor.proof.variables import difference, module_variables, settings
from dsrface.doctor.report import Finding
from dsrface.doctor.survey.code_facts import read_by_items
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.kinds import fault_kind, handle_kind


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


@pytest.mark.skipif(not can_watch(), reason="watches through /proc")
@pytest.mark.parametrize("size", [64, 1 << 20])
def test_a_file_that_fits_into_its_readers_buffer_is_seen_to_be_read(tmp_path, size):
    (tmp_path / "records").write_bytes(bytes(size))
    with open(tmp_path / "records", "rb") as read, open(tmp_path / "records", "rb") as untouched:
        for file in (read, untouched):
            file.seek(size - 8)
            file.read(8)  # up to the end, as a loop or another worker has done before
        watch = HandleWatch()
        assert watch.moved() == []
        read.seek(8)
        read.read(8)
        assert [fd for fd, _ in watch.moved()] == [read.fileno()]


class Hourly:
    """Items follow from the seconds of a clock that runs only while one waits for it."""

    now = 0.0

    def __getitem__(self, index):
        return int(self.now)

    def __len__(self):
        return 4


@pytest.mark.parametrize("read_before_s", [0.5, 2.0])
def test_items_by_a_clock_of_seconds_are_met_however_soon_they_are_compared(monkeypatch, read_before_s):
    data = Hourly()
    monkeypatch.setattr(compare.time, "monotonic", lambda: data.now)
    monkeypatch.setattr(compare.time, "sleep", lambda seconds: setattr(data, "now", data.now + seconds))
    threads = torch.get_num_threads()
    reference = Reference(Target(data))
    start = Start(0, [[0, 1]], 0)
    start.evidence.batches[0] = evidence.LoadedBatch(0, 0, reference.digests([0, 1]))
    # Workers take as long as they like; what counts is when they had read their last item.
    start.duration_s, start.evidence.last_s = 60.0, data.now
    data.now += read_before_s
    found = compare.compare_keys([start], reference, until=1e9)
    torch.set_num_threads(threads)
    assert found.by_clock > 0


@pytest.mark.parametrize(("comma", "cause"), [("", "of before the fork"), (",", "cannot be pickled")])
def test_a_hang_is_put_down_to_the_queue_only_where_the_queue_raised(tmp_path, comma, cause):
    outcome = Outcome(ending="timeout", is_silent=True)
    outcome.log = f'  File "/lib/multiprocessing/queues.py", line 231{comma} in _feed'
    (hang,) = proof_failed(outcome, "fork", 2, str(tmp_path))
    assert cause in hang.matters


class Photos:
    scale = 1.5

    def __init__(self, path):
        self.server = None
        self.opened = [Image.open(path)]

    def __getitem__(self, index):
        return self.opened[index]


def test_a_handle_inside_an_object_of_a_library_is_placed_where_the_user_keeps_it(tmp_path):
    Image.effect_noise((200, 200), 50).save(tmp_path / "a.png")
    photos = Photos(tmp_path / "a.png")
    owner = owner_of_descriptor(photos.opened[0].fp.fileno(), {"dataset": photos})
    assert owner.path.startswith("dataset.opened[0]")
    assert "test_evidence.py:" in owner.source
    assert read_by_items({"dataset": photos}) == {"opened"}


def test_values_of_classes_are_compared_with_those_in_a_fresh_worker():
    found = module_variables()
    assert found[f"{__name__}.Photos.scale"] == "1.5"
    assert found[f"{__name__}.proof_failed"] == "proof_failed"


def test_a_child_process_is_a_handle_only_where_something_is_written_to_it_or_read():
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as spoken_to:
        assert handle_kind(spoken_to) == "process"
        assert handle_kind(spoken_to.stdin) == "pipe"
    with subprocess.Popen([sys.executable, "-c", ""]) as alone:
        assert handle_kind(alone) == ""


def test_a_setting_that_a_worker_lacks_is_named_without_a_secret(monkeypatch):
    there = settings()
    assert difference(settings(), there) is None
    monkeypatch.setenv("TOKEN_OF_MINE", "hunter2")
    assert difference(settings(), there) == "os.environ['TOKEN_OF_MINE']"
    monkeypatch.delenv("TOKEN_OF_MINE")
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)
    named = "torch.get_default_dtype() (torch.float64 here, torch.float32 in a worker)"
    assert difference(settings(), there) == named


def test_a_generator_made_in_a_function_is_advised_on_as_a_generator():
    assert fault_kind((n for n in range(3)), "TypeError: cannot pickle 'generator' object") == "generator"


def test_the_item_at_which_a_worker_died_is_known(tmp_path):
    for worker, items in ((0, 1), (1, 2)):
        record = evidence.Recorder(str(tmp_path), f"start0-{worker}")
        record("batch", number=worker, natural=False)
        for _ in range(items):
            record("item", digest="", s=0.1, at=1.0)
    start = Start(0, [[10, 11, 12], [20, 21, 22]], 0, evidence=evidence.read(str(tmp_path), 0))
    assert not start.last_key()  # the loader ended, no worker did
    start.exit_codes = {1: -11}
    assert start.last_key() == "22"


def test_the_line_of_a_crash_is_taken_from_the_log_of_a_worker():
    check = Finding("worker.fork", "fail", "A worker crashed", data={"explained_as": "worker-crashed"})
    log = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at\n'
        '  File "/home/me/train.py", line 8 in __getitem__\n'
    )
    assert with_last_words(check, log).where == "/home/me/train.py:8 in __getitem__"
    assert not with_last_words(check, "").where


def test_a_worker_that_gnu_openmp_ends_is_told_so():
    check = Finding("worker.fork", "fail", "A worker died", data={"explained_as": "worker-died"})
    log = "Terminating: fork() called from a process already using GNU OpenMP, this is unsafe.\n"
    assert "forkserver" in with_last_words(check, log).fix


def test_items_read_from_the_wrong_place_are_no_draws():
    start = Start(0, [], 0, evidence=evidence.StartEvidence(moved={3: "rows.bin"}))
    proof = SimpleNamespace(draws=Draws(equal_starts=True), comparison=object(), survey={}, starts=[start])
    assert GENERATORS.runs["compared"](GENERATORS, proof) is None
