"""The verdict in one line: which start methods are safe, where several were asked for."""

from __future__ import annotations

from dsrface.doctor.report import OUT_OF_BUDGET, Finding, Report


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


def test_a_launch_without_workers_is_not_stopped_for_what_workers_would_do():
    def advice(*ids, workers=0):
        findings = tuple(Finding(id, "fail", "") for id in ids)
        return Report("0", "Data", {}, findings, None, (), 3.0, launched_workers=workers).advice()

    calm = "as launched, without workers, it is right; give it none before ds.open_handles is mended"
    assert advice("ds.open_handles", "worker.consistency") == calm
    assert advice("ds.open_handles", workers=2) == "do not launch like this"
    assert advice("ds.open_handles", workers=None) == "do not launch like this"
    assert advice("ds.items", "worker.fork") == "do not launch like this"


def test_one_method_needs_no_list_and_a_skipped_one_is_not_judged():
    line = verdict(Finding("worker.fork", "pass", "two workers"), Finding("worker.spawn", "skip", "no time"))
    assert "workers by" not in line
    assert line.endswith("ready")


def test_a_warning_about_items_is_never_called_fit_to_run():
    calm = verdict(Finding("ds.unpicklable", "warn", "a lambda"))
    assert calm.endswith("runs here; see ds.unpicklable first")
    for finding in (
        Finding("ds.rng", "warn", "all workers draw alike"),
        Finding("ds.open_handles", "warn", "shared", data={"blocks": ["fork"]}),
    ):
        line = verdict(Finding("ds.unpicklable", "warn", "a lambda"), finding)
        assert line.endswith(f"workers can deliver wrong items: see {finding.id} first")


def test_the_line_to_copy_is_a_call_and_shows_no_address():
    report = Report(
        "0",
        "Data",
        {},
        (
            Finding("ds.output", "pass", "a batch", data={"batch_size": 32}),
            Finding("ds.unpicklable", "fail", "a lambda", "<function f at 0x7f6d65238b80>: no"),
        ),
        recommendation={"flags": "num_workers=0"},
        lesson=(),
        duration_s=3.0,
    )
    assert report.loader_line() == "DataLoader(dataset, batch_size=32, num_workers=0)"
    assert "0x" not in str(report)
    assert report.loader_line() in str(report)


def test_what_was_not_built_in_time_was_not_examined():
    def code(status, data):
        return Report("0", "D", {}, (Finding("ds.build", status, "", data=data),), None, (), 1.0).exit_code

    assert [code("pass", {}), code("warn", {})] == [0, 0]
    assert [code("fail", {}), code("skip", OUT_OF_BUDGET), code("warn", OUT_OF_BUDGET)] == [3, 3, 3]
