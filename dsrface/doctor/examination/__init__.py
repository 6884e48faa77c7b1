"""The examination from start to end: which checks, in which process, and the report.

This process never imports torch and runs no foreign code; each stage has a guarded process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dsrface import __version__
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks import machine
from dsrface.doctor.checks.installation import worker_threads_check
from dsrface.doctor.checks.performance import RECOMMEND
from dsrface.doctor.checks.registry import all_checks
from dsrface.doctor.checks.registry import run_stage as make
from dsrface.doctor.checks.resources import Launch
from dsrface.doctor.examination.budget import Budget
from dsrface.doctor.examination.endings import proof_failed, survey_failed
from dsrface.doctor.examination.findings import Findings
from dsrface.doctor.examination.number import Number
from dsrface.doctor.examination.request import wanted_checks
from dsrface.doctor.examination.stages import Stages
from dsrface.doctor.examination.steps import Steps
from dsrface.doctor.examination.timing import Launching, Timing
from dsrface.doctor.process import probe
from dsrface.doctor.process.probe import RunStage
from dsrface.doctor.report import OUT_OF_BUDGET, Finding, Report, in_order
from dsrface.doctor.report.lessons import lesson
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.recommend import overlap_cap
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.events import CheckDone, Event
from dsrface.runtime.resources import effective_cores, memory_limit
from dsrface.runtime.start_methods import available_start_methods

# Longest time without a sign of life, by step; building a data set may take as long as there is.
_LOAD_SILENCE_S = 12.0
_WORKER_SILENCE_S = 5.0
_PATIENCE = 4.0  # times as long as an item takes
_LEAST_WORKER_BYTES = 32 << 20
_NEED_TORCH = {"env.torch", "env.torchvision", "env.threads", "env.decoder", "mp.cuda_poison"}
_ALTERNATIVES = ("forkserver", "spawn")


def examine(
    config: DoctorConfig,
    *,
    target: dict[str, Any] | None = None,
    emit: Callable[[Event], None],
    run_stage: RunStage = probe.run_stage,
    spent_s: float = 0.0,
) -> Report:
    """Examine the machine and, when there is one, the data set.

    Args:
        config: What to check, and how long it may take.
        target: From `request.target_request`; None for the machine alone.
        emit: Takes the progress, and each check as soon as it is made.
        run_stage: Runs a stage where the target is: in a process of its own, or in one that runs already.
        spent_s: Seconds of the budget that were spent before.

    Raises:
        UsageError: a check or a target is named that does not exist.
    """
    return _Examination(config, target, emit, run_stage, Budget(config.budget_s, spent_s=spent_s)).run()


class _Examination:
    def __init__(
        self,
        config: DoctorConfig,
        target: dict[str, Any] | None,
        emit: Callable[[Event], None],
        run_stage: RunStage,
        budget: Budget,
    ) -> None:
        self.config = config
        self.emit = emit
        self.wanted = wanted_checks(config)
        self.target = target
        self.launching = Launching(machine.start_method(config.start_method)[0])
        self.methods = machine.methods_to_prove(config.start_method)
        self.cores = effective_cores(world_size=config.world_size)
        self.memory = memory_limit()
        self.findings = Findings(self._tell)
        self.budget = budget
        self.steps = Steps(emit, budget, self._planned())
        available = self.memory.available_bytes
        self.stages = Stages(config, target, run_stage, budget, self.steps, available)
        self.torch_version = ""

    def run(self) -> Report:
        python = (self.target or {}).get("python", {})
        here = machine.Machine(self.config.start_method, self.config.world_size, **python)
        self.findings.add(*make("machine", here))
        self.steps.begin("survey", "look at the installation")
        facts = self._survey()
        recommendation = None
        if facts is not None and (cost := facts.cost) is not None and not facts.batch_fails:
            if self.config.probe:
                facts = self._prove(facts, cost)
            self.findings.add(*make("limits", Launch(facts, self.num_workers, self.cores.world_size)))
            recommendation = self._recommend(facts, cost)
        self._skipped()
        platform = machine.facts(self.config.start_method, self.cores, self.memory)
        return Report(
            version=__version__,
            target=self.target["label"] if self.target is not None else "",
            platform={**platform, "torch": self.torch_version},
            checks=in_order(self._wanted_findings(), all_checks()),
            recommendation=recommendation,
            lesson=self._lesson(facts),
            duration_s=self.budget.spent_s,
            is_strict=self.config.strict,
        )

    def _recommend(self, facts: SurveyFacts, cost: ItemCost) -> dict[str, Any] | None:
        """Return the settings; None when a bug of dsrface is in their way, which is a finding of its own."""
        number = Number(self.config, self.findings, self.launching, self.cores, self.memory)
        try:
            return number.recommend(facts, cost, self._timing())
        except Exception as error:  # noqa: BLE001 - what was found before is not lost with it
            self.findings.add(RECOMMEND.broken(error))
            return None

    def _timing(self) -> Timing | None:
        if not self.config.probe or "perf.recommend" not in self.wanted:
            return None
        return Timing(self.stages, self.steps, self.budget, self.findings, self.launching)

    def _planned(self) -> list[str]:
        """Return the steps that this examination should have."""
        if self.target is None:
            return []
        number = self.config.workers
        proofs = ["prove"] * len(self.methods) if self.config.probe and number != 0 else []
        return [*proofs, "sweep"] if self.config.probe and number is None else proofs

    def _wanted_findings(self) -> Iterator[Finding]:
        for found in self.findings:
            if found.id in self.wanted:
                yield replace(found, severity=all_checks()[found.id].worst)

    @property
    def num_workers(self) -> int:
        """Workers whose needs are held against the machine's limits: those asked for, else one a core."""
        return self.config.workers if self.config.workers is not None else self.cores.effective

    def _survey(self) -> SurveyFacts | None:
        if self.target is None and not self.wanted & _NEED_TORCH:
            return None
        request: dict[str, Any] = {
            "stage": "survey",
            "method": self.launching.method,
            "methods": self.methods,
            "num_workers": self.num_workers,
            "memory_bytes": self.memory.available_bytes,
            "batch_size": self.config.batch_size,
            "allow_cuda": self.config.allow_cuda,
            "load_s": self.budget.load_s,
            "measure_s": self.budget.measure_s,
        }
        silence = max(_WORKER_SILENCE_S, min(_LOAD_SILENCE_S, 0.5 * self.budget.seconds))
        steps = ("load items", "load items again", "measure items", "see which workers get items")
        outcome = self.stages.run(request, self.findings, silence_s=dict.fromkeys(steps, silence))
        imported, torch = outcome.last("imported"), outcome.last("torch")
        if imported is not None:
            self.launching.import_s = imported["import_s"]
        if torch is not None:
            self.torch_version, self.launching.has_cuda_build = torch["version"], bool(torch["cuda"])
        if outcome.ending != "done":
            self.findings.add(*survey_failed(outcome))
        found = outcome.last("facts")
        if found is None:
            return None
        facts = SurveyFacts.from_dict(found)
        self.findings.add(*make("cost", facts))
        return facts

    def _prove(self, facts: SurveyFacts, cost: ItemCost) -> SurveyFacts:
        """Start real workers by each method; returns the facts with what they added."""
        number = self.num_workers if self.config.workers is not None else max(2, min(self.num_workers, 4))
        if number == 0:
            return facts
        for method in self.methods:
            if self._wants(method):
                self.steps.begin("prove", f"start workers by {method}")
                facts = self._prove_method(method, number, facts, cost)
        if self.findings.against(self.launching.method) is None:
            self.launching.is_suspect = bool(self.findings.suspicions())
            self.findings.settle(self.launching.method)
            return facts
        for method in _ALTERNATIVES:
            is_open = method in available_start_methods() and method not in self.methods
            if is_open and not facts.blocks[method] and self.findings.against(method) is None:
                self.steps.begin("prove", f"start workers by {method}")
                known, self.findings = self.findings, self.findings.trial()
                proved = self._prove_method(method, number, facts, cost)
                trial, self.findings = self.findings, known
                made = trial.get(f"worker.{method}")
                if made is not None and made.status == "pass" and trial.against(method) is None:
                    self.findings.accept(trial)  # else forgotten: this method was not asked for
                    self.launching.method = method
                    return proved
        return facts

    def _wants(self, method: str) -> bool:
        id = f"worker.{method}"
        if not self.wanted & {id, "worker.consistency", "ds.iterable_shard", "perf.recommend"}:
            return False
        if method not in available_start_methods():
            self.findings.add(Finding(id, "skip", f"{method} does not exist here"))
            return False
        finalizer = self.findings.get("ds.finalizer")
        if finalizer is not None and method in finalizer.data.get("blocks", ()):
            self.findings.add(Finding(id, "skip", "not started: see ds.finalizer"))
            return False
        return True

    def _prove_method(self, method: str, number: int, facts: SurveyFacts, cost: ItemCost) -> SurveyFacts:
        item_s = cost.own_s
        with tempfile.TemporaryDirectory(prefix="dsrface-doctor-") as folder:
            request = {
                "stage": "prove",
                "method": method,
                "num_workers": number,
                "item_s": item_s,
                "load_s": self.budget.proof_s,
                "folder": folder,
                "survey": facts.for_proof(),
            }
            patience = max(_WORKER_SILENCE_S, _PATIENCE * item_s + 2)
            steps = (
                f"start {number} workers by {method}",
                f"read batches from {method} workers",
                "compare with num_workers=0",
                f"change the epoch between two passes of {method} workers",
            )
            outcome = self.stages.run(
                request, self.findings, silence_s=dict.fromkeys(steps, patience), evidence=folder
            )
            if outcome.ending != "done":
                self.findings.add(*proof_failed(outcome, method, number, folder))
        notes, rate = outcome.last("notes"), outcome.last("rate")
        if notes is not None:
            crowded = worker_threads_check(notes["notes"], self.cores.affinity, cost)
            if crowded is not None:
                self.findings.add(crowded)
        if rate is not None and method in (self.launching.method, *_ALTERNATIVES):
            self.launching.overlap = overlap_cap(cost, rate)
        started = outcome.last("workers")
        if started is None:
            return facts
        worker_bytes = max(started["worker_bytes"], _LEAST_WORKER_BYTES)
        return replace(facts, startup_s=started["startup_s"], worker_bytes=worker_bytes)

    def _skipped(self) -> None:
        """Name the checks that were asked for and not made."""
        made = {check.id for check in self.findings}
        reason, data = "no data set given" if self.target is None else "not reached", {}
        if self.target is not None and self.stages.is_out_of_time:
            reason, data = f"left out: --budget {self.config.budget_s:g} was spent", OUT_OF_BUDGET
        proofs = {"worker.fork", "worker.spawn", "worker.forkserver"}
        for id in all_checks():
            if id in made or (id in proofs and id.partition(".")[2] not in self.methods):
                continue
            if id in ("ds.iterable_shard", "ds.epoch", "perf.launch", "perf.proof"):
                continue
            if self.target is None and id.startswith(("ds.", "worker.", "perf.", "mp.")):
                continue
            if not self.config.probe and id.startswith(("worker.", "perf.")):
                self.findings.add(Finding(id, "skip", "--no-probe"))
            else:
                self.findings.add(Finding(id, "skip", reason, data=data))

    def _lesson(self, facts: SurveyFacts | None) -> tuple[str, ...]:
        if facts is not None and (network := facts.network) is not None:
            return lesson(network.path, network.device, is_on_gpu=network.is_on_gpu)
        if any(check.id == "ds.build" and check.data.get("needs_cuda") for check in self.findings):
            return lesson("the network", "cuda:0", is_on_gpu=True)
        return ()

    def _tell(self, check: Finding) -> None:
        if check.id in self.wanted:
            values = (check.id, check.status, check.summary, check.where, check.matters, check.fix)
            self.emit(CheckDone(*values))
