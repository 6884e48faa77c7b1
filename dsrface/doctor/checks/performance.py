"""Which number of workers to use, and whether a given one is sound."""

from __future__ import annotations

from dsrface.doctor.checks.check import Check

LAUNCH = Check(
    id="perf.launch",
    order=10,
    worst="fail",
    title="whether the given number of workers is sound",
    why="Too many workers fill memory or fight over cores, too few leave the device waiting.",
    how="Each cap, and the model's throughput against the best number.",
    fix="The number that is named.",
)

RECOMMEND = Check(
    id="perf.recommend",
    order=20,
    worst="warn",
    title="which settings to use",
    why="The best number depends on what an item costs, what waits for it, and what the machine allows.",
    how="Processor, waiting and blocked time of an item, a model, and a short interleaved timing.",
    fix="The flags at the end of the report.",
)
