"""Run the stages of an examination within its budget; the checks that they make become findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.examination.budget import Budget
from dsrface.doctor.examination.endings import UNSAID, with_last_words
from dsrface.doctor.examination.findings import Findings
from dsrface.doctor.examination.steps import Steps
from dsrface.doctor.process.probe import Limits, Outcome, RunStage
from dsrface.doctor.report import Finding
from dsrface.errors import UsageError

_LEAST_STAGE_S = 1.5
_SAFE_SHARE = 0.8


@dataclass(frozen=True)
class Stages:
    """Runs one stage after the other where the target is.

    Args:
        config: Of the examination.
        target: From `request.target_request`; None for the machine alone.
        run_stage: Runs a stage in a process of its own, or in one that runs already.
        budget: Of the examination.
        steps: Hear of the progress.
        available_bytes: Memory that is free.
    """

    config: DoctorConfig
    target: dict[str, Any] | None
    run_stage: RunStage
    budget: Budget
    steps: Steps
    available_bytes: int

    @property
    def is_out_of_time(self) -> bool:
        """Whether the budget leaves no time for another stage."""
        return self.budget.left_s < _LEAST_STAGE_S

    def run(
        self,
        request: dict[str, Any],
        findings: Findings,
        *,
        silence_s: dict[str, float],
        evidence: str | None = None,
    ) -> Outcome:
        """Run one stage.

        Args:
            request: Which stage, and what it should do; the target is added.
            findings: Take the checks as they are made.
            silence_s: Longest time without a sign of life, by step.
            evidence: Folder that workers write to.

        Raises:
            UsageError: the target cannot be called as the user asked.
        """
        if self.is_out_of_time:
            return Outcome(ending="no time")
        if self.target is not None:
            request = {**request, "target": self.target}
        held: list[Finding] = []

        def on_event(event: dict[str, Any]) -> None:
            self.steps.hear(event)
            if event["event"] == "check":
                check = Finding.from_dict(event)
                if check.data.get("usage"):
                    raise UsageError(
                        check.data["message"], id="bad-target", where=check.where, hint=check.fix
                    )
                if check.data.get("explained_as") in UNSAID:
                    held.append(check)  # the log has the cause, and is there in the end
                else:
                    findings.add(check)

        outcome = self.run_stage(
            request,
            Limits(
                self.budget.left_s,
                silence_s,
                evidence,
                memory_bytes=int(_SAFE_SHARE * self.available_bytes),
                allow_cuda=self.config.allow_cuda,
                item_s=request.get("item_s", 0.0),
            ),
            on_event=on_event,
        )
        findings.add(*(with_last_words(check, outcome.log) for check in held))
        return outcome
