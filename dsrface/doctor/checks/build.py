"""Whether the data set can be built."""

from __future__ import annotations

from dsrface.doctor.checks.check import Check

BUILD = Check(
    id="ds.build",
    order=10,
    worst="fail",
    title="whether the data set can be built",
    why="Nothing else can be said without it.",
    how="Calling what --dataset names, in a process without CUDA (see --allow-cuda).",
    fix="Call it in a Python prompt; --dataset-args passes arguments.",
    errors=(
        "RuntimeError: No CUDA GPUs are available",
        "AssertionError: Torch not compiled with CUDA enabled",
    ),
)
