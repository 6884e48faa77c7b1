"""The folder that `dsrface evaluate` writes: its files, and what may be there before."""

from __future__ import annotations

from pathlib import Path

from dsrface.commands.evaluate.images import Measured
from dsrface.commands.evaluate.report import write_report
from dsrface.commands.evaluate.result import Evaluation
from dsrface.commands.shared.evaluation_files import (
    IMAGES_FILE,
    REPORT_FILE,
    RESULT_FILE,
    check_report_folder,
)
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.sources import to_toml
from dsrface.data.layout import FaceSplit
from dsrface.engine.run_claim import CONFIG_FILE, LOCK_FILE
from dsrface.engine.run_folder import new_run_path
from dsrface.runtime.command_line import joined
from dsrface.runtime.files import remove_half_written, write_json, write_text
from dsrface.runtime.locks import exclusive
from dsrface.runtime.text import csv_text


def choose_folder(config: EvaluateConfig) -> Path:
    """Return the folder of the results; results of an earlier evaluation there are replaced, nothing else.

    Raises:
        RunError: it holds something else.
    """
    if config.out is None:
        return new_run_path(config)
    check_report_folder(config)
    return config.out


def write_results(
    out: Path,
    config: EvaluateConfig,
    evaluation: Evaluation,
    split: FaceSplit,
    measured: Measured,
    *sections: str,
) -> None:
    """Write all files.

    Args:
        out: From `choose_folder`.
        config: What repeats the evaluation.
        evaluation: All figures.
        split: What was measured on.
        measured: Figures of each image.
        sections: Of the report, those that show faces.
    """
    with exclusive(out / LOCK_FILE, what="evaluation"):
        remove_half_written(out)
        write_text(out / CONFIG_FILE, to_toml(config))
        write_text(out / IMAGES_FILE, _images_csv(split, measured))
        write_json(out / RESULT_FILE, evaluation.to_dict())
        write_report(out / REPORT_FILE, evaluation, *sections)


def command_that_shows(out: Path) -> str:
    """Return the command that prints all figures of a folder."""
    return joined(["python", "-m", "json.tool", str(out / RESULT_FILE)])


def _images_csv(split: FaceSplit, measured: Measured) -> str:
    kinds = list(measured.psnr_db)
    tables = measured.quality
    head = ["image", "person", *(f"{name}_{kind}" for kind in kinds for name in tables)]
    rows = [
        [
            name,
            split.persons[int(split.labels[number])],
            *(f"{table[kind][number]:.4f}" for kind in kinds for table in tables.values()),
        ]
        for number, name in enumerate(split.names)
    ]
    return csv_text([head, *rows])
