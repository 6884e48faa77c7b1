"""`--prove`: run the command with the present and the recommended settings in turn, and compare.

Two runs compare batches and losses. Then pairs of runs are timed, in the order A B B A. Each run has fresh
processes.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dsrface.doctor.checks.performance import PROOF
from dsrface.doctor.launch.examine import LaunchReport, LoaderReport
from dsrface.doctor.launch.patch import arguments_of
from dsrface.doctor.launch.session import launched
from dsrface.doctor.report import Finding
from dsrface.events import Event, Progress
from dsrface.runtime.text import count_text

NUM_PAIRS = 6
_STUDENT_99 = 4.032  # two-sided, for the 5 degrees of freedom of 6 pairs
_MARGIN = 0.02  # a difference that is worth calling one
_TIMED_S, _MOST_STEPS = 3.0, 400
_SHOWN_LINES = 3
_LIKE = 0.01  # losses of equal batches differ by the rounding of other kernels at most
_PATIENCE = 10.0
_PRESENT: Mapping[str, Any] = {}  # no argument is changed


@dataclass(frozen=True)
class Job:
    """What is proved.

    Args:
        command: Of the launch.
        made_at: `file:line` of the loader.
        ready: The most batches that lie ready when the loop begins, by either settings.
        recommended: Arguments that the loader is to have.
        is_stream: Its data set is iterated over, not indexed.
        steps: Training steps that are taken at least.
        step_s: Seconds that a step takes now, its waiting included.
        start_s: Seconds from the launch to the first batch.
    """

    command: Sequence[str]
    made_at: str
    ready: int
    recommended: Mapping[str, Any]
    is_stream: bool
    steps: int
    step_s: float
    start_s: float

    @property
    def warm_up(self) -> int:
        """Steps that are not timed: they take batches that lay ready when the loop began."""
        return 2 + self.ready

    @property
    def timed(self) -> int:
        """Steps of a run that are timed."""
        return max(self.steps, min(_MOST_STEPS, int(_TIMED_S / max(self.step_s, 1e-6))))


@dataclass(frozen=True)
class Gain:
    """How many times as fast the recommended settings are, over pairs of runs.

    Args:
        ratio: Geometric mean.
        low: Lower end of the 99 % interval (Student's t on logarithms).
        high: Upper end.
    """

    ratio: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """The whole interval is above what is worth calling a difference."""
        return self.low > 1 + _MARGIN

    @property
    def is_slower(self) -> bool:
        """The whole interval is below it."""
        return self.high < 1 - _MARGIN


class RunError(Exception):
    """A run ended before it took two timed steps; holds its last words."""


def gain_of(pairs: Sequence[tuple[float, float]]) -> Gain:
    """Return the gain from seconds a step: present and recommended, a pair of runs each.

    Args:
        pairs: `NUM_PAIRS` of them; the interval is that of their number.
    """
    logs = [math.log(present / recommended) for present, recommended in pairs]
    middle = statistics.fmean(logs)
    half = _STUDENT_99 * statistics.stdev(logs) / math.sqrt(len(logs))
    return Gain(*(math.exp(value) for value in (middle, middle - half, middle + half)))


def prove(job: Job, *, say: Callable[[str], None]) -> Finding:
    """Run a job with both settings, and return the results.

    Args:
        job: With settings that differ.
        say: Called before each run.
    """
    try:
        batches, is_wrong = _compare(job, say)
        if is_wrong:
            return PROOF.finding(
                "fail",
                batches,
                matters="The training would not get the data that it gets now.",
                fix="Keep the present settings; the other findings tell what differs in workers.",
            )
        pairs = time_pairs(job, say=say)
    except RunError as error:
        return PROOF.finding("warn", f"not proved: {error}", fix="Launch it with these settings by hand.")
    return _finding(job, gain_of(pairs), pairs, batches)


def proved(launch: LaunchReport, *, steps: int, emit: Callable[[Event], None]) -> LaunchReport:
    """Prove what was recommended for each loader of a launch; returns the reports with their results.

    Args:
        launch: As examined.
        steps: Training steps that a run takes at least.
        emit: Takes the progress.
    """

    def with_proof(loader: LoaderReport) -> LoaderReport:
        start = time.monotonic()
        job, reason = _job(launch.command, loader, steps)
        runs = itertools.count()
        found = PROOF.finding("skip", reason)
        if job is not None:
            found = prove(job, say=lambda label: emit(Progress(label, next(runs), 2 + NUM_PAIRS)))
        spent_s = time.monotonic() - start
        found = replace(found, duration_s=spent_s, severity=PROOF.worst)
        report = replace(
            loader.report,
            checks=(*loader.report.checks, found),
            duration_s=loader.report.duration_s + spent_s,
        )
        return replace(loader, report=report)

    return replace(launch, loaders=tuple(with_proof(loader) for loader in launch.loaders))


def _job(command: Sequence[str], loader: LoaderReport, steps: int) -> tuple[Job | None, str]:
    """Return what is to be proved, or None and why nothing is."""
    report, facts = loader.report, loader.facts
    if report.recommendation is None:
        return None, "nothing was recommended"
    if report.verdict == "fail":
        return None, "what failed comes first"
    wanted = arguments_of(report.recommendation)
    if not _changes(facts, wanted):
        return None, "the loader has the recommended settings already"
    ready = max(int(has["num_workers"]) * int(has["prefetch_factor"] or 0) for has in (facts, wanted))
    return (
        Job(
            command=command,
            made_at=facts["made_at"],
            ready=ready,
            recommended=wanted,
            is_stream=facts["is_stream"],
            steps=steps,
            step_s=(loader.wait_ms + loader.step_ms) / 1e3,
            start_s=facts["start_s"],
        ),
        "",
    )


def _changes(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a loader would get other settings than it has."""
    names = ["num_workers", "pin_memory"]
    if wanted["num_workers"]:
        names += ["prefetch_factor", "persistent_workers"]
    method = wanted["multiprocessing_context"] or facts["start_method"]
    return method != facts["start_method"] or any(facts[name] != wanted[name] for name in names)


def _finding(job: Job, gain: Gain, pairs: Sequence[tuple[float, float]], batches: str) -> Finding:
    before, after = (1e3 * statistics.median(arm) for arm in zip(*pairs))
    times = f"{gain.ratio:.2f} times as fast (99 % interval {gain.low:.2f} to {gain.high:.2f})"
    runs = (
        f"{before:.1f} ms a step before, {after:.1f} ms after, {NUM_PAIRS} pairs of runs of {job.timed} steps"
    )
    data = {"ratio": gain.ratio, "interval": [gain.low, gain.high], "pairs": pairs, "steps": job.timed}
    if gain.is_faster:
        return PROOF.finding("pass", f"{times}: {runs}; {batches}", data={**data, "is_faster": True})
    if gain.is_slower:
        return PROOF.finding(
            "warn", f"{times}: {runs}; {batches}", fix="Keep the present settings.", data=data
        )
    return PROOF.finding("info", f"no difference can be shown, {times}: {runs}; {batches}", data=data)


def time_pairs(job: Job, *, say: Callable[[str], None]) -> list[tuple[float, float]]:
    """Return the seconds of a step with the present and the recommended settings, in pairs of fresh runs.

    Raises:
        RunError: a run ended too early.
    """
    pairs = []
    for number in range(NUM_PAIRS):
        say(f"time pair {number + 1} of {NUM_PAIRS}")
        if number % 2 == 0:
            present = _seconds(job, _PRESENT)
            pairs.append((present, _seconds(job, job.recommended)))
        else:
            recommended = _seconds(job, job.recommended)
            pairs.append((_seconds(job, _PRESENT), recommended))
    return pairs


def _compare(job: Job, say: Callable[[str], None]) -> tuple[str, bool]:
    """Compare batches and losses of both settings; return what was found, and whether it is a failure."""
    if job.is_stream:
        return "batches of a stream, which come in another order from workers, were not compared", False
    steps = max(job.steps, job.warm_up)
    say("compare batches and losses: present settings")
    one = _run(job, _PRESENT, steps=steps, compares=True)
    say("compare batches and losses: recommended settings")
    other = _run(job, job.recommended, steps=steps, compares=True)
    difference = differences(one, other)
    if not difference:
        return _alike(one, other), False
    say("compare batches and losses: present settings once more")
    again = differences(one, _run(job, _PRESENT, steps=steps, compares=True))
    if again:
        return f"{again} between two runs of the present settings, so they cannot be compared", False
    return f"{difference} under the recommended settings, and not between two runs of the present ones", True


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return what differs between two runs, or an empty text."""
    for step, (a, b) in enumerate(zip(one["digests"], other["digests"]), start=1):
        if a != b:
            return f"batches differ (step {step} first)"
    apart = _largest(one, other)
    return f"losses differ (by {apart:.1%} at most)" if apart > _LIKE else ""


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    number = min(len(one["digests"]), len(other["digests"]))
    if not one["losses"]:
        return f"{count_text(number, 'batch')} equal; no call of backward was seen"
    return f"{number} batches equal, losses within {_largest(one, other):.1e}"


def _largest(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest difference of the losses, relative to the larger one."""
    both = [(loss, other["losses"][step]) for step, loss in one["losses"].items() if step in other["losses"]]
    return max((_apart(a, b) for a, b in both), default=0.0)


def _apart(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return 0.0 if math.isnan(a) and math.isnan(b) else math.inf
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


def _seconds(job: Job, arguments: Mapping[str, Any]) -> float:
    """Return the seconds of a step in one run."""
    found = _run(job, arguments, steps=job.warm_up + job.timed, compares=False)["step_s"][job.warm_up :]
    if len(found) < 2:
        raise RunError(
            f"the training takes too few steps: {job.warm_up} to warm up, then {len(found)} to time"
        )
    return statistics.fmean(found)


def _run(job: Job, arguments: Mapping[str, Any], *, steps: int, compares: bool) -> Mapping[str, Any]:
    """Run the command for some steps; return what it noted.

    Raises:
        RunError: it ended, or hung, before it had taken any.
    """
    trial = {
        "made_at": job.made_at,
        "arguments": dict(arguments),
        "steps": steps,
        "compares": compares,
    }
    end = time.monotonic() + _PATIENCE * (1 + job.start_s + steps * job.step_s)
    with launched(job.command, trial=trial) as session:
        seen = session.next_loader(is_over=lambda: time.monotonic() > end)
        session.stop()
        if seen is None:
            lines = [line for line in session.output().splitlines() if line.strip()][-_SHOWN_LINES:]
            how = "hung" if not session.has_ended else f"ended with exit code {session.code}"
            which = "recommended" if arguments else "present"
            raise RunError(f"the run with the {which} settings {how}: {' / '.join(lines)}")
        found: Mapping[str, Any] = seen.facts["trial"]
        return found
