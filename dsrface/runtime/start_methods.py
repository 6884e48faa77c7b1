"""Which multiprocessing start method DataLoader workers will get, and who decided that.

Asking `multiprocessing.get_start_method()` *fixes* the method for the rest of the process, so that a later
`set_start_method` fails; nothing here does that.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any, cast

METHODS = ("fork", "spawn", "forkserver")  # all there are, on whatever platform


def effective_start_method() -> tuple[str, str]:
    """Return the start method that a DataLoader gets by default, and where it comes from.

    Returns:
        `("fork" | "spawn" | "forkserver", source)`; the source is a phrase such as "set by the program" or
        "default of Python 3.14 on linux".
    """
    chosen = cast("str | None", multiprocessing.get_start_method(allow_none=True))  # typeshed knows no None
    if chosen is not None:
        return chosen, "set by the program"
    return (
        default_start_method(),
        f"default of Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform}",
    )


def default_start_method() -> str:
    """Return this Python's own default on this platform."""
    return multiprocessing.get_all_start_methods()[0]


def available_start_methods() -> list[str]:
    """Return the start methods that this platform has, the default one first."""
    return multiprocessing.get_all_start_methods()


def forget_forkserver() -> None:
    """Let a forked process start a forkserver of its own, which it does when it needs one.

    That of its parent is no child of this process: multiprocessing would wait for it, and fail.
    """
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver  # noqa: SLF001 - its functions are bound to it
    modules = server._preload_modules  # noqa: SLF001
    server.__init__()
    server._preload_modules = modules  # noqa: SLF001
