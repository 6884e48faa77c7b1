"""Draw the README's image: the doctor's own output on a real fault, as SVG.

`--check` runs the doctor again and compares what it found with what the image shows; times differ and do
not count. Linux only: the fault is one of forked workers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dsrface.cli.doctor_report import render_report
from dsrface.commands.doctor import run
from dsrface.commands.doctor.launching import LaunchResult
from dsrface.config.doctor import DoctorConfig

HERE = Path(__file__).parent
IMAGE = HERE / "doctor.svg"
WIDTH = 92


def examine() -> LaunchResult:
    """Launch `train.py` in a folder of its own, and examine its loader."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(HERE / "train.py", folder)
        records = b"".join(bytes([number]) * 4096 for number in range(256))
        Path("records.bin").write_bytes(2 * records)  # a read beyond the end is an error
        result = run(DoctorConfig(launch=(sys.executable, "train.py")), emit=lambda _: None)
        assert isinstance(result, LaunchResult)
        here = f"{os.path.realpath(folder)}{os.sep}"
        [loader] = result.launch.loaders
        checks = tuple(replace(check, where=check.where.replace(here, "")) for check in loader.report.checks)
        loader = replace(loader, report=replace(loader.report, checks=checks))
        return replace(result, launch=replace(result.launch, loaders=(loader,)))


def draw(result: LaunchResult) -> str:
    """Return the terminal's image; it names no font from elsewhere."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere, highlight=False)
        console.print("[bold]$[/bold] dsrface doctor -- python train.py\n")
        for heading, report in result.reports:
            console.print(heading, style="bold", markup=False)
            render_report(report, console)
        console.print(result.summary, style="bold")
        svg = console.export_svg(title="dsrface doctor", unique_id="doctor")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def failures(result: LaunchResult) -> set[str]:
    """Return the ids that the image is about; whether wrong items were met as well is a matter of luck."""
    lucky = "worker.consistency"
    checks = result.gravest.report.checks
    return {check.id for check in checks if check.status == "fail" and check.id != lucky}


def main() -> int:
    """Write the image, or compare it; 1 when it is stale."""
    if "--check" not in sys.argv:
        IMAGE.write_text(draw(examine()), encoding="utf-8", newline="\n")
        return 0
    shown = IMAGE.read_text(encoding="utf-8")
    for _ in range(2):  # a busy machine can cut the proof short: look once more
        found = failures(examine())
        missing = [id for id in found if id not in shown]
        if found and not missing:
            return 0
    print(f"stale: {IMAGE.name} does not show {missing}; run nox -s images")
    return 1


if __name__ == "__main__":
    sys.exit(main())
