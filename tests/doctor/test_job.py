"""On Windows nothing that an examined process starts outlives it, whoever its parent was."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from dsrface.doctor.process.job import take_all_along

MIDDLE = """
import subprocess, sys
nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], **nothing).pid)
"""
ORPHAN = """
import subprocess, sys
from dsrface.doctor.process.job import take_all_along
assert take_all_along()
print(subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True).stdout, flush=True)
sys.exit(3)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX has sessions instead")
def test_elsewhere_there_is_no_job():
    assert not take_all_along()


@pytest.mark.skipif(os.name != "nt", reason="Windows' jobs")
def test_an_orphan_ends_with_the_job_and_the_exit_code_stays():
    call = [sys.executable, "-c", ORPHAN, MIDDLE]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 3, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not psutil.pid_exists(pid)
