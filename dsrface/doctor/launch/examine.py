"""Examine the DataLoaders of a command: launch it, take its loaders as they come, end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor import examination
from dsrface.doctor.checks.items import ITEMS
from dsrface.doctor.launch.session import SeenLoader, Session, launched
from dsrface.doctor.report import Finding, Report
from dsrface.events import Event, Note, Progress
from dsrface.runtime.start_methods import default_start_method
from dsrface.runtime.user_code import error_in, innermost_in

_MUCH = 8  # batches that could have been loaded while one was waited for


@dataclass(frozen=True)
class LoaderReport:
    """What was found about one loader.

    Args:
        report: Of the examination.
        facts: Where it was made, its settings as launched, its step times.
    """

    report: Report
    facts: Mapping[str, Any]

    @property
    def wait_ms(self) -> float:
        """Milliseconds that a step waits for its batch."""
        return 1e3 * float(self.facts["steps"]["wait_s"])

    @property
    def step_ms(self) -> float:
        """Milliseconds that the training works on a batch."""
        return 1e3 * float(self.facts["steps"]["step_s"])


@dataclass(frozen=True)
class LaunchReport:
    """What became of a launch.

    Args:
        command: As it was given.
        loaders: Those that were examined.
        code: Its exit code, when it ended by itself.
        output: The end of what it printed.
    """

    command: tuple[str, ...]
    loaders: tuple[LoaderReport, ...]
    code: int | None
    output: str


def examine_launch(config: DoctorConfig, *, emit: Callable[[Event], None]) -> LaunchReport:
    """Launch `config.launch` and examine its first loaders in its own processes.

    Args:
        config: The command, and what to check.
        emit: Takes the progress.
    """
    found: list[LoaderReport] = []
    begin = time.monotonic()
    with launched(config.launch, loaders=config.loaders, steps=config.steps) as session:
        emit(Progress("wait for the first DataLoader", 0, config.loaders))
        while len(found) < config.loaders:
            seen = session.next_loader()
            if seen is None:
                break
            start_s = time.monotonic() - begin
            found.append(_examine(session, seen, config, emit, start_s))
            if len(found) < config.loaders or config.go_on:
                session.go_on()
        if session.was_cut_off and config.go_on:
            emit(Note("the command was ended, because its examination hung"))
        elif config.go_on:
            _follow(session, emit)
        elif found:
            session.stop()
        return LaunchReport(config.launch, tuple(found), session.code, session.output())


def _follow(session: Session, emit: Callable[[Event], None]) -> None:
    """Let a command go on to its end, and show what it prints."""

    def show() -> bool:
        for line in session.new_lines():
            emit(Note(line))
        return session.has_ended

    while not show():
        if session.next_loader(is_over=show) is not None:
            session.go_on()
    show()


def _examine(
    session: Session, seen: SeenLoader, config: DoctorConfig, emit: Callable[[Event], None], start_s: float
) -> LoaderReport:
    facts = {**seen.facts, "start_s": start_s}
    changes: dict[str, Any] = {"allow_cuda": True}
    if config.batch_size is None:
        changes["batch_size"] = facts["batch_size"]
    if config.start_method == "auto" and facts["start_method"] != default_start_method():
        changes["start_method"] = facts["start_method"]
    if config.step_ms is None and config.consumer_rate is None and facts["steps"]["num_steps"]:
        changes["step_ms"] = max(1e-3, 1e3 * facts["steps"]["step_s"])
    if config.world_size is None:
        changes["world_size"] = facts["world_size"]
    report = examination.examine(
        config.model_copy(update=changes),
        target={
            "label": seen.label,
            "is_live": True,
            "python": {"python": facts["python"], "source": facts["start_method_source"]},
        },
        emit=emit,
        run_stage=partial(session.stage, seen),
    )
    platform = {
        **report.platform,
        **{name: facts[name] for name in ("python", "torch", "start_method", "start_method_source")},
    }
    checks = report.checks
    if not any(check.status == "fail" for check in checks):
        if facts["raised"]:
            checks = _with(checks, _unexplained(facts["raised"]))
        elif _should_have_come(report, facts):
            checks = _with(checks, _hung(facts))
    report = replace(report, platform=platform, checks=checks, launched_workers=facts["num_workers"])
    return LoaderReport(report, facts)


def _unexplained(raised: str) -> Finding:
    """Return what to say of an error that has stopped a loop, where the examination does not explain it."""
    return ITEMS.finding(
        "fail",
        f"the loop stopped with {error_in(raised)}, which none of the items that the doctor loaded raise",
        where=innermost_in(raised),
        matters="A sample that is met now and then raises it, or the order in which workers load.",
        fix="Mend what the line says of that sample, or leave it out; a longer --budget loads more of them.",
        data={"traceback": raised},
    )


def _should_have_come(report: Report, facts: Mapping[str, Any]) -> bool:
    """Return whether a batch was waited for that takes far less time by all that was measured."""
    if not facts["waited_s"] or report.recommendation is None:
        return False
    items = float(report.recommendation["predicted_items_per_s"]) * facts["waited_s"]
    return bool(items > _MUCH * (facts["batch_size"] or 1))


def _hung(facts: Mapping[str, Any]) -> Finding:
    return ITEMS.finding(
        "fail",
        f"no batch came within {facts['waited_s']:.0f} s from "
        f"{'the loader' if facts['num_workers'] else 'the process'}'s own "
        f"{'workers; those' if facts['num_workers'] else 'loop; workers'} of the doctor deliver",
        matters="They wait for something that was so only then: a lock, a full pipe, another process.",
        fix="Launch it alone, and when it hangs ask: dsrface doctor --attach PID.",
    )


def _with(checks: tuple[Finding, ...], finding: Finding) -> tuple[Finding, ...]:
    """Return the findings with one in the place of what its check said before."""
    if any(check.id == finding.id for check in checks):
        return tuple(finding if check.id == finding.id else check for check in checks)
    return (*checks, finding)
