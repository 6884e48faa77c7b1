"""The command line: the only room that knows typer and rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with its code.

    Args:
        arguments: Words after the program's name; those of the process when None.
    """
    from dsrface.runtime.threads import set_defaults

    set_defaults()  # before anything can import torch
    from dsrface.cli.app import run

    code = run(sys.argv[1:] if arguments is None else arguments)
    if code and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The interpreter's end would wait for NCCL, and that for ranks that wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
