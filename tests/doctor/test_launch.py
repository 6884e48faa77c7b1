"""`dsrface doctor -- COMMAND`: loaders of a script are examined in its own processes, with no edit."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from dsrface.cli.app import run

IMPORTS = """
import os, sys, time
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset, TensorDataset
"""
SQUARES = """
class Squares(Dataset):
    def __len__(self):
        return 400

    def __getitem__(self, index):
        return torch.full((8,), float(index))
"""
TRAIN = """
def train(loader, epochs=1):
    net = torch.nn.Linear(8, 1)
    for _ in range(epochs):
        for x in loader:
            net(x).sum().backward()
            time.sleep(0.01)
"""
LOOKING = ["--no-probe", "--budget", "10"]  # survey only: quick


@pytest.fixture
def script(tmp_path):
    """Write a script and return the command that runs it."""

    def script(text, name="train.py"):
        file = tmp_path / name
        file.write_text(IMPORTS + textwrap.dedent(text), encoding="utf-8")
        return [sys.executable, str(file)]

    return script


@pytest.fixture
def launch(tmp_path, capfd):
    """Launch a command under the doctor; returns exit code, result and standard error."""

    def launch(command, *options):
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        code = run(["doctor", *options, "--output", str(report), "--", *command])
        shown = capfd.readouterr()
        result = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
        return code, result, shown.err + shown.out

    return launch


def check(result, id, loader=0):
    return next(c for c in result["loaders"][loader]["report"]["checks"] if c["id"] == id)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_file_that_is_opened_at_first_use_is_no_fault(script, launch, workers):
    command = script(f"""
        class Records(Dataset):
            def __init__(self, path):
                self.path, self.file = path, None
            def __len__(self):
                return 3000
            def __getitem__(self, index):
                if self.file is None:
                    self.file = open(self.path, "rb")
                self.file.seek(index * 64)
                return torch.frombuffer(bytearray(self.file.read(64)), dtype=torch.uint8).float()

        if __name__ == "__main__":
            path = os.path.join(os.path.dirname(__file__), "records.bin")
            open(path, "wb").write(bytes(64 * 3000))
            weight = torch.zeros(1, requires_grad=True)
            for batch in DataLoader(Records(path), batch_size=8, num_workers={workers}):
                (weight * batch.sum()).backward()
        """)
    code, result, out = launch(command, "--start-method", "fork", "--budget", "12")
    assert code == 0, out
    assert check(result, "ds.open_handles")["status"] == "pass"
    assert check(result, "worker.consistency")["status"] == "pass"


POOL = """
import queue, threading

asked, answers = queue.Queue(), queue.Queue()
thread = None

def work():
    while True:
        answers.put(asked.get())

def double(number):
    global thread
    if thread is None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
    asked.put(2 * number)
    return answers.get()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_library_whose_threads_a_fork_loses_may_be_used_by_items(script, launch, tmp_path):
    library = tmp_path / "site-packages"  # no file of the user's, so that its variables are not put back
    library.mkdir()
    (library / "pool.py").write_text(POOL, encoding="utf-8")
    command = script(f"""
        sys.path.insert(0, {str(library)!r})
        import pool

        class Doubles(Dataset):
            def __len__(self):
                return 800
            def __getitem__(self, index):
                return torch.tensor(float(pool.double(index)))

        if __name__ == "__main__":
            weight = torch.zeros(1, requires_grad=True)
            for batch in DataLoader(Doubles(), batch_size=8):
                (weight * batch.sum()).backward()
        """)
    code, result, out = launch(command, "--start-method", "fork", "--budget", "12")
    assert code == 0, out
    assert check(result, "worker.fork")["status"] == "pass"
    assert check(result, "worker.consistency")["status"] == "pass"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_what_refuses_to_work_in_a_fork_is_an_error_of_workers(script, launch):
    command = script("""
        OWNER = os.getpid()

        class Client(Dataset):
            def __len__(self):
                return 100
            def __getitem__(self, index):
                if os.getpid() != OWNER:
                    raise RuntimeError("This class is not fork-safe")
                return torch.tensor(float(index))

        if __name__ == "__main__":
            for batch in DataLoader(Client(), batch_size=8):
                pass
        """)
    code, result, out = launch(command, "--start-method", "fork", "--budget", "10")
    assert code == 1, out
    assert check(result, "ds.items")["status"] == "pass"
    assert "not fork-safe" in check(result, "worker.fork")["summary"] + check(result, "worker.fork")["where"]


