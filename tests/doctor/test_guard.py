"""The guarded process: hangs, memory, prints, and nothing left behind however the doctor ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from dsrface.doctor.process import guardian
from dsrface.doctor.process.probe import Limits, run_stage

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and /dev/shm are POSIX")
HERE = Path(__file__).parent
SHM = Path("/dev/shm")


def left_behind(mark):
    """Return processes whose environment carries the mark; the guard's own included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DOCTOR_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, " ".join(process.cmdline())[-80:]))
        except psutil.Error:
            continue
    return found


def shared_files():
    """Return shared memory files of doctors and of torch, but those of processes at work beside this test."""
    names = {entry.name for pattern in ("*dsrface*", "torch_*") for entry in SHM.glob(pattern)}
    tokens = {word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ()}
    return {name for name in names if not is_of_living_process(name, tokens)}


def is_of_living_process(name, tokens):
    if name.startswith("torch_"):
        pid = name.split("_")[1]
        return pid.isdigit() and psutil.pid_exists(int(pid))
    return any(f"dsrface-{part}" in tokens for part in name.split("-"))


def wait_until_clean(before, seconds=10):
    deadline = time.monotonic() + seconds
    while (found := shared_files() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def wait_until_gone(mark, seconds=20):
    deadline = time.monotonic() + seconds
    while (found := left_behind(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def request(name, **more):
    spec = {"spec": f"{HERE / 'doctor_faults.py'}:{name}", "args": None}
    folder = tempfile.mkdtemp(prefix="doctor-evidence-")
    options = {"num_workers": 2, "item_s": 0.01, "load_s": 0.5, "folder": folder, "survey": {}, **more}
    return {"stage": "prove", "target": spec, "method": "fork", **options}


@pytest.fixture
def mark(monkeypatch):
    value = f"m{random.getrandbits(60)}"
    monkeypatch.setenv("DOCTOR_TEST_MARK", value)
    before = shared_files()
    yield value
    assert left_behind(value) == []
    assert wait_until_clean(before) == set()


def test_a_hung_worker_is_ended_and_shows_where_it_stands(mark):
    outcome = run_stage(request("HangFault"), Limits(timeout_s=15))
    assert outcome.ending == "timeout"
    assert outcome.stage == "start 2 workers by fork"
    assert "self.lock.acquire()  # held since the fork" in (HERE / "doctor_faults.py").read_text()
    assert "doctor_faults.py" in outcome.stacks
    assert "__getitem__" in outcome.stacks


def test_a_process_that_takes_too_much_memory_is_ended(mark):
    outcome = run_stage(request("GreedyFault", num_workers=1), Limits(timeout_s=60, memory_bytes=500 << 20))
    assert outcome.ending == "memory"


def test_a_crash_of_the_process_itself_is_told(mark):
    outcome = run_stage({"stage": "prove"}, Limits(timeout_s=60))
    assert outcome.ending == "died"
    assert outcome.last("crash")["error"].startswith("KeyError")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_timeout_under_other_start_methods_leaves_nothing(mark, method):
    outcome = run_stage(request("HandleFixed", method=method), Limits(timeout_s=4.5))
    assert outcome.ending in ("timeout", "done")


def start_doctor(mark, *flags):
    command = [
        sys.executable,
        "-m",
        "dsrface",
        "doctor",
        "--dataset",
        f"{HERE / 'doctor_faults.py'}:HandleFixed",
    ]
    return subprocess.Popen(
        [*command, "--json", *flags],
        env={**os.environ, "DOCTOR_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("sent", [getattr(signal, "SIGKILL", None), signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment_nothing_is_left(sent, seed):
    mark = f"k{random.getrandbits(60)}"
    before = shared_files()
    moment = random.Random(f"{sent}{seed}").uniform(0.2, 14)
    method = ["all", "fork", "forkserver", "spawn"][seed]
    doctor = start_doctor(mark, "--start-method", method, "--budget", "20")
    try:
        time.sleep(moment)
        is_running = doctor.poll() is None
        doctor.send_signal(sent)
        doctor.communicate(timeout=30)
    finally:
        doctor.kill()
    assert wait_until_gone(mark) == [], (sent, moment)
    assert wait_until_clean(before) == set(), (sent, moment)
    if is_running:
        codes = {9: [-9], 2: [130, -2], 15: [143, -15]}[int(sent)]
        assert doctor.returncode in codes, (doctor.returncode, moment)


def test_prints_of_the_examined_code_stay_out_of_the_json(mark):
    command = [sys.executable, "-m", "dsrface", "doctor", "--json", "--no-probe", "--budget", "15"]
    target = f"{HERE / 'doctor_faults.py'}:NoisyFault"
    done = subprocess.run(
        [*command, "--dataset", target], capture_output=True, text=True, timeout=120, check=False
    )
    report = json.loads(done.stdout)
    assert report["tool"] == "dsrface doctor"
    assert {check["id"]: check["status"] for check in report["checks"]}["ds.items"] == "pass"
    assert done.returncode == 0


def test_processes_that_cannot_be_listed_do_not_end_the_guardian(monkeypatch):
    def refuse(*_, **__):
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, "children", refuse)
    assert guardian._children() == []


def test_processes_are_listed_over_and_over_only_where_that_is_of_use(monkeypatch, tmp_path):
    looks = []
    monkeypatch.setattr(guardian, "_SHM", tmp_path / "none")  # as on Windows and macOS
    monkeypatch.setattr(guardian, "_session", lambda: looks.append(1) or [])
    for name in ("_adopt_orphans", "take_all_along"):
        monkeypatch.setattr(guardian, name, lambda: None)
    monkeypatch.setattr(sys, "argv", ["guardian", "token"])
    request = {"command": [sys.executable, "-c", "import time; time.sleep(0.5)"], "environ": {}}
    reading, writing = os.pipe()
    os.write(writing, json.dumps(request).encode() + b"\n")
    with os.fdopen(reading) as requests, open(os.devnull, "w") as log:
        monkeypatch.setattr(sys, "stdin", requests)
        monkeypatch.setattr(sys, "stderr", log)
        guardian.main()
        os.close(writing)
    assert len(looks) <= 1  # at its end
