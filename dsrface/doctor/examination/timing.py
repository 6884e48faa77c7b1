"""Time a few numbers of workers, one after the other, within what is left of the budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dsrface.doctor.checks.performance import RECOMMEND
from dsrface.doctor.examination.budget import Budget
from dsrface.doctor.examination.endings import broken
from dsrface.doctor.examination.findings import Findings
from dsrface.doctor.examination.stages import Stages
from dsrface.doctor.examination.steps import Steps
from dsrface.doctor.sizing.loader_model import LoaderFacts, Window

_LEAST_S = 3.0


@dataclass
class Launching:
    """What the stages before have shown of starting workers here.

    Args:
        method: Start method of the workers to recommend.
        import_s: Seconds that a process takes to import torch.
        has_cuda_build: Whether torch can use CUDA.
        overlap: Bounds of the number of workers by what does not overlap, by reason.
        is_suspect: Whether something spoke against workers before any was tried.
    """

    method: str
    import_s: float = 2.0
    has_cuda_build: bool = False
    overlap: dict[str, int] = field(default_factory=dict)
    is_suspect: bool = False


@dataclass(frozen=True)
class Timing:
    """Times settings by the stage for it.

    Args:
        stages: Run the stage.
        steps: Hear that it begins.
        budget: Of the examination.
        findings: Take its checks.
        launching: What is known of starting workers.
    """

    stages: Stages
    steps: Steps
    budget: Budget
    findings: Findings
    launching: Launching

    def time(self, settings: list[int], facts: LoaderFacts, build_s: float) -> list[Window]:
        """Return the rates of each number of workers; none where the time left is too short to tell.

        Args:
            settings: Numbers of workers.
            facts: Of the loader.
            build_s: Seconds that building the data set takes.
        """
        self.steps.begin("sweep", "time the settings")
        ready_s = self.launching.import_s + build_s
        until = self.budget.sweep_until(ready_s)
        if until - time.monotonic() - ready_s < _LEAST_S:
            return []  # timings in a hurry mislead; the model stands without them
        request = {
            "stage": "sweep",
            "method": self.launching.method,
            "batch_size": facts.batch_size,
            "candidates": settings,
            "until": until,
            "consumer_rate": facts.consumer_rate,
        }
        outcome = self.stages.run(request, self.findings, silence_s={})
        crash = outcome.last("crash")
        if crash is not None and crash.get("ours", True):
            self.findings.add(broken(RECOMMEND.id, crash))
        rates: dict[int, list[float]] = {}
        for event in outcome.events:
            if event["event"] == "window":
                rates.setdefault(event["num_workers"], []).append(event["rate"])
        return [Window(number, tuple(values)) for number, values in sorted(rates.items())]
