"""What the user asks of the doctor: which checks, and arguments for the data set's callable."""

from __future__ import annotations

import json
from typing import Any

from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks.registry import all_checks, unknown_check
from dsrface.errors import UsageError


def wanted_checks(config: DoctorConfig) -> set[str]:
    """Return the checks that --only and --skip leave.

    Raises:
        UsageError: an id or prefix that fits no check.
    """
    for name in (*config.only, *config.skip):
        if not any(_fits(id, name) for id in all_checks()):
            raise unknown_check(name)
    wanted = {id for id in all_checks() if not config.only or any(_fits(id, name) for name in config.only)}
    return {id for id in wanted if not any(_fits(id, name) for name in config.skip)}


def target_request(spec: str, args: Any = None, *, label: str = "") -> dict[str, Any]:
    """Return what `targets.build` takes, JSON-able.

    Args:
        spec: `package.module:callable` or `path/file.py:callable`.
        args: Of the callable: by name, or a list.
        label: How the report names the target; the spec by default.
    """
    return {"spec": spec, "args": args, "label": label or spec}


def parse_arguments(text: str | None) -> Any:
    """Return the arguments that `--dataset-args` gives as JSON; None without any.

    Raises:
        UsageError: not a JSON object or list.
    """
    if text is None:
        return None
    example = """For example --dataset-args '{"root": "photos"}'."""
    try:
        args = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--dataset-args is not JSON: {error}.", id="bad-dataset-args", hint=example
        ) from None
    if not isinstance(args, (dict, list)):
        raise UsageError("--dataset-args must be an object or a list.", id="bad-dataset-args", hint=example)
    return args


def _fits(id: str, name: str) -> bool:
    return id == name or id.startswith(name if name.endswith(".") else f"{name}.")
