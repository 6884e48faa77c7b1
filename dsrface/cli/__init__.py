"""The command line: the only room that knows typer and rich."""

from __future__ import annotations

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

    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
