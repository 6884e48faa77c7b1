"""Put the doctor in front of training scripts of the kinds people write: what it says, and what it leaves.

`python benchmarks/launches/run.py [NAME ...]` prints a table; scripts that lack their libraries are left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPTS = Path(__file__).with_name("scripts")
PYTHON = (sys.executable,)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu")


@dataclass(frozen=True)
class Launch:
    """A script and how it is launched.

    Args:
        name: Of the script.
        program: What runs it.
        needs: Packages that must be there.
        expected: The exit code of the doctor.
    """

    name: str
    program: tuple[str, ...] = PYTHON
    needs: tuple[str, ...] = ()
    expected: int = 0

    @property
    def command(self) -> list[str]:
        """The command, as somebody would type it."""
        return [*self.program, str(SCRIPTS / f"{self.name}.py")]


LAUNCHES = (
    Launch("plain_loop"),
    Launch("argparse_main"),
    Launch("lightning_module", needs=("lightning",)),
    Launch("hf_trainer", needs=("transformers", "accelerate", "datasets")),
    Launch("accelerate_loop", ACCELERATE, needs=("accelerate",)),
    Launch("hydra_app", needs=("hydra",)),
    Launch("stream"),
    Launch("two_loaders"),
    Launch("ddp", TORCHRUN),
    Launch("fails_early", expected=3),
)


def main() -> None:
    """Run the launches that were named, or all, and print a row for each."""
    wanted = sys.argv[1:]
    print("script | exit code | start-up s | verdict s | left behind | verdict")
    for launch in LAUNCHES:
        missing = [name for name in launch.needs if importlib.util.find_spec(name) is None]
        if wanted and launch.name not in wanted:
            continue
        if missing:
            print(f"{launch.name} | not run: {', '.join(missing)} not installed")
            continue
        print(" | ".join(_row(launch)), flush=True)


def _row(launch: Launch) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        known = _shared_memory()
        begin = time.monotonic()
        done = subprocess.run(
            [*PYTHON, "-m", "dsrface", "doctor", "--output", str(report), "--", *launch.command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        wall_s = time.monotonic() - begin
        left = [*_processes(launch.command[-1]), *sorted(_shared_memory() - known)]
        verdict, exam_s = [line for line in done.stderr.splitlines() if line.strip()][:1], 0.0
        if report.exists():
            result = json.loads(report.read_text(encoding="utf-8"))
            verdict, exam_s = [result["verdict"]], result["loaders"][0]["report"]["duration_s"]
    code = str(done.returncode) + ("" if done.returncode == launch.expected else " (!)")
    return [launch.name, code, f"{wall_s - exam_s:.1f}", f"{exam_s:.1f}", ", ".join(left) or "-", *verdict]


def _shared_memory() -> set[str]:
    folder = Path("/dev/shm")  # noqa: S108
    names = os.listdir(folder) if folder.is_dir() else []
    return {name for name in names if name.startswith(("torch_", "sem."))}


def _processes(script: str) -> list[str]:
    """Return the processes that still run a script."""
    return [
        f"process {process.pid}"
        for process in psutil.process_iter(["cmdline"])
        if script in (process.info["cmdline"] or [])
    ]


if __name__ == "__main__":
    main()
