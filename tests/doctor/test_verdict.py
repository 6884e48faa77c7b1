"""The verdict in one line: which start methods are safe, where several were asked for."""

from __future__ import annotations

from dsrface.doctor.report import Finding, Report


def verdict(*findings):
    report = Report("0", "Data", {}, findings, recommendation=None, lesson=(), duration_s=3.0)
    return report.verdict_line()


def test_the_line_names_the_start_methods_that_are_safe():
    line = verdict(
        Finding("worker.fork", "pass", "two workers"),
        Finding("worker.spawn", "fail", "no worker"),
        Finding("worker.forkserver", "pass", "two workers"),
        Finding("ds.finalizer", "fail", "removes files", data={"blocks": ["forkserver"]}),
    )
    assert "; workers by fork safe, spawn not safe, forkserver not safe -> do not launch" in line


def test_one_method_needs_no_list_and_a_skipped_one_is_not_judged():
    line = verdict(Finding("worker.fork", "pass", "two workers"), Finding("worker.spawn", "skip", "no time"))
    assert "workers by" not in line
    assert line.endswith("ready")
