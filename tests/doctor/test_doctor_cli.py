"""The command: schema, exit codes, explanations, and the report on terminals and in pipes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from rich.console import Console

from dsrface.cli.doctor_report import render_report
from dsrface.commands import doctor
from dsrface.config.doctor import DoctorConfig
from dsrface.config.sources import resolve
from dsrface.doctor.checks import installation, machine, resources, storage
from dsrface.doctor.checks.check import STAGE_NEEDS
from dsrface.doctor.checks.registry import all_checks
from dsrface.doctor.report import STATUSES, Finding, Report, in_order
from dsrface.doctor.report.lessons import lesson
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.survey.facts import Network, SurveyFacts
from dsrface.errors import UsageError
from dsrface.runtime.resources import Cores, Memory

HERE = Path(__file__).parent
SCHEMA = json.loads((HERE.parents[1] / "docs" / "doctor.schema.json").read_text(encoding="utf-8"))
GIB = 1 << 30
NOTE = {"cv2_threads": None, "torch_threads": 1}


def run(**values):
    return doctor.run(DoctorConfig(**values), emit=lambda event: None)


def target(name):
    return f"{HERE / 'doctor_faults.py'}:{name}"


def command(*words, **environ):
    return subprocess.run(
        [sys.executable, "-m", "dsrface", "doctor", *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "COLUMNS": "60", **environ},
    )


def test_the_platform_alone():
    result = run(budget_s=60)  # a slow machine imports torch in half a minute
    report = result.to_dict()
    jsonschema.validate(report, SCHEMA)
    made = {check["id"] for check in report["checks"]}
    assert made >= {id for id in all_checks() if id.startswith("env.")} | {"mp.start_method"}
    assert not any(id.startswith("ds.") for id in made)
    assert result.exit_code == 0
    assert report["platform"]["torch"]


def test_this_process_and_the_parent_need_no_torch():
    modules = "dsrface.cli.app, dsrface.commands.doctor, dsrface.cli.doctor_report"
    call = "from dsrface.doctor.checks.registry import all_checks; all_checks()"
    code = f"import sys, {modules}; {call}; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.slow
def test_a_fault_through_the_whole_command_in_a_narrow_pipe():
    done = command("--dataset", target("LockFault"), "--start-method", "spawn", "--budget", "25")
    assert done.returncode == 1
    assert "FAIL  ds.unpicklable" in done.stdout
    assert "dataset.cache['lock']" in done.stdout
    assert "FAIL  worker.spawn" in done.stdout
    assert "do not launch like this" in done.stdout
    assert "num_workers=0" in done.stdout
    assert done.stdout.isascii()
    long = [line for line in done.stdout.splitlines() if len(line) > 60 and " " in line.strip()]
    copied = ("next", "    DataLoader(dataset, batch_size=", target("LockFault"))
    assert [line for line in long if not line.startswith(copied)] == []
    assert "fail ds.unpicklable: dataset.cache['lock']" in done.stderr  # as soon as it was known
    assert " at 0x" not in done.stdout


@pytest.mark.slow
def test_json_of_a_whole_examination_while_the_data_set_prints():
    done = command("--dataset", target("NoisyFault"), "--json", "--budget", "20", "--batch-size", "8")
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert report["verdict"] in ("pass", "warn")
    assert done.returncode == report["exit_code"] == 0
    assert report["recommendation"]["num_workers"] >= 0
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    method = report["platform"]["start_method"]
    assert statuses[f"worker.{method}"] == statuses["worker.consistency"] == "pass"


@pytest.mark.slow
def test_the_classic_case_teaches(monkeypatch):
    monkeypatch.setenv("DSRFACE_DOCTOR_META_AS_CUDA", "1")
    done = command("--dataset", target("NetworkFault"), "--start-method", "fork", COLUMNS="200")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    for line in lesson("dataset.dsr_model", "cuda:0", is_on_gpu=True):
        assert line in text
    assert "num_workers=0" in text
    assert "run it on the batch in the training step" in " ".join(text.split())
    assert "dsrface precompute" not in text


@pytest.mark.slow
def test_a_hanging_batch_ends_as_a_failure():
    result = run(dataset=target("HangFault"), start_method="fork", budget_s=20)
    check = result.report.check("worker.fork")
    assert (check.status, result.exit_code) == ("fail", 1)
    assert "doctor_faults.py" in check.where
    assert "acquire" in check.data["stacks"] or "__getitem__" in check.where


@pytest.mark.slow
def test_an_item_that_raises_is_told_once_and_speaks_for_no_number_of_workers():
    report = run(dataset=target("ItemFault"), start_method="fork", budget_s=20).report
    assert report.check("ds.items").status == "fail"
    assert report.check("worker.fork").status == "pass"  # with the items that load
    assert "worker.fork" not in report.recommendation["reason"]


def test_the_lesson_of_a_network_on_the_cpu_speaks_of_what_would_be():
    lines = lesson("dataset.net", "cuda:0", is_on_gpu=False)
    assert lines[0].startswith("On the CPU, as here, workers can use dataset.net")
    assert not any("as it is" in line for line in lines)


@pytest.mark.parametrize(
    ("hardware", "visible", "pins"), [(True, "0", True), (True, "", False), (False, "0", False)]
)
def test_memory_is_pinned_where_the_launch_will_see_a_gpu(monkeypatch, hardware, visible, pins):
    monkeypatch.setattr(machine, "has_gpu", lambda: hardware)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    report = run(dataset=target("NetworkFixed"), probe=False, budget_s=60).report
    assert report.recommendation["pin_memory"] is (pins and torch.version.cuda is not None)


def test_exit_codes_of_what_cannot_be_examined():
    assert run(dataset=target("raises"), probe=False).exit_code == 3
    assert run(dataset=target("LambdaFault"), probe=False, start_method="spawn").exit_code == 1
    assert (
        run(
            dataset=target("LambdaFault"), probe=False, start_method="fork", only=("ds.unpicklable",)
        ).exit_code
        == 0
    )
    strict = run(dataset=target("LambdaFault"), probe=False, start_method="fork", only=("ds.",), strict=True)
    assert strict.exit_code == 1


def test_usage_errors():
    with pytest.raises(UsageError, match=r"ds\.unpickleable"):
        run(only=("ds.unpickleable",))
    with pytest.raises(UsageError) as caught:
        run(explain="ds.pickle")
    assert "ds.pickle_size" in caught.value.hint
    with pytest.raises(UsageError):
        run(dataset="x:y", dataset_args="{not json")
    with pytest.raises(UsageError, match="no module 'nosuch"):
        run(dataset="nosuch.module:make", probe=False, budget_s=60)
    for flags in (
        {"data": "x"},
        {"data": "x", "purpose": "finetune", "dataset": "a:b"},
        {"dataset_args": "{}"},
    ):
        with pytest.raises(UsageError):
            resolve(DoctorConfig, flags=flags)
    assert DoctorConfig(budget_s="30s").budget_s == 30


def test_judging_a_launch():
    result = run(dataset=target("HandleFixed"), workers=1, budget_s=60, probe=False)
    assert result.report.check("perf.launch").status in ("pass", "warn")


def test_the_report_can_be_written_to_a_file(tmp_path):
    result = run(output=tmp_path / "report.json", only=("env.cpu",))
    assert json.loads((tmp_path / "report.json").read_text())["checks"][0]["id"] == "env.cpu"
    assert result.location.endswith("report.json")


def test_every_check_is_explained_and_documented():
    checks = all_checks().values()
    assert sum(len(check.errors) for check in checks) >= 50
    assert all("." in check.why and "." in check.fix for check in checks)
    assert all(check.worst in STATUSES and set(check.runs) <= set(STAGE_NEEDS) for check in checks)
    page = (HERE.parents[1] / "docs" / "doctor-checks.md").read_text(encoding="utf-8")
    headings = {line[3:].strip("`") for line in page.splitlines() if line[:3] == "## "}
    assert {check.id for check in checks} <= headings


def report(*checks, **changes):
    platform = machine.facts("fork", Cores(8, 8, None, None, 1, 8, "8 cores"), Memory(GIB, None, "free"))
    values = {
        "version": "1",
        "target": "pkg:make",
        "platform": platform,
        "checks": in_order(checks, all_checks()),
        "recommendation": None,
        "lesson": (),
        "duration_s": 1.0,
    }
    return Report(**{**values, **changes})


def rendered(value, **options):
    console = Console(file=io.StringIO(), markup=False, emoji=False, highlight=False, **options)
    render_report(value, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal_has_symbols_and_a_pipe_has_none():
    value = report(Finding("ds.rng", "warn", "dataset.r [/bold] ünsafe", where="dataset.r", fix="seed"))
    piped = rendered(value, width=60)
    assert "warn  ds.rng" in piped
    assert piped.isascii()
    assert "[/bold]" in piped
    colour = rendered(value, width=60, force_terminal=True, color_system="standard")
    assert "\x1b[" in colour
    assert "! ds.rng" in colour
    plain = rendered(value, width=60, force_terminal=True, no_color=True)
    assert "! warn" not in plain


def test_passed_checks_show_only_when_asked():
    value = report(Finding("ds.rng", "pass", "fine"), Finding("ds.items", "fail", "item 3: bad"))
    assert "fine" not in rendered(value, width=80)
    console = Console(file=io.StringIO(), width=80)
    render_report(value, console, verbose=True)
    assert "fine" in console.file.getvalue()  # type: ignore[attr-defined]


def test_verdicts():
    assert report(Finding("ds.rng", "pass", "x")).verdict == "pass"
    assert report(Finding("ds.rng", "warn", "x")).verdict == "warn"
    assert report(Finding("ds.rng", "warn", "x"), is_strict=True).exit_code == 1
    assert report(Finding("ds.rng", "error", "x")).verdict == "warn"
    assert report(Finding("ds.build", "fail", "x")).exit_code == 3
    assert "1 failure, 0 warnings" in report(Finding("ds.items", "fail", "x")).verdict_line()
    twice = in_order([Finding("env.ram", "pass", "a"), Finding("env.ram", "fail", "b")], all_checks())
    assert [check.summary for check in twice] == ["b"]
    later = in_order(
        [Finding("ds.items", "fail", "1 item raised"), Finding("ds.items", "fail", "5 items raised")],
        all_checks(),
    )
    assert [check.summary for check in later] == ["5 items raised"]


def seen(**values):
    return SurveyFacts(100, 0.1, 8, {}, [], **values)


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (
            resources.memory_check(Memory(GIB, None, "x"), seen(worker_bytes=200 << 20), 8),
            "fail",
        ),
        (
            resources.memory_check(
                Memory(64 * GIB, None, "x"), seen(worker_bytes=200 << 20, batch_bytes=9), 8
            ),
            "pass",
        ),
        (resources.shm_check(64 << 20, seen(batch_bytes=10 << 20), 8), "fail"),
        (resources.shm_check(200 << 20, seen(batch_bytes=10 << 20), 8), "warn"),
        (resources.shm_check(GIB, seen(batch_bytes=10 << 20), 8), "pass"),
        (resources.shm_check(64 << 20, None, 0), "warn"),
        (resources.shm_check(None, None, 0), "skip"),
        (resources.files_check(256, seen(tensors_per_batch=4), 8), "warn"),
        (resources.files_check(65_536, seen(tensors_per_batch=4), 8), "pass"),
        (resources.files_check(1024, None, 0), "warn"),
        (storage.storage_check([], ItemCost(0.001, 0, 0.004, 1, 9)), "info"),
        (storage.storage_check([], ItemCost(0.001, 0, 0.004, 1, 9, 0, 0, 8192, 0.3)), "warn"),
        (storage.storage_check([], ItemCost(0.001, 0, 0.004, 1, 9, 0, 0, 8192, 0.9)), "info"),
        (storage.storage_check([], ItemCost(0.001, 0, 0, 1, 9)), "pass"),
        (
            installation.worker_threads_check([{"cv2_threads": 8, "torch_threads": 1, "affinity": 8}], 8),
            "warn",
        ),
        (
            installation.worker_threads_check([{"cv2_threads": None, "torch_threads": 1, "affinity": 2}], 8),
            "warn",
        ),
    ],
)
def test_limits(check, status):
    assert check.status == status
    assert check.fix or status in ("pass", "skip", "info")


@pytest.mark.parametrize(
    "facts",
    [
        seen(),
        seen(network=Network("dataset.net", "cuda:0", True), cost=ItemCost(1, 0, 0, 1, 9), startup_s=2.5),
    ],
)
def test_facts_survive_the_way_between_the_processes(facts):
    assert SurveyFacts.from_dict(json.loads(json.dumps({"event": "facts", **facts.to_dict()}))) == facts


def test_quota_and_load(monkeypatch):
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.1, 0, 0), raising=False)
    limited = machine._cores(Cores(8, 8, 0.5, None, 1, 1, "cgroup quota of 0.5 cores"))
    assert limited.status == "warn"
    assert "quota" in limited.summary
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (40.0, 0, 0), raising=False)
    assert machine._cores(Cores(8, 8, None, None, 1, 8, "8 cores")).status == "info"


def test_network_file_systems(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/x /data/my\\040faces nfs4 rw 0 0\n")
    assert storage.file_system("/data/my faces/a", mounts=mounts) == "nfs4"
    assert storage.file_system("/home", mounts=mounts) == "ext4"
    check = storage.storage_check(["/data/my faces"], None, mounts=mounts)
    assert (check.status, "nfs4" in check.summary) == ("info", True)
