"""`dsrface doctor`: examine the machine and a data set, and say what DataLoader workers will do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface.commands.doctor.attaching import AttachResult, run_attach
from dsrface.commands.doctor.launching import LaunchResult, run_launch
from dsrface.commands.doctor.page import write_page
from dsrface.commands.doctor.scanning import ScanResult, rule, run_scan
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks.check import Check
from dsrface.doctor.checks.registry import get
from dsrface.doctor.examination import examine
from dsrface.doctor.examination.elsewhere import examine_elsewhere
from dsrface.doctor.examination.request import parse_arguments, target_request
from dsrface.doctor.report import Report
from dsrface.doctor.scan.rule import Rule
from dsrface.events import Emit
from dsrface.runtime import process_age
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import write_json
from dsrface.runtime.user_callable import check_in_file


@dataclass(frozen=True)
class DoctorResult:
    """The report of an examination.

    Args:
        report: What was found.
        written: Files that hold it.
        launch: The command that the data set was examined for, with the workers to give it; may be empty.
    """

    report: Report
    written: tuple[Path, ...] = ()
    launch: str = ""

    @property
    def summary(self) -> str:
        """The verdict, with what it is about."""
        about = f"{self.report.target}: " if self.report.target else ""
        return f"{about}{self.report.verdict_line()}"

    @property
    def location(self) -> str:
        """The files that were asked for."""
        return ", ".join(map(str, self.written))

    @property
    def next_command(self) -> str:
        """The launch, when nothing speaks against it, else where to read on about the gravest finding."""
        if self.launch and self.report.verdict != "fail":
            return self.launch
        start = "" if self.report.target else "dsrface doctor --dataset module:callable"
        return self.report.read_on() or start

    @property
    def exit_code(self) -> int:
        """0, 1 when a check failed, 3 when the data set could not be built."""
        return self.report.exit_code

    def to_dict(self) -> dict[str, Any]:
        """Return the report; docs/doctor.schema.json describes it."""
        return self.report.to_dict()


@dataclass(frozen=True)
class ExplainResult:
    """The explanation of one check, or of a rule of the scanner."""

    explanation: Check | Rule
    exit_code: int = 0
    location: str = ""
    next_command: str = ""

    @property
    def summary(self) -> str:
        """The explanation as text."""
        return self.explanation.text()

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation's parts."""
        return self.explanation.to_dict()


def run(
    config: DoctorConfig, *, emit: Emit
) -> DoctorResult | LaunchResult | ExplainResult | ScanResult | AttachResult:
    """Examine a data set or the loaders of a launch, scan sources, look at a running job, explain a check.

    Raises:
        UsageError: a check or a target that does not exist.
    """
    if config.explain is not None:
        is_rule = config.explain.startswith("scan.")
        return ExplainResult(rule(config.explain) if is_rule else get(config.explain))
    if config.scan:
        return run_scan(config)
    if config.attach is not None:
        return run_attach(config)
    if config.launch:
        return run_launch(config, emit=emit)
    where = examine if config.python is None else examine_elsewhere
    report = where(config, target=_target(config), emit=emit, spent_s=process_age.spent_s())
    result = DoctorResult(report, tuple(filter(None, (config.html, config.output))), _launch(config, report))
    if config.html is not None:
        write_page(config.html, [("", report)])
    if config.output is not None:
        write_json(config.output, result.to_dict())
    return result


def _target(config: DoctorConfig) -> dict[str, Any] | None:
    """Return what to examine; a data set of dsrface is a callable like any other."""
    if config.dataset is not None:
        check_in_file(config.dataset, flag="--dataset", wanted="a data set")  # before torch is imported
        return target_request(config.dataset, parse_arguments(config.dataset_args))
    if config.data is not None:
        args = {
            "data": os.path.abspath(config.data),
            "purpose": config.purpose,
            "vlr_size": config.vlr_size,
        }
        return target_request("dsrface.commands.doctor.own_data:build", args, label=str(config.data))
    return None


def _launch(config: DoctorConfig, report: Report) -> str:
    built = report.check("ds.build")
    if config.data is None or built is None or report.recommendation is None:
        return ""
    number = report.recommendation["num_workers"] if config.workers is None else config.workers
    data = quoted(config.data)
    return f"dsrface {config.purpose} {data} {built.data['flags']} --workers {number}"
