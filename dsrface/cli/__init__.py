"""The command line: the only room that knows typer and rich."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with its code.

    Args:
        arguments: Words after the program's name; those of the process when None.
    """
    from dsrface.runtime.process_age import count_from_the_start
    from dsrface.runtime.threads import set_defaults

    if arguments is None:
        count_from_the_start()
    set_defaults()  # before anything can import torch
    from dsrface.cli.app import run
    from dsrface.cli.streams import guard_streams

    guard_streams()
    leave(run(sys.argv[1:] if arguments is None else arguments))


def leave(code: int) -> None:
    """End the process; as one of several ranks, without tearing down what torch has left in it.

    After an error that would wait for NCCL, and NCCL for ranks that wait for this one; and gloo's threads,
    which outlive their process group, now and then abort a process whose work is done.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    if not code:
        atexit._run_exitfuncs()  # noqa: SLF001 - temporary folders and the like
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
