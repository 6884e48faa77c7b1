"""The files of an evaluation, and where they may be written; free of torch, for a first look."""

from __future__ import annotations

from pathlib import Path

from dsrface.config.evaluate import EvaluateConfig
from dsrface.engine.run_claim import CONFIG_FILE, LOCK_FILE
from dsrface.errors import RunError
from dsrface.runtime.files import TMP_SUFFIX

RESULT_FILE = "evaluation.json"
REPORT_FILE = "report.html"
IMAGES_FILE = "images.csv"
_OWN_FILES = (CONFIG_FILE, IMAGES_FILE, RESULT_FILE, REPORT_FILE)


def check_report_folder(config: EvaluateConfig) -> None:
    """Make sure that `--out` is new, empty or holds an earlier evaluation.

    Raises:
        RunError: it holds something else.
    """
    out = config.out
    if out is not None and out.exists() and (not out.is_dir() or _is_foreign(out)):
        raise RunError(
            "The folder for the report is not empty, and no evaluation is in it.",
            id="folder-not-empty",
            where=out,
            hint="Choose an empty or new folder by --out.",
        )


def _is_foreign(out: Path) -> bool:
    """Return whether a folder holds anything but an evaluation, or the start of one that was cut off."""
    names = {entry.name for entry in out.iterdir()}
    if not names or RESULT_FILE in names:
        return False
    half_written = {name for name in names if name.startswith(_OWN_FILES) and name.endswith(TMP_SUFFIX)}
    return LOCK_FILE not in names or not names - half_written <= {LOCK_FILE, f"{LOCK_FILE}.pid", *_OWN_FILES}
