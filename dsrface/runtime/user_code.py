"""The user's own files, and the innermost line of theirs in an exception or in printed stacks."""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, FunctionType

_INSTALLED = re.compile(r"[/\\](?:site-packages|dist-packages|lib(?:64)?[/\\]python\d+\.\d+)[/\\]")
_STANDARD_LIBRARY = str(Path(sysconfig.get_path("stdlib")))  # on Windows its name says nothing
_STANDARD_MODULES: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())  # novermin: 3.10
_OWN = str(Path(__file__).parents[1])
# A traceback has a comma after the line number and ends with the innermost call; faulthandler's dump of a
# stack has none and begins with it.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)(,?) in (\S+)')


@functools.lru_cache(maxsize=4096)  # asked of the same few files for every object that is walked
def is_users(file: str) -> bool:
    """Return whether a source file is the user's: not Python's, an installed package's or dsrface's."""
    if not file or file.startswith("<frozen ") or _INSTALLED.search(file):
        return False
    path = Path(file)
    if path.suffix == ".pyd" and path.name.partition(".")[0] in _STANDARD_MODULES:
        return False  # Windows keeps what Python has in C outside of its library, in DLLs
    is_compiled = not path.is_absolute() and not path.exists()
    if is_compiled and path.parts[0].removesuffix(".py") in _STANDARD_MODULES:
        return False  # an embedded Python (Windows) has its library compiled, with names of no folder
    return not any(path.is_relative_to(folder) for folder in (_STANDARD_LIBRARY, _OWN))


def is_users_namespace(names: Mapping[str, object]) -> bool:
    """Return whether a module with these names is the user's; that of a notebook or a prompt has no file."""
    file = names.get("__file__")
    return is_users(str(file)) if file else names.get("__name__") == "__main__"


def is_users_module(module: object) -> bool:
    """Return whether a module is the user's."""
    return is_users_namespace(getattr(module, "__dict__", {}))


def is_users_definition(value: type | FunctionType) -> bool:
    """Return whether a class or a function is defined in a module of the user's."""
    return is_users_module(sys.modules.get(value.__module__ or ""))


def raised_by_us(error: BaseException) -> bool:
    """Return whether an exception was raised by a line of this package, not by what it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(_OWN)


def is_ordinary(value: object) -> bool:
    """Return whether an object is what it seems to be, and says so when it is asked for an attribute.

    A stand-in for a package that is not installed, as transformers has many, raises at every one; a mock
    has every one; and a proxy claims to be of another class.
    """
    try:
        for name in ("__dict__", "cache_info"):
            getattr(value, name, None)
        return value.__class__ is type(value) and getattr(value, "_no_such_attribute_", None) is None
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return False


def raised_by_users(error: BaseException) -> bool:
    """Return whether an exception was raised by a line of the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_users(frames[-1].filename)


def short_path(file: str) -> str:
    """Return the file relative to the working folder when it is below it; `In[3]` for a cell of Jupyter."""
    cell = _cell(file)
    if cell:
        return cell
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive on Windows
        return file
    return file if relative.startswith("..") else relative


def _cell(file: str) -> str:
    """Return the cell that a running IPython knows under a file name, or ""."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    named = getattr(getattr(shell, "compile", None), "format_code_name", lambda _: None)(file)
    return named[1] if named else ""


def innermost(error: BaseException) -> str:
    """Return `file:line in function` of the user's innermost frame in an exception, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users(frame.filename)]
    return _place(own[-1]) if own else ""


def place_of(error: BaseException) -> str:
    """Return the user's innermost frame, or that of anybody where the user has none."""
    frames = traceback.extract_tb(error.__traceback__)
    return innermost(error) or (_place(frames[-1]) if frames else "")


def innermost_in(text: str) -> str:
    """Return `file:line in function` of the user's innermost frame in a printed traceback or dump, or ""."""
    own = [frame for frame in _FRAME.findall(text) if is_users(frame[0])]
    dumped = [frame for frame in own if not frame[2]]
    chosen = dumped[:1] or own[-1:]
    return "".join(f"{short_path(file)}:{line} in {function}" for file, line, _, function in chosen)


def error_in(text: str) -> str:
    """Return `Type: message` at the end of a printed traceback, without the notes that follow it; or ""."""
    lines = [line for line in text.splitlines() if line.strip()]
    last_frame = max((number for number, line in enumerate(lines) if _FRAME.search(line)), default=-1)
    return next((line for line in lines[last_frame + 1 :] if not line.startswith(" ")), "")


def users_line(depth: int) -> str:
    """Return `file:line` of the innermost frame in the user's own files, or of the first one.

    Args:
        depth: Frames to pass over; 0 begins with the caller.
    """
    first = sys._getframe(depth + 1)  # noqa: SLF001 - inspect.stack reads every source file
    frame: FrameType | None = first
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return f"{short_path(first.f_code.co_filename)}:{first.f_lineno}"


def _place(frame: traceback.FrameSummary) -> str:
    return f"{short_path(frame.filename)}:{frame.lineno} in {frame.name}"
