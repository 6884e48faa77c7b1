"""The process that runs the user's code: reads one request, reports events, exits.

Events go to the pipe that was standard output when this process started. Before any foreign code runs, that
pipe is moved aside and standard output becomes standard error, also for processes started from here: a print
of the user's never reaches the report.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import time
import traceback

from dsrface.doctor.reporter import Reporter


def main() -> None:
    """Do what the request on standard input says."""
    request = json.loads(sys.stdin.buffer.read())
    report = Reporter(os.fdopen(_own_the_output(), "w", encoding="utf-8", buffering=1))
    _prepare()
    start = time.perf_counter()
    report("stage", name="import torch")
    from dsrface.doctor import stages

    request["import_s"] = time.perf_counter() - start
    report("imported", import_s=request["import_s"])
    try:
        stages.run(request, report)
    except BaseException as error:  # noqa: BLE001 - reported, then the exit code tells
        traceback.print_exc()
        report.crash(error)
        sys.stderr.flush()
        os._exit(9)
    report("done")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # the guardian ends what is left; a user's atexit hook must not hang us


def _own_the_output() -> int:
    """Move the event pipe aside; let prints go to the log and reads find nothing."""
    events = os.dup(1)
    os.set_inheritable(events, False)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return events


def _prepare() -> None:
    sys.argv = ["dsrface-doctor"]
    sys.path[0] = os.getcwd()
    token = os.environ.get("DSRFACE_DOCTOR_TOKEN", "dsrface")
    # Semaphores get a name by which the guardian can find those that a kill leaves behind.
    multiprocessing.current_process()._config["semprefix"] = f"/{token}"  # type: ignore[attr-defined] # noqa: SLF001
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
