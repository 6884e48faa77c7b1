"""--attach: planted hangs are named by worker, line and items, quickly, and the job goes on unharmed."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from dsrface.cli.app import run
from dsrface.commands.doctor.attaching import run_attach
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.attach import stacks
from dsrface.doctor.attach.causes import doing
from dsrface.doctor.attach.kernel import SystemCall
from dsrface.doctor.attach.look import Seen

if sys.platform == "linux":
    from hangs import EXPECTED
else:
    EXPECTED = {}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HERE = Path(__file__).parent


def attach(pid):
    return run_attach(DoctorConfig(attach=pid))


def sleeping(call, *frames, state="sleeping"):
    stack = stacks.Stack(tuple(stacks.Frame(name, file, 1, {}) for name, file in frames), ())
    return Seen(4242, 1, state, 0.0, 0, 0.0, call=call, stack=stack)


IDLE = (("get", "multiprocessing/queues.py"), ("_worker_loop", "torch/utils/data/_utils/worker.py"))


def test_a_stopped_worker_is_not_called_idle():
    assert doing(sleeping(None, *IDLE)).kind == "idle"
    stopped = doing(sleeping(None, *IDLE, state="stopped"))
    assert stopped.kind == "stopped"
    assert "kill -CONT 4242" in stopped.fix


def test_the_training_process_is_not_said_to_have_copied_a_lock():
    call = SystemCall("futex")
    assert "fork" in doing(sleeping(call, ("wait", "threading.py"), *IDLE[1:])).text
    training = doing(sleeping(call, ("wait", "threading.py"), ("main", "train.py")))
    assert training.kind == "lock"
    assert "fork" not in training.text + training.fix


@pytest.mark.parametrize(("call", "advice"), [("write", "Read the other end"), ("read", "is written to")])
def test_the_way_out_of_a_pipe_depends_on_its_end(call, advice):
    assert advice in doing(sleeping(SystemCall(call, "pipe:[7]"))).fix


@pytest.fixture(scope="module")
def hanging(tmp_path_factory):
    """One training process for each kind of hang, all of them blocked."""
    folder = tmp_path_factory.mktemp("hangs")
    environ = {**os.environ, "OMP_NUM_THREADS": "2"}
    driver = subprocess.Popen(
        [sys.executable, HERE / "hangs.py", folder, *EXPECTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )
    pids = dict(driver.stdout.readline().split() for _ in EXPECTED)
    try:
        deadline = time.monotonic() + 120
        while not all((folder / kind).exists() for kind in EXPECTED):
            assert time.monotonic() < deadline, [k for k in EXPECTED if not (folder / k).exists()]
            time.sleep(0.2)
        time.sleep(1)
        yield {kind: int(pid) for kind, pid in pids.items()}
    finally:
        for process in psutil.Process(driver.pid).children(recursive=True):
            if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):  # it unlinks semaphores
                process.kill()
        driver.kill()
        driver.wait()


@pytest.mark.skipif(not stacks.can_see_stacks(), reason="needs py-spy")
@pytest.mark.slow
def test_every_planted_hang_is_named_within_two_seconds(hanging):
    wrong, seconds = {}, []
    for kind, pid in hanging.items():
        result = attach(pid)
        seconds.append(result.report.duration_s)
        [loading] = result.report.loadings
        culprit = loading.culprit
        if culprit is None:
            wrong[kind] = result.summary
            continue
        seen = (culprit.doing.kind, culprit.number, culprit.keys, "hangs.py" in culprit.place)
        if seen != (EXPECTED[kind], 1, "[20, 21, 22, 23]", True) or result.exit_code != 1:
            wrong[kind] = (seen, result.summary)
    assert not wrong
    assert statistics.median(seconds) <= 2


@pytest.mark.slow
def test_without_py_spy_the_kernel_still_tells_what_a_worker_waits_for(hanging, monkeypatch):
    monkeypatch.setattr(stacks, "_py_spy", lambda: None)
    result = attach(hanging["recv"])
    kinds = [worker.doing.kind for loading in result.report.loadings for worker in loading.workers]
    assert "network" in kinds
    assert "pip install py-spy" in "\n".join(result.lines())


@pytest.mark.skipif(not stacks.can_see_stacks(), reason="needs py-spy")
def test_a_job_that_runs_is_told_so_and_goes_on(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import time
        from torch.utils.data import DataLoader
        done = 0
        for x in DataLoader(range(10**7), num_workers=1, batch_size=4, multiprocessing_context="fork"):
            time.sleep(0.05)
            done += 1
            print(done, flush=True)
        """),
        encoding="utf-8",
    )
    job = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(5):
            job.stdout.readline()
        assert run(["doctor", "--attach", str(job.pid)]) == 0
        out = capsys.readouterr().out
        assert "worker 0" in out
        assert "waits for no worker" in out or "train.py" in out
        before = int(job.stdout.readline())
        assert int([job.stdout.readline() for _ in range(20)][-1]) == before + 20
    finally:
        job.kill()
        job.wait()


def test_no_such_process_is_a_usage_error(capsys):
    assert run(["doctor", "--attach", "999999999"]) == 2
    assert "no-such-process" in capsys.readouterr().err
