"""The examination from start to end: which checks, in which process, and the report.

This process never imports torch and runs no foreign code; each stage has a guarded process of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dsrface import __version__
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks import machine
from dsrface.doctor.checks.endings import proof_failed, survey_failed
from dsrface.doctor.facts import SurveyFacts
from dsrface.doctor.lessons import lesson
from dsrface.doctor.process.probe import Outcome, run_stage
from dsrface.doctor.report import CHECK_IDS, Check, Report, in_order
from dsrface.doctor.request import wanted_checks
from dsrface.doctor.sizing.limits import open_files_limit
from dsrface.doctor.sizing.loader_model import LoaderFacts, Window
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.recommend import candidates, launch_check, recommend
from dsrface.errors import UsageError
from dsrface.events import Event, Progress
from dsrface.runtime.cpu import effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import available_start_methods, default_start_method

_PLATFORM_S = 60.0
_SURVEY_S = 150.0
_MEASURE_S = 2.0
_PROOF_S = 20.0
_HANG_S = 8.0
# Longest time without a word while items are loaded; building a data set may take the whole limit.
_SILENCE_S = {"load items": 20.0, "measure items": 40.0}
_LEAST_SILENCE_S = 5.0
_LEAST_SWEEP_S = 4.0
_LEAST_WORKER_BYTES = 32 << 20
_SAFE_SHARE = 0.8
_STEPS = 4
_NEED_TORCH = {"env.torch", "env.torchvision", "env.threads", "env.decoder", "mp.cuda_poison"}


def examine(
    config: DoctorConfig, *, target: dict[str, Any] | None = None, emit: Callable[[Event], None]
) -> Report:
    """Examine the machine and, when there is one, the data set.

    Args:
        config: What to check, and how long it may take.
        target: From `request.target_request`; None for the machine alone.
        emit: Takes the progress.

    Raises:
        UsageError: a check or a target is named that does not exist.
    """
    return _Examination(config, target, emit).run()


class _Examination:
    def __init__(
        self, config: DoctorConfig, target: dict[str, Any] | None, emit: Callable[[Event], None]
    ) -> None:
        self.config = config
        self.emit = emit
        self.wanted = wanted_checks(config)
        self.target = target
        self.method = machine.start_method(config.start_method)[0]
        self.methods = machine.methods_to_prove(config.start_method)
        self.cores = effective_cores(world_size=config.world_size)
        self.memory = memory_limit()
        self.checks: list[Check] = []
        self.import_s = 2.0
        self.torch_version = ""
        self.has_cuda_build = False
        self.start = time.monotonic()

    def run(self) -> Report:
        self.checks += machine.platform_checks(self.config.start_method, world_size=self.config.world_size)
        self._say("look at the installation", 0)
        facts = self._survey()
        recommendation = None
        if facts is not None and (cost := facts.cost) is not None and not facts.batch_fails:
            if self.config.probe:
                facts = self._prove(facts, cost)
            self.checks += machine.limit_checks(facts, self.num_workers, world_size=self.cores.world_size)
            recommendation = self._recommend(facts, cost)
        self._skipped()
        platform = machine.facts(self.config.start_method, self.cores, self.memory)
        return Report(
            version=__version__,
            target=self.target["label"] if self.target is not None else "",
            platform={**platform, "torch": self.torch_version},
            checks=in_order(check for check in self.checks if check.id in self.wanted),
            recommendation=recommendation,
            lesson=self._lesson(facts),
            duration_s=time.monotonic() - self.start,
            is_strict=self.config.strict,
        )

    @property
    def num_workers(self) -> int:
        """Workers whose needs are held against the machine's limits: those asked for, else one a core."""
        return self.config.workers if self.config.workers is not None else self.cores.effective

    def _survey(self) -> SurveyFacts | None:
        if self.target is None and not self.wanted & _NEED_TORCH:
            return None
        request: dict[str, Any] = {
            "stage": "survey",
            "method": self.method,
            "methods": self.methods,
            "num_workers": self.num_workers,
            "memory_bytes": self.memory.available_bytes,
            "batch_size": self.config.batch_size,
            "allow_cuda": self.config.allow_cuda,
            "measure_s": min(_MEASURE_S, self.config.budget_s / 4),
        }
        if self.target is not None:
            request["target"] = self.target
        outcome = self._stage(request, _SURVEY_S if self.target is not None else _PLATFORM_S)
        imported, torch = outcome.last("imported"), outcome.last("torch")
        if imported is not None:
            self.import_s = imported["import_s"]
        if torch is not None:
            self.torch_version, self.has_cuda_build = torch["version"], bool(torch["cuda"])
        if outcome.ending != "done":
            self.checks += survey_failed(outcome)
        found = outcome.last("facts")
        if found is None:
            return None
        facts = SurveyFacts.from_dict(found)
        self.checks.append(machine.storage_check(facts.data_paths, facts.cost))
        return facts

    def _prove(self, facts: SurveyFacts, cost: ItemCost) -> SurveyFacts:
        """Start real workers by each method; returns the facts with what they added."""
        number = self.num_workers if self.config.workers is not None else max(2, min(self.num_workers, 4))
        if number == 0:
            return facts
        for count, method in enumerate(self.methods):
            id = f"worker.{method}"
            if not self.wanted & {id, "worker.consistency", "ds.iterable_shard", "perf.recommend"}:
                continue
            self._say(f"start workers by {method}", 1 + count / len(self.methods))
            if method not in available_start_methods():
                self.checks.append(Check(id, "skip", f"{method} does not exist here"))
            else:
                facts = self._prove_method(method, number, facts, cost)
        return facts

    def _prove_method(self, method: str, number: int, facts: SurveyFacts, cost: ItemCost) -> SurveyFacts:
        request = {
            "stage": "prove",
            "target": self.target,
            "method": method,
            "num_workers": number,
            "item_s": cost.cpu_s + cost.blocked_s,
        }
        # The process itself imports torch and builds; so does every worker that is not forked.
        starts = 3 if method == "fork" else 10
        limit = _PROOF_S + starts * self.import_s + 2 * facts.build_s
        if facts.batch_hangs:
            limit = _HANG_S + (4 * self.import_s if method != "fork" else self.import_s)
        outcome = self._stage(request, limit)
        crowded = machine.worker_threads_check(outcome.worker_notes, self.cores.affinity)
        if crowded is not None:
            self.checks.append(crowded)
        if outcome.ending != "done":
            self.checks += proof_failed(outcome, method, number, limit)
        told = outcome.last("workers")
        if told is None or method != self.method:
            return facts
        worker_bytes = max(told["worker_bytes"], _LEAST_WORKER_BYTES)
        return replace(facts, startup_s=told["startup_s"], worker_bytes=worker_bytes)

    def _recommend(self, found: SurveyFacts, cost: ItemCost) -> dict[str, Any]:
        facts = self._loader_facts(found, cost)
        recommendation = recommend(facts)
        if self.config.workers is not None:
            self.checks.append(launch_check(facts, self.config.workers))
        elif self._can_time(facts):
            settings = candidates(facts)
            if len(settings) > 1:
                self._say("time the settings", 2)
                windows = self._sweep(settings, facts, found.build_s)
                recommendation = recommend(facts, windows)
                if not windows:
                    reason = f"{recommendation.reason}; not timed within --budget {self.config.budget_s:g}"
                    recommendation = replace(recommendation, reason=reason)
        context = self._context(found, must_be_zero=bool(facts.must_be_zero))
        recommendation = replace(recommendation, multiprocessing_context=context)
        summary = (
            f"{recommendation.flags()} (confidence {recommendation.confidence}): {recommendation.reason}"
        )
        self.checks.append(Check("perf.recommend", "info", summary))
        return recommendation.to_dict() | {
            "per_item_ms": {
                "cpu": round(1e3 * cost.cpu_s, 3),
                "wait_core": round(1e3 * cost.wait_s, 3),
                "blocked": round(1e3 * cost.blocked_s, 3),
            }
        }

    def _can_time(self, facts: LoaderFacts) -> bool:
        """Items that raise would end the timing; what cannot have workers needs none."""
        is_asked = self.config.probe and "perf.recommend" in self.wanted
        return is_asked and not facts.must_be_zero and self._failed("ds.items") is None

    def _sweep(self, settings: list[int], facts: LoaderFacts, build_s: float) -> list[Window]:
        spent = time.monotonic() - self.start
        budget_s = self.config.budget_s - spent - self.import_s - build_s
        if budget_s < _LEAST_SWEEP_S:
            return []  # timings in a hurry mislead; the model stands without them
        request = {
            "stage": "sweep",
            "target": self.target,
            "method": self.method,
            "batch_size": facts.batch_size,
            "candidates": settings,
            "until": self.start + self.config.budget_s,
            "consumer_rate": facts.consumer_rate,
        }
        outcome = self._stage(request, budget_s + _PROOF_S + 10 * self.import_s)
        rates: dict[int, list[float]] = {}
        for event in outcome.events:
            if event["event"] == "window":
                rates.setdefault(event["num_workers"], []).append(event["rate"])
        return [Window(number, tuple(values)) for number, values in sorted(rates.items())]

    def _loader_facts(self, found: SurveyFacts, cost: ItemCost) -> LoaderFacts:
        rate = self.config.consumer_rate
        if self.config.step_ms is not None:
            rate = found.batch_size * 1e3 / self.config.step_ms
        return LoaderFacts(
            cost=cost,
            batch_size=found.batch_size,
            batch_bytes=found.batch_bytes,
            tensors_per_batch=found.tensors_per_batch,
            num_items=found.num_items,
            method=self.method,
            cores=self.cores,
            available_bytes=self.memory.available_bytes // self.cores.world_size,
            shm_free=shm_free_bytes(),
            open_files=open_files_limit(),
            consumer_rate=rate,
            startup_s=found.startup_s,
            worker_bytes=found.worker_bytes,
            has_gpu=self._sees_gpu(),
            must_be_zero=self._obstacle(found),
            extra_caps={"unsharded iterable": 1} if self._failed("ds.iterable_shard") else {},
        )

    def _sees_gpu(self) -> bool:
        """Whether the launch will have CUDA; asked of the machine, for it is hidden from the processes."""
        is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        return self.has_cuda_build and machine.has_gpu() and not is_hidden

    def _obstacle(self, found: SurveyFacts) -> str:
        """Return why workers cannot be used at all, or an empty text."""
        network = found.network
        if network is not None and network.is_on_gpu:
            return f"{network.path} lies on {network.device}, where workers cannot use it"
        blocked = found.blocks.get(self.method)
        if blocked:
            return f"{blocked[0]} cannot be sent to {self.method} workers"
        for id in (f"worker.{self.method}", "worker.consistency", "ds.output"):
            check = self._failed(id)
            if check is not None:
                return f"{id}: {check.summary}"
        return ""

    def _context(self, found: SurveyFacts, *, must_be_zero: bool) -> str | None:
        """Return the start method to pass to the loader when the platform's own is not the one to use."""
        if self.method != default_start_method():
            return self.method
        is_threaded = any(check.id == "mp.threads" and check.status == "warn" for check in self.checks)
        if self.method == "fork" and is_threaded and not found.blocks["forkserver"] and not must_be_zero:
            return "forkserver"
        return None

    def _stage(self, request: dict[str, Any], limit_s: float) -> Outcome:
        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "check":
                check = Check.from_dict(event)
                if check.data.get("usage"):
                    raise UsageError(
                        check.data["message"], id="bad-target", where=check.where, hint=check.fix
                    )
                self.checks.append(self._told_once(check))

        patience_s = max(_LEAST_SILENCE_S, self.config.budget_s)
        return run_stage(
            request,
            timeout_s=limit_s,
            silence_s={step: min(longest, patience_s) for step, longest in _SILENCE_S.items()},
            memory_limit_bytes=int(_SAFE_SHARE * self.memory.available_bytes),
            allow_cuda=self.config.allow_cuda,
            on_event=on_event,
        )

    def _told_once(self, check: Check) -> Check:
        """A worker that only met an item which raises anywhere adds nothing to ds.items."""
        if check.data.get("explained_as") == "worker-exception" and self._failed("ds.items"):
            return Check(check.id, "skip", "a worker met an item that raises: see ds.items")
        return check

    def _failed(self, id: str) -> Check | None:
        return next((check for check in self.checks if check.id == id and check.status == "fail"), None)

    def _skipped(self) -> None:
        """Name the checks that were asked for and not made."""
        made = {check.id for check in self.checks}
        reason = "no data set given" if self.target is None else "not reached"
        proofs = {"worker.fork", "worker.spawn", "worker.forkserver"}
        for id in CHECK_IDS:
            if id in made or (id in proofs and id.partition(".")[2] not in self.methods):
                continue
            if id in ("ds.iterable_shard", "perf.launch"):
                continue
            if self.target is None and id.startswith(("ds.", "worker.", "perf.", "mp.")):
                continue
            why = "--no-probe" if not self.config.probe and id.startswith(("worker.", "perf.")) else reason
            self.checks.append(Check(id, "skip", why))

    def _lesson(self, facts: SurveyFacts | None) -> tuple[str, ...]:
        if facts is not None and (network := facts.network) is not None:
            return lesson(network.path, network.device, is_on_gpu=network.is_on_gpu)
        if any(check.id == "ds.build" and check.data.get("needs_cuda") for check in self.checks):
            return lesson("the network", "cuda:0", is_on_gpu=True)
        return ()

    def _say(self, label: str, done: float) -> None:
        self.emit(Progress(label, int(done), _STEPS))