@pytest.mark.slow  # a batch is waited for 30 s
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_an_item_that_never_ends_without_workers_is_named(script, launch):
    command = script("""
        import socket

        class Answers(Dataset):
            def __len__(self):
                return 100
            def __getitem__(self, index):
                with socket.create_server(("127.0.0.1", 0)) as server:
                    return server.accept()

        if __name__ == "__main__":
            for batch in DataLoader(Answers(), batch_size=8):
                pass
        """)
    code, result, out = launch(command, "--start-method", "fork", "--budget", "10")
    assert code == 1, out
    assert check(result, "ds.items")["status"] == "fail"
    assert "train.py:13" in check(result, "ds.items")["where"]
    assert "no batch came within 30 s" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_shared_file_offset_stops_the_launch_by_name_and_line(script, launch):
    command = script("""
        class Records(Dataset):
            def __init__(self, path):
                self.file = open(path, "rb")
            def __len__(self):
                return 3000
            def __getitem__(self, index):
                self.file.seek(index * 64)
                time.sleep(0.0005)
                return torch.frombuffer(bytearray(self.file.read(64)), dtype=torch.uint8)

        if __name__ == "__main__":
            path = __file__ + ".bin"
            np.random.default_rng(0).integers(0, 255, 3000 * 64).astype(np.uint8).tofile(path)
            for x in DataLoader(Records(path), batch_size=32, shuffle=True):
                pass
    """)
    code, result, out = launch(command, "--budget", "15")
    assert code == 1
    assert result["loaders"][0]["made_at"].endswith("train.py:19")
    assert check(result, "ds.open_handles")["status"] == "fail"
    assert "file" in check(result, "ds.open_handles")["summary"]
    assert "train.py:8" in check(result, "ds.open_handles")["where"]
    assert "give it none before ds.open_handles is mended" in out


@pytest.mark.slow
def test_the_recommendation_knows_the_step_that_was_measured(script, launch):
    command = script(SQUARES + TRAIN + 'if __name__ == "__main__":\n    train(DataLoader(Squares(), 16), 9)')
    code, result, _ = launch(command, "--budget", "12")
    [loader] = result["loaders"]
    assert code == 0
    assert loader["steps"]["num_steps"] >= 9
    assert loader["steps"]["step_s"] > 0.01
    assert loader["report"]["recommendation"]["num_workers"] == 0  # items cost nothing, the step does
    assert loader["dataset_class"] == "Squares"


def test_the_loop_that_trains_is_examined_and_validation_passes_by(script, launch):
    command = script(
        SQUARES
        + TRAIN
        + """
if __name__ == "__main__":
    data = Squares()
    val, loader = DataLoader(data, 40), DataLoader(data, 16, shuffle=True)
    quick_look = DataLoader(data, 25)
    x = next(iter(loader))
    with torch.no_grad():
        for x in val:
            pass
    for x in quick_look:
        with torch.no_grad():
            x.sum()
    train(loader)
    raise SystemExit("never reached")
"""
    )
    code, result, _ = launch(command, *LOOKING)
    assert code == 0
    assert [loader["batch_size"] for loader in result["loaders"]] == [16]
    code, result, _ = launch(command, "--loaders", "2", *LOOKING)
    assert [loader["batch_size"] for loader in result["loaders"]] == [40, 25]


def test_a_loader_that_one_batch_is_taken_from_is_examined_in_the_end(script, launch):
    command = script(
        SQUARES
        + """
if __name__ == "__main__":
    x = next(iter(DataLoader(Squares(), 16)))
"""
    )
    code, result, _ = launch(command, "--start-method", "spawn", *LOOKING)
    assert code == 0  # the script is over, but workers can still import it
    (loader,) = result["loaders"]
    assert loader["batch_size"] == 16
    assert "is not known" in loader["gain"]


