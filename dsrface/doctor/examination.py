"""The examination from start to end: which checks, in which process, and the report.

This process never imports torch and runs no foreign code; each stage has a guarded process of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dsrface import __version__
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor import machine
from dsrface.doctor.endings import death_place, hang_fix, hang_place, hang_reason, judged, memory_failure
from dsrface.doctor.lessons import lesson
from dsrface.doctor.loader_model import LoaderFacts, Window
from dsrface.doctor.measure import ItemCost
from dsrface.doctor.probe import Outcome, run_stage
from dsrface.doctor.recommend import candidates, open_files_limit, recommend, with_context
from dsrface.doctor.report import CHECK_IDS, Check, Report, in_order
from dsrface.engine.events import Event, Progress
from dsrface.errors import UsageError
from dsrface.runtime.cpu import effective_cores, memory_limit, shm_free_bytes
from dsrface.runtime.start_methods import available_start_methods, default_start_method

_PLATFORM_S = 60.0
_SURVEY_S = 150.0
_MEASURE_S = 2.0
_PROOF_S = 20.0
_HANG_S = 8.0
# Longest time without a word while items are loaded; building a data set may take the whole limit.
_SILENCE_S = {"load items": 20.0, "measure items": 40.0}
_LEAST_SWEEP_S = 4.0
_SAFE_SHARE = 0.8
_STEPS = 4


def examine(config: DoctorConfig, *, emit: Callable[[Event], None]) -> Report:
    """Examine the machine and, when there is one, the data set.

    Raises:
        UsageError: a check or a target is named that does not exist.
    """
    return _Examination(config, emit).run()


def check_ids(config: DoctorConfig) -> set[str]:
    """Return the checks that --only and --skip leave.

    Raises:
        UsageError: an id or prefix that fits no check.
    """
    for name in (*config.only, *config.skip):
        if not any(_fits(id, name) for id in CHECK_IDS):
            import difflib

            near = difflib.get_close_matches(name, CHECK_IDS, n=3, cutoff=0.4)
            raise UsageError(
                f"There is no check {name!r}.",
                id="unknown-check",
                hint=f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(CHECK_IDS)}.",
            )
    wanted = {id for id in CHECK_IDS if not config.only or any(_fits(id, name) for name in config.only)}
    return {id for id in wanted if not any(_fits(id, name) for name in config.skip)}


class _Examination:
    def __init__(self, config: DoctorConfig, emit: Callable[[Event], None]) -> None:
        self.config = config
        self.emit = emit
        self.wanted = check_ids(config)
        self.target = _target(config)
        self.method = machine.start_method(config.start_method)[0]
        self.methods = machine.methods_to_prove(config.start_method)
        self.cores = effective_cores(world_size=config.world_size)
        self.memory = memory_limit()
        self.checks: list[Check] = []
        self.facts: dict[str, Any] = {}
        self.import_s = 2.0
        self.torch_version = ""
        self.start = time.monotonic()

    def run(self) -> Report:
        start = self.start
        self.checks += machine.platform_checks(self.config.start_method, world_size=self.config.world_size)
        self._say("look at the installation", 0)
        self._survey()
        recommendation = None
        if self.facts.get("cost"):
            self._limits()
            if self.config.probe:
                self._prove()
            recommendation = self._recommend()
        self._skipped()
        facts = machine.facts(self.config.start_method, self.cores, self.memory)
        return Report(
            version=__version__,
            target=self.config.dataset or (str(self.config.data) if self.config.data else ""),
            platform={**facts, "torch": self.torch_version},
            checks=in_order(check for check in self.checks if check.id in self.wanted),
            recommendation=recommendation,
            lesson=self._lesson(),
            duration_s=time.monotonic() - start,
            is_strict=self.config.strict,
        )

    @property
    def num_workers(self) -> int:
        """Workers of the launch that limits and proof reckon with."""
        return self.config.workers if self.config.workers is not None else self.cores.effective

    def _survey(self) -> None:
        needs_child = self.target is not None or self.wanted & {
            "env.torch",
            "env.torchvision",
            "env.threads",
            "env.decoder",
            "mp.cuda_poison",
        }
        if not needs_child:
            return
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
        imported = outcome.last("imported")
        if imported is not None:
            self.import_s = imported["import_s"]
        self.torch_version = (outcome.last("torch") or {}).get("version", "")
        self.facts = outcome.last("facts") or {}
        if outcome.ending != "done":
            self._survey_ended_early(outcome)
        if self.facts:
            self.checks.append(machine.storage_check(self.facts["data_paths"], self.facts["cost"]))

    def _survey_ended_early(self, outcome: Outcome) -> None:
        """Say which step of the survey the process did not survive."""
        place = {
            "import torch": (
                "env.torch",
                "torch cannot be imported",
                "Reinstall it: pip install --force-reinstall torch",
            ),
            "build the data set": (
                "ds.build",
                "the data set could not be built",
                "Call it in a Python prompt.",
            ),
            "load items": ("ds.items", "loading items", "Try some items in a Python prompt."),
            "measure items": ("ds.items", "loading items", "Try some items in a Python prompt."),
        }
        default = ("ds.unpicklable", "looking at the members", "")
        id, what, fix = place.get(outcome.stage, default)
        status = "error" if id == "ds.unpicklable" else "fail"
        item = outcome.last("item")
        if item is not None and outcome.stage == "load items":
            what, fix = f"loading item {item['index']}", f"Try dataset[{item['index']}] in a Python prompt."
        if outcome.ending == "memory":
            self.checks.append(memory_failure(outcome))
        self.checks.append(
            Check(
                id,
                status,
                f"{what}: the process {outcome.death()}",
                where=death_place(outcome),
                matters="Where it stood is in the report (--json: data.stacks)." if outcome.stacks else "",
                fix=fix,
                data={"stacks": outcome.stacks, "log": outcome.log[-4000:], "ending": outcome.ending},
                duration_s=outcome.duration_s,
            )
        )

    def _limits(self) -> None:
        self.checks += machine.limit_checks(self.facts, self.num_workers, world_size=self.cores.world_size)

    def _prove(self) -> None:
        number = self.num_workers if self.config.workers is not None else max(2, min(self.num_workers, 4))
        if number == 0:
            return
        for count, method in enumerate(self.methods):
            if not self.wanted & {
                f"worker.{method}",
                "worker.consistency",
                "ds.iterable_shard",
                "perf.recommend",
            }:
                continue
            self._say(f"start workers by {method}", 1 + count / len(self.methods))
            if self.facts.get("batch_fails"):
                self.checks.append(
                    Check(f"worker.{method}", "skip", "the items do not collate: see ds.output")
                )
                continue
            if method not in available_start_methods():
                self.checks.append(Check(f"worker.{method}", "skip", f"{method} does not exist here"))
                continue
            self._prove_method(method, number)

    def _prove_method(self, method: str, number: int) -> None:
        request = {
            "stage": "prove",
            "target": self.target,
            "method": method,
            "num_workers": number,
            "item_s": self.facts["cost"]["cpu_s"] + self.facts["cost"]["blocked_s"],
        }
        # The process itself imports torch and builds; so does every worker that is not forked.
        starts = 3 if method == "fork" else 10
        limit = _PROOF_S + starts * self.import_s + 2 * self.facts["build_s"]
        if self.facts.get("batch_hangs"):
            limit = _HANG_S + (4 * self.import_s if method != "fork" else self.import_s)
        outcome = self._stage(request, limit)
        told = outcome.last("workers")
        if told is not None and method == self.method:
            self.facts |= {"startup_s": told["startup_s"], "worker_bytes": told["worker_bytes"]}
        crowded = machine.worker_threads_check(outcome.worker_notes, self.cores.affinity)
        if crowded is not None:
            self.checks.append(crowded)
        if outcome.ending == "done":
            return
        if outcome.ending == "memory":
            self.checks.append(memory_failure(outcome))
        hangs = outcome.ending == "timeout"
        summary = (
            f"{number} workers by {method} hang: no batch within {limit:.0f} s"
            if hangs
            else f"a process with {method} workers {outcome.death()}"
        )
        self.checks.append(
            Check(
                f"worker.{method}",
                "fail",
                summary,
                where=hang_place(outcome) if hangs else death_place(outcome),
                matters=hang_reason(outcome, method) if hangs else "",
                fix=hang_fix(outcome, method) if hangs else "Run with num_workers=0 to see the fault itself.",
                data={"stacks": outcome.stacks, "log": outcome.log[-4000:], "ending": outcome.ending},
                duration_s=outcome.duration_s,
            )
        )

    def _recommend(self) -> dict[str, Any] | None:
        facts = self._loader_facts()
        recommendation = recommend(facts)
        if self.config.workers is not None:
            self.checks.append(judged(facts, self.config.workers))
        elif self.config.probe and not facts.must_be_zero and "perf.recommend" in self.wanted:
            settings = candidates(facts)
            if len(settings) > 1:
                self._say("time the settings", 2)
                windows = self._sweep(settings, facts)
                recommendation = recommend(facts, windows)
                if not windows:
                    reason = f"{recommendation.reason}; not timed within --budget {self.config.budget_s:g}"
                    recommendation = replace(recommendation, reason=reason)
        recommendation = with_context(recommendation, self._context(facts))
        summary = (
            f"{recommendation.flags()} (confidence {recommendation.confidence}): {recommendation.reason}"
        )
        self.checks.append(Check("perf.recommend", "info", summary))
        return recommendation.to_dict() | {
            "per_item_ms": {
                "cpu": round(1e3 * facts.cost.cpu_s, 3),
                "wait_core": round(1e3 * facts.cost.wait_s, 3),
                "blocked": round(1e3 * facts.cost.blocked_s, 3),
            }
        }

    def _sweep(self, settings: list[int], facts: LoaderFacts) -> list[Window]:
        spent = time.monotonic() - self.start
        budget_s = self.config.budget_s - spent - self.import_s - self.facts["build_s"]
        if budget_s < _LEAST_SWEEP_S:
            return []  # timings in a hurry mislead; the model stands without them
        request = {
            "stage": "sweep",
            "target": self.target,
            "method": self.method,
            "batch_size": facts.batch_size,
            "candidates": settings,
            "budget_s": budget_s,
            "until": self.start + self.config.budget_s,
            "consumer_rate": facts.consumer_rate,
        }
        outcome = self._stage(request, budget_s + _PROOF_S + 10 * self.import_s)
        rates: dict[int, list[float]] = {}
        for event in outcome.events:
            if event["event"] == "window":
                rates.setdefault(event["num_workers"], []).append(event["rate"])
        return [Window(number, tuple(values)) for number, values in sorted(rates.items())]

    def _loader_facts(self) -> LoaderFacts:
        found = self.facts
        batch_size = found["batch_size"]
        rate = self.config.consumer_rate
        if self.config.step_ms is not None:
            rate = batch_size * 1e3 / self.config.step_ms
        extra: dict[str, int] = {}
        if any(check.id == "ds.iterable_shard" and check.status == "fail" for check in self.checks):
            extra["unsharded iterable"] = 1
        measured = {"worker_bytes": max(found["worker_bytes"], 32 << 20)} if found.get("worker_bytes") else {}
        return LoaderFacts(
            cost=ItemCost(**found["cost"]),
            batch_size=batch_size,
            batch_bytes=int(found.get("batch_bytes", 0)),
            tensors_per_batch=int(found.get("tensors_per_batch", 1)),
            num_items=found["num_items"],
            method=self.method,
            cores=self.cores,
            available_bytes=self.memory.available_bytes // self.cores.world_size,
            shm_free=shm_free_bytes(),
            open_files=open_files_limit(),
            consumer_rate=rate,
            startup_s=float(found.get("startup_s", 0.0)),
            has_gpu=bool(found["has_gpu"]),
            must_be_zero=self._obstacle(),
            extra_caps=extra,
            **measured,
        )

    def _obstacle(self) -> str:
        """Return why workers cannot be used at all, or an empty text."""
        cuda = self.facts["cuda"]
        if cuda and cuda["is_gpu"]:
            return f"{cuda['path']} lies on {cuda['device']}, where workers cannot use it"
        blocked = self.facts["blocks"].get(self.method) or []
        if blocked:
            return f"{blocked[0]} cannot be sent to {self.method} workers"
        for check in self.checks:
            if check.status == "fail" and check.id in (
                f"worker.{self.method}",
                "worker.consistency",
                "ds.output",
            ):
                return f"{check.id}: {check.summary}"
        return ""

    def _context(self, facts: LoaderFacts) -> str | None:
        """Return the start method to pass to the loader when the platform's own is not the one to use."""
        if self.method != default_start_method():
            return self.method
        is_threaded = any(check.id == "mp.threads" and check.status == "warn" for check in self.checks)
        can_pickle = not self.facts["blocks"].get("forkserver", ["unknown"])
        if self.method == "fork" and is_threaded and can_pickle and not facts.must_be_zero:
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
                self.checks.append(check)

        return run_stage(
            request,
            timeout_s=limit_s,
            silence_s=_SILENCE_S,
            memory_limit_bytes=int(_SAFE_SHARE * self.memory.available_bytes),
            allow_cuda=self.config.allow_cuda,
            on_event=on_event,
        )

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

    def _lesson(self) -> tuple[str, ...]:
        cuda = self.facts.get("cuda")
        if cuda:
            return lesson(cuda["path"], cuda["device"])
        if any(check.id == "ds.build" and check.data.get("needs_cuda") for check in self.checks):
            return lesson("the network", "cuda:0")
        return ()

    def _say(self, label: str, done: float) -> None:
        self.emit(Progress(label, int(done), _STEPS))


def _target(config: DoctorConfig) -> dict[str, Any] | None:
    if config.dataset is not None:
        args: Any = None
        if config.dataset_args is not None:
            try:
                args = json.loads(config.dataset_args)
            except ValueError as error:
                raise UsageError(
                    f"--dataset-args is not JSON: {error}.",
                    id="bad-dataset-args",
                    hint="""For example --dataset-args '{"root": "photos"}'.""",
                ) from None
            if not isinstance(args, (dict, list)):
                raise UsageError("--dataset-args must be an object or a list.", id="bad-dataset-args")
        return {"kind": "spec", "spec": config.dataset, "args": args}
    if config.data is not None:
        return {
            "kind": "own",
            "data": str(Path(os.path.abspath(config.data))),
            "purpose": config.purpose,
            "vlr_size": config.vlr_size,
        }
    return None


def _fits(id: str, name: str) -> bool:
    return id == name or id.startswith(name if name.endswith(".") else f"{name}.")
