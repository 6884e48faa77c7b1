"""What the recommended setting would change for the step that was measured, in one line."""

from __future__ import annotations

from dsrface.doctor.launch.examine import LoaderReport
from dsrface.runtime.user_code import error_in


def gain_line(loader: LoaderReport) -> str:
    """Return what a step costs now, and what the model says of the recommended number of workers.

    With workers, loading and training overlap: a step takes the longer of the two. Without, their sum.
    """
    if loader.facts["raised"]:
        return f"its loop stopped with {error_in(loader.facts['raised'])}"
    if loader.facts["script_raised"]:
        return f"the command itself stopped while it worked on a batch: {loader.facts['script_raised']}"
    if loader.facts["waited_s"]:
        return f"no batch came within {loader.facts['waited_s']:.0f} s"
    if not loader.facts["steps"]["num_steps"]:
        return "one batch was taken from it, so the time of a step is not known"
    now_ms = loader.wait_ms + loader.step_ms
    share = loader.wait_ms / now_ms if now_ms else 0.0
    now = f"a step takes {now_ms:.1f} ms, {share:.0%} of it waiting for its batch"
    recommended, draws = loader.report.recommendation, loader.report.check("ds.rng")
    repeats = draws is not None and draws.status == "warn"  # fast workers that all draw the same are no gain
    if recommended is None or loader.report.verdict == "fail" or repeats:
        return now
    number = recommended["num_workers"]
    rate = float(recommended["predicted_items_per_s"])
    if number == loader.facts["num_workers"] or not rate or not loader.facts["batch_size"]:
        return now
    load_ms = 1e3 * float(loader.facts["batch_size"]) / rate
    then_ms = max(load_ms, loader.step_ms) if number else load_ms + loader.step_ms
    return f"{now}; with num_workers={number} about {then_ms:.1f} ms ({now_ms / then_ms:.1f}x)"
