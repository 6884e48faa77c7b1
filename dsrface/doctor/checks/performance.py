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

PROOF = Check(
    id="perf.proof",
    order=30,
    worst="fail",
    title="whether the recommended settings are faster on the real job, with the same data (--prove)",
    why="A model and a timing of the loader alone say what the training should gain, not what it gains.",
    how=(
        "The command's first steps, in fresh processes. One run of each setting compares batches and "
        "losses, with all generators seeded and each item loaded under generators that follow from its key. "
        "Then six pairs of runs are timed, in the order A B B A. The gain is the mean of the pairs' ratios "
        "with a 99 % interval (Student's t on logarithms); it counts when all of it is above 1.02."
    ),
    fix="Take the settings when they are faster; keep the present ones otherwise.",
)
