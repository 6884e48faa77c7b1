"""Which settings of a DataLoader to recommend: the model, its candidates timed, what the findings forbid."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks import machine
from dsrface.doctor.checks.performance import RECOMMEND
from dsrface.doctor.examination.findings import Findings
from dsrface.doctor.examination.timing import Launching, Timing
from dsrface.doctor.sizing.account import COLLATE, account
from dsrface.doctor.sizing.limits import open_files_limit
from dsrface.doctor.sizing.loader_model import LoaderFacts, Recommendation
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.recommend import NOT_PROVED, candidates, launch_check, recommend
from dsrface.doctor.sizing.what_if import what_if
from dsrface.doctor.survey.facts import SurveyFacts
from dsrface.runtime.resources import Cores, Memory, shm_free_bytes
from dsrface.runtime.start_methods import default_start_method


@dataclass(frozen=True)
class Number:
    """Recommends the settings of a DataLoader.

    Args:
        config: Of the examination.
        findings: What was found; nothing that they forbid is recommended.
        launching: What is known of starting workers.
        cores: Those that this process may use.
        memory: What is free of it.
    """

    config: DoctorConfig
    findings: Findings
    launching: Launching
    cores: Cores
    memory: Memory

    def recommend(self, found: SurveyFacts, cost: ItemCost, timing: Timing | None) -> dict[str, Any]:
        """Return the settings and what they follow from, as the report has them.

        Args:
            found: What the survey found.
            cost: Of an item.
            timing: Times the candidates; None when they are not to be timed.
        """
        facts = self._loader_facts(found, cost)
        recommendation = recommend(facts)
        if self.config.workers is not None:
            self.findings.add(launch_check(facts, self.config.workers))
        elif timing is not None and self._can_be_timed(facts) and len(settings := candidates(facts)) > 1:
            windows = timing.time(settings, facts, found.build_s)
            recommendation = recommend(facts, windows)
            if not recommendation.measurements:
                why = recommendation.reason
                not_timed = "" if why.endswith("not timed") else "; not timed"
                reason = f"{why}{not_timed} within --budget {self.config.budget_s:g}"
                recommendation = replace(recommendation, reason=reason)
        recommendation = self._obeying(recommendation, must_be_zero=bool(facts.must_be_zero))
        summary = (
            f"{recommendation.flags()} (confidence {recommendation.confidence}): {recommendation.reason}"
        )
        self.findings.add(RECOMMEND.finding("info", summary))
        predictions = what_if(facts, recommendation.measurements, found.parts, kept_pixels=found.kept_pixels)
        return {
            **recommendation.to_dict(),
            **account(cost, found.parts, found.batch_parts),
            "what_if": [each.to_dict() for each in predictions],
        }

    def _can_be_timed(self, facts: LoaderFacts) -> bool:
        """Items that raise would end the timing; what cannot have workers needs none."""
        return not facts.must_be_zero and self.findings.failed("ds.items") is None

    def _obeying(self, recommendation: Recommendation, *, must_be_zero: bool) -> Recommendation:
        """Return the settings with what the findings forbid taken out of them."""
        context = None
        if (
            recommendation.num_workers
            and not must_be_zero
            and self.launching.method != default_start_method()
        ):
            context = self.launching.method
        objection = self.findings.against_persistent()
        persistent = recommendation.persistent_workers and objection is None
        reason = recommendation.reason
        if objection is not None and recommendation.num_workers:
            reason += f"; workers are not kept between epochs: see {objection.id}"
        confidence = recommendation.confidence
        unproved = recommendation.caps.get(NOT_PROVED) if not recommendation.measurements else None
        if unproved is not None and (recommendation.num_workers or unproved == 0):
            confidence, reason = "low", f"{reason}; no worker was proved"
        return replace(
            recommendation,
            multiprocessing_context=context,
            persistent_workers=persistent,
            confidence=confidence,
            reason=reason,
        )

    def _loader_facts(self, found: SurveyFacts, cost: ItemCost) -> LoaderFacts:
        rate = self.config.consumer_rate
        if self.config.step_ms is not None:
            rate = found.batch_size * 1e3 / self.config.step_ms
        caps = dict(self.launching.overlap)
        if self.findings.failed("ds.iterable_shard"):
            caps["unsharded stream"] = 1
        if found.shards is not None:
            caps["shards"] = found.shards
        sharing = self.findings.get("ds.iterable_shard")
        if sharing is not None and "most_workers" in sharing.data:
            caps["drop_last"] = sharing.data["most_workers"]
        proof = self.findings.get(f"worker.{self.launching.method}")
        if self.config.probe and proof is not None and proof.status == "skip":
            caps[NOT_PROVED] = 0 if self.launching.is_suspect else self.cores.effective
        return LoaderFacts(
            cost=cost,
            batch_size=found.batch_size,
            batch_bytes=found.batch_bytes,
            tensors_per_batch=found.tensors_per_batch,
            num_items=found.num_items,
            method=self.launching.method,
            cores=self.cores,
            available_bytes=self.memory.available_bytes // self.cores.world_size,
            shm_free=shm_free_bytes(),
            open_files=open_files_limit(),
            consumer_rate=rate,
            startup_s=found.startup_s,
            worker_bytes=found.worker_bytes,
            has_gpu=self._sees_gpu(),
            must_be_zero=self._obstacle(found),
            collate_s=found.batch_parts.get(COLLATE, 0.0),
            extra_caps=caps,
        )

    def _sees_gpu(self) -> bool:
        """Whether the launch will have CUDA; asked of the machine, for it is hidden from the processes."""
        is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
        return self.launching.has_cuda_build and machine.has_gpu() and not is_hidden

    def _obstacle(self, found: SurveyFacts) -> str:
        """Return why workers cannot be used at all, or an empty text."""
        network = found.network
        if network is not None and network.is_on_gpu:
            return f"{network.path} is on {network.device}, where workers cannot use it"
        blocked = found.blocks.get(self.launching.method)
        if blocked:
            return f"{blocked[0]} cannot be sent to {self.launching.method} workers"
        check = self.findings.against(self.launching.method) or self.findings.failed("ds.output")
        return f"no workers until {check.id} passes" if check is not None else ""