def test_finally_and_atexit_of_the_script_run(script, launch, tmp_path):
    command = script(
        SQUARES
        + TRAIN
        + f"""
import atexit
if __name__ == "__main__":
    atexit.register(lambda: open({str(tmp_path / "atexit")!r}, "w").close())
    try:
        train(DataLoader(Squares(), 16), 100)
    finally:
        open({str(tmp_path / "finally")!r}, "w").close()
"""
    )
    assert launch(command, *LOOKING)[0] == 0
    assert (tmp_path / "atexit").exists()
    assert (tmp_path / "finally").exists()


def test_with_continue_the_script_goes_on_as_if_nothing_had_happened(script, launch, tmp_path):
    text = """
if __name__ == "__main__":
    torch.manual_seed(0)
    loader = DataLoader(Squares(), 16, shuffle=True)
    order = [x[:, 0].tolist() for _ in range(2) for x in loader]
    open(PATH, "w").write(repr((order, torch.rand(3).tolist())))
    print("epoch 2 of 2")
    print("half a line", end="")
"""
    one, other = tmp_path / "watched", tmp_path / "alone"
    command = script(SQUARES + text.replace("PATH", repr(str(one))))
    code, _, out = launch(command, "--continue", "--steps", "2", *LOOKING)
    assert code == 0
    assert "epoch 2 of 2" in out
    assert "half a line" in out
    subprocess.run(script(SQUARES + text.replace("PATH", repr(str(other)))), check=True)
    assert one.read_text() == other.read_text()


