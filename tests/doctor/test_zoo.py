"""The zoo of data sets: its declarations, its judge, and a few cases through the whole command.

The whole zoo is run by `python benchmarks/doctor_zoo/run.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ZOO = Path(__file__).parents[2] / "benchmarks" / "doctor_zoo"
WORDS = {"equal", "differs", "random", "twins", "raises", "broken", "hangs"}
# Quick cases of each kind that the doctor judges rightly; one that it does not is no test yet.
RIGHT = (
    "member_file",
    "global_file",
    "tar_member",
    "init_fn_constant_seed",
    "own_generator_state",
    "numpy_generator_member",
    "counter",
    "counter_in_dict",
    "curriculum",
    "duplicated_descriptor",
    "files_left",
    "list_growth",
    "descriptor_leak",
    "one_buffer",
    "unsharded_stream",
    "unsharded_shuffled_stream",
    "length_beyond_the_end",
    "generator_at_first_use",
    "getitems",
    "opened_at_first_use",
    "v1_flips",
)


@pytest.fixture
def zoo(monkeypatch):
    """The runner, with the folders of the zoo on the path."""
    pytest.importorskip("fcntl", reason="the zoo's locks and forks are POSIX")
    monkeypatch.syspath_prepend(str(ZOO / "cases"))
    monkeypatch.syspath_prepend(str(ZOO))
    import run

    return run


@pytest.fixture
def cases(zoo):
    return zoo.catalogue()


def test_the_catalogue_is_large_and_well_formed(cases):
    assert len({case.name for case in cases if case.is_fault}) >= 60
    assert len({case.name for case in cases if not case.is_fault}) >= 60
    keys = [(case.name, method) for case in cases for method in case.methods]
    assert len(keys) == len(set(keys))
    for case in cases:
        assert case.about, case.name
        assert set(case.plain) <= WORDS, case.name
        re.compile(case.where)
        re.compile(case.fix)
        assert not case.is_fault or (case.where and case.fix), case.name


def report(*checks, workers=0, persistent=False):
    advice = {"num_workers": workers, "persistent_workers": persistent, "multiprocessing_context": None}
    return {
        "checks": [dict(zip(("id", "status", "summary", "fix"), check, strict=True)) for check in checks],
        "recommendation": advice,
    }


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (report(("ds.open_handles", "fail", "dataset.file is open", "Open it at first use")), "right"),
        (report(("ds.open_handles", "warn", "dataset.file is open", "Remove the sample")), "another"),
        (report(("ds.open_handles", "fail", "dataset.names", "Open it at first use")), "another"),
        (report(("worker.consistency", "fail", "dataset.file", "Open it at first use")), "another"),
        (report(("ds.open_handles", "fail", "dataset.file is open", "first use"), workers=2), "another"),
        (report(("ds.open_handles", "pass", "no open file", ""), workers=2), "missed"),
        (report(("env.cpu", "warn", "the machine is busy", "")), "missed"),
        (None, "unfinished"),
    ],
)
def test_an_answer_about_a_fault(zoo, cases, answer, outcome):
    fault = next(case for case in cases if case.name == "member_file" and "fork" in case.methods)
    assert zoo.judge.judge(fault, answer)[0] == outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (report(("ds.items", "pass", "", "")), "silent"),
        (report(("env.shm", "warn", "small", "")), "silent"),
        (report(("mp.threads", "warn", "one thread", "")), "warning"),
        (report(("mp.threads", "warn", "one", ""), ("worker.consistency", "fail", "differ", "")), "failure"),
        (report(("ds.items", "pass", "", ""), workers=2), "number"),
    ],
)
def test_an_answer_about_a_healthy_data_set(zoo, cases, answer, outcome):
    healthy = next(case for case in cases if case.name == "rows_of_a_tensor")
    assert zoo.judge.judge(healthy, answer)[0] == outcome


def test_the_table_counts_every_case_once(zoo):
    outcomes = [("right", True), ("missed", True), ("silent", False), ("skipped", True)]
    verdicts = [
        zoo.judge.Verdict(f"case{n}", "kind", "fork", is_fault, is_fault, outcome)
        for n, (outcome, is_fault) in enumerate(outcomes)
    ]
    counts = dict(zoo.judge.by_method(verdicts))
    assert (counts["faults"], counts["missed"], counts["missed with wrong data"]) == ("2", "1", "1")
    assert (counts["healthy"], counts["silent"]) == ("1", "1")
    assert zoo.judge.by_kind(verdicts)[1] == ["kind", "2", "1", "1", "1", "0", "1"]


def test_what_a_file_holds_is_not_run_again(zoo, monkeypatch, tmp_path, capsys):
    run, answers = [], {"member_file": "missed", "member_file_rare": "right"}

    def answer(case, method, options):
        run.append(case.name)
        outcome = answers[case.name]
        return zoo.judge.Verdict(case.name, case.kind, method, case.is_fault, case.is_silent, outcome), None

    monkeypatch.setattr(zoo, "_answer", answer)
    arguments = ["run.py", "--only", *answers, "--json", str(tmp_path / "zoo.json")]
    for more, expected in ([], 2), ([], 0), (["--again", "wrong"], 1), (["--again", "all"], 2):
        run.clear()
        monkeypatch.setattr("sys.argv", [*arguments, *more])
        zoo.main()
        assert len(run) == expected
    assert "missed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_the_doctor_is_right_about(zoo, cases, name):
    case = next(case for case in cases if case.name == name and "fork" in case.methods)
    if absent := case.absent():
        pytest.skip(f"absent: {', '.join(absent)}")
    verdict, _ = zoo.examine(case, "fork", 60.0, 150.0, has_timing=False)  # a busy machine is no mistake
    if verdict.outcome == "unproved":
        pytest.skip(f"the machine is too busy: {verdict.why}")
    assert verdict.is_good, verdict.why
