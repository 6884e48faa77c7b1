"""What the guarded process can be asked to do; imports torch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch

from dsrface.doctor.checks.installation import Installation
from dsrface.doctor.checks.registry import run_stage
from dsrface.doctor.proof import prove
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.sizing import sweep
from dsrface.doctor.survey import survey
from dsrface.doctor.targets import Target
from dsrface.doctor.trace.snapshot import unchanged


def run(request: Mapping[str, Any], report: Reporter, target: Target | None = None) -> None:
    """Run the stage that `request["stage"]` names.

    Args:
        request: Of the stage.
        report: Takes checks and events.
        target: What to examine, left as it was found; built as the request says when not given.
    """
    kept = contextlib.nullcontext() if target is None else unchanged(target.roots)
    with kept:
        _run(request, report, target)


def _run(request: Mapping[str, Any], report: Reporter, target: Target | None) -> None:
    stage = request["stage"]
    if stage == "survey":
        installation = Installation(request["import_s"], request["method"], is_job=target is not None)
        for finding in run_stage("torch", installation):
            report.check(finding)
        report("torch", version=torch.__version__, cuda=torch.version.cuda or "")
        if "target" in request:
            survey.survey(request, report, target)
    elif stage == "prove":
        prove.prove(request, report, target)
    elif stage == "sweep":
        sweep.sweep(request, report, target)