def test_a_loader_with_an_iteration_of_its_own_is_seen_once(script, launch):
    command = script(
        SQUARES
        + TRAIN
        + """
class Stateful(DataLoader):
    def __init__(self, data):
        self.data = data
        super().__init__(data, batch_size=16)
    def __iter__(self):
        yield from super().__iter__()

if __name__ == "__main__":
    train(Stateful(Squares()))
"""
    )
    code, result, _ = launch(command, *LOOKING)
    assert code == 0
    assert [loader["loader_class"] for loader in result["loaders"]] == ["Stateful"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no data')", "RuntimeError: no data"),
        ("print('done')", "no-loader"),
        ("input('epochs?')", "reads standard input"),
        ("import signal; os.kill(os.getpid(), signal.SIGTERM)", "launch-failed"),
        ("loader = DataLoader([1, 2])", "no-loader"),
    ],
)
def test_a_command_without_a_loop_gets_a_plain_answer(script, launch, text, said):
    code, result, out = launch(script(text))
    assert code == 3
    assert result is None
    assert said in out


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_loader_whose_workers_cannot_start_is_examined_by_name(script, launch, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    command = script(
        f"""
        class Held(Dataset):
            def __init__(self):
                self.change = lambda x: x

            def __len__(self):
                return 64

            def __getitem__(self, index):
                return self.change(torch.zeros(8))

        if __name__ == "__main__":
            for x in DataLoader(Held(), 8, num_workers=1, multiprocessing_context="{method}"):
                pass
        """
    )
    code, result, out = launch(command, *LOOKING)
    assert code == 1
    found = check(result, "ds.unpicklable")
    assert found["status"] == "fail"
    assert re.match(r"dataset\.change \(.*train\.py:\d+\)", found["where"])
    assert "its loop stopped with" in out
    assert re.search("pickle|local object", result["loaders"][0]["raised"])


def test_an_error_that_ends_the_loop_is_told_where_no_check_explains_it(script, launch):
    command = script(
        """
        class Broken(Dataset):
            def __len__(self):
                return 64

            def __getitem__(self, index):
                if torch.utils.data.get_worker_info() is not None:
                    raise OSError("truncated")
                return torch.zeros(8)

        if __name__ == "__main__":
            for x in DataLoader(Broken(), 8, num_workers=1):
                pass
        """
    )
    code, result, _ = launch(command, *LOOKING)
    assert code == 1
    found = check(result, "ds.items")
    assert found["status"] == "fail"
    assert "OSError: truncated" in found["summary"]
    assert "in __getitem__" in found["where"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_loader_that_hangs_is_examined_and_its_line_named(script, launch):
    command = script(
        """
        import threading
        LOCK = threading.Lock()

        class Held(Dataset):
            def __len__(self):
                return 64

            def __getitem__(self, index):
                with LOCK:
                    return torch.zeros(8)

        if __name__ == "__main__":
            loader = DataLoader(Held(), 8, num_workers=1)
            with LOCK:
                batches = iter(loader)
                next(batches)
        """
    )
    code, result, out = launch(command, "--budget", "20")
    assert code == 1
    assert result["loaders"][0]["waited_s"] > 0
    assert "no batch came within" in out
    assert any(found["status"] == "fail" for found in result["loaders"][0]["report"]["checks"])


def test_an_error_of_the_training_step_is_told_as_the_commands_own(script, launch):
    command = script("for x in DataLoader(torch.zeros(400, 8), 8):\n    torch.nn.Linear(7, 1)(x)")
    code, result, out = launch(command, *LOOKING)
    assert code == 0
    assert result["loaders"][0]["script_raised"].startswith("RuntimeError: ")
    assert "the command itself stopped while it worked on a batch: RuntimeError" in out


def test_a_loop_shorter_than_the_steps_is_examined_at_its_end(script, launch):
    command = script("for x in DataLoader(torch.zeros(20, 8), 10):\n    x.sum()")
    code, result, _ = launch(command, *LOOKING)
    assert code == 0
    assert result["loaders"][0]["steps"]["num_steps"] == 1


def test_modules_and_the_sitecustomize_of_others_run_as_ever(script, launch, tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import builtins\nbuiltins.seen = 1\n", encoding="utf-8")
    guarded = 'if __name__ == "__main__":\n    assert seen == 1\n    train(DataLoader(Squares(), 16))'
    script(SQUARES + TRAIN + guarded, "package/train.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    code, result, out = launch([sys.executable, "-m", "package.train"], *LOOKING)
    assert code == 0, out
    assert result["loaders"][0]["made_at"] == "package/train.py:21".replace("/", os.sep)


def test_a_program_that_does_not_exist_is_a_usage_error(launch):
    code, _, out = launch(["pyton", "train.py"])
    assert code == 2
    assert "no-such-program" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_nothing_is_left_when_the_doctor_is_killed(script, tmp_path):
    loop = 'if __name__ == "__main__":\n    train(DataLoader(Squares(), 16, num_workers=2), 999)'
    command = script(SQUARES + TRAIN + loop)
    doctor = subprocess.Popen([sys.executable, "-m", "dsrface", "doctor", "--continue", "--", *command])
    deadline = time.monotonic() + 60
    while len(_running(tmp_path)) < 4 and time.monotonic() < deadline:  # script, two workers, and the doctor
        time.sleep(0.2)
    doctor.send_signal(signal.SIGKILL)
    doctor.wait()
    deadline = time.monotonic() + 20
    while _running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _running(tmp_path)


def _running(folder: Path):
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_of_two_ranks_one_speaks_and_both_end(script, launch, tmp_path):
    command = script(
        SQUARES
        + """
import torch.distributed as dist

def work(rank):
    dist.init_process_group("gloo", init_method="file://" + __file__ + ".store", rank=rank, world_size=2)
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
    for epoch in range(99):
        for x in DataLoader(Squares(), 16):
            net(x).sum().backward()

if __name__ == "__main__":
    torch.multiprocessing.spawn(work, nprocs=2)
"""
    )
    code, result, _ = launch(command, *LOOKING)
    assert code == 0
    assert len(result["loaders"]) == 1
    assert not _running(tmp_path)


@pytest.mark.slow
def test_a_script_without_a_main_guard_does_not_train_in_its_workers(script, launch, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    command = script(
        SQUARES
        + TRAIN
        + f"open(os.path.join({str(marks)!r}, str(os.getpid())), 'w').close()\n"
        + "train(DataLoader(Squares(), 16))"
    )
    code, result, _ = launch(command, "--start-method", "spawn", "--budget", "20")
    assert code == 1
    assert check(result, "mp.main_guard")["status"] == "fail"
    assert len(list(marks.iterdir())) > 1  # workers import it, and stop at the loop
