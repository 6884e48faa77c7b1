"""What the guarded process can be asked to do; imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from dsrface.doctor import survey, torch_checks, workers


def run(request: Mapping[str, Any], emit: Callable[..., None]) -> None:
    """Run the stage that `request["stage"]` names."""
    stage = request["stage"]
    if stage == "survey":
        for check in torch_checks.platform_checks(
            import_s=request.get("import_s", 0.0), method=request["method"]
        ):
            emit("check", **check.to_dict())
        emit("torch", **torch_facts())
        if "target" in request:
            survey.survey(request, emit)
    elif stage == "prove":
        workers.prove(request, emit)
    elif stage == "sweep":
        workers.sweep(request, emit)
    elif stage == "sleep":  # for the tests of the guard
        emit("stage", name="sleep")
        time.sleep(request["seconds"])


def torch_facts() -> dict[str, Any]:
    """Return versions for the report's platform section."""
    import torch

    return {"version": torch.__version__, "cuda": torch.version.cuda or ""}
