"""What tools say of five scripts that are right without workers, and wrong or stuck with forked ones.

`python benchmarks/doctors/run.py [SCRIPT ...]`, in an environment with dsrface, train-doctor, traceml-ai and
loadtune, prints the lines in which each states its result. A tool that is not installed is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")
NAMES = ("shared_offset", "shared_zip", "generator_member", "unsharded_stream", "lock_at_fork")
TOOLS = {
    "dsrface": "dsrface doctor -- python {name}.py",
    "train-doctor": "train-doctor fix --steps 20 --seconds 1 --repeats 4 --timeout 120 -- python {name}.py",
    "traceml": "traceml run {name}.py",
    "loadtune": "loadtune tune workload.py --no-plots --steps 20 --warmup 3",
}
RESULTS = re.compile(
    r"-> (as launched|do not|ready|runs here|workers can)"  # dsrface
    r"|^\S+: (no proven|[\d.]+ ->)|^  \[(keep|reject|inconclusive)"  # train-doctor
    r"|Verdict:|^\[loadtune\] b"
)
LONGEST_S = 900


def main() -> None:
    """Run every tool on every script, in a folder of its own."""
    for name in sys.argv[1:] or NAMES:
        for tool, command in TOOLS.items():
            if shutil.which(tool) is None:
                print(f"{name} | {tool} | not installed")
                continue
            for line in _results(name, command.format(name=name)):
                print(f"{name} | {tool} | {line}", flush=True)


def _results(name: str, command: str) -> list[str]:
    """Return the lines of a tool's output that state its result."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (f"{name}.py", "workload.py"):
            shutil.copy(SCRIPTS / file, folder)
        try:
            done = subprocess.run(
                command.split(),
                cwd=folder,
                env={**os.environ, "SCRIPT": name, "COLUMNS": "160"},
                capture_output=True,
                text=True,
                check=False,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            return [f"no answer within {LONGEST_S} s"]
    lines = [line.strip(" |") for line in done.stdout.splitlines() if RESULTS.search(line)]
    return [*lines, f"exit code {done.returncode}"]


if __name__ == "__main__":
    main()
