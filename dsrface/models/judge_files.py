"""Whether the extra `judge` is installed, and where its weights are; free of torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dsrface.errors import MachineError, UsageError
from dsrface.models.sources import JUDGE
from dsrface.runtime.versions import how_to_install

_FILE = "dlib_face_recognition_resnet_model_v1.dat"


def is_available() -> bool:
    """Return whether the extra is installed."""
    return importlib.util.find_spec("dlib") is not None and weights_of_judge() is not None


def judge_by_default() -> Path:
    """Return the judge's name, for a command whose `--weights` were not given.

    Raises:
        UsageError: the extra is not installed.
    """
    if not is_available():
        raise UsageError(
            "No recogniser is named, and the judge, which would be taken, is not installed.",
            id="no-recogniser",
            hint=f"Give --weights, or install the judge: {how_to_install('judge')}",
        )
    return Path(JUDGE)


def require_judge() -> Path:
    """Return the judge's weights.

    Raises:
        MachineError: the extra is missing.
    """
    path = weights_of_judge()
    if path is None or not is_available():
        raise MachineError(
            "The judge needs dlib and face_recognition_models, which this installation lacks.",
            id="missing-extra",
            hint=f"Install them: {how_to_install('judge')}",
        )
    return path


def weights_of_judge() -> Path | None:
    """Return the file of the judge's weights, or None."""
    # Its folder only: importing the package wants setuptools.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "models" / _FILE
    return path if path.is_file() else None
