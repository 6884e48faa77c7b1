"""What a user names in code of their own: `package.module:name`, `path/file.py:name` or `file.ipynb:name`."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dsrface.errors import UsageError
from dsrface.runtime import notebooks

_FORMS = "package.module:callable or path/file.py:callable"


def named_object(spec: str, *, flag: str, wanted: str) -> tuple[Any, str]:
    """Import what a name leads to; runs foreign code.

    Args:
        spec: The name.
        flag: Option that takes it, for the error.
        wanted: What it should lead to, with its article, for the error.

    Returns:
        The object, and the source file of its module; the latter may be empty.

    Raises:
        UsageError: the name leads nowhere (`bad-target`).
    """
    module_name, separator, name = spec.rpartition(":")
    if not separator or not module_name or not name:
        hint = f"Write {flag} " + _FORMS.replace(" or ", f" or {flag} ") + "."
        raise UsageError(f"{spec!r} does not name {wanted}.", id="bad-target", hint=hint)
    if module_name.endswith(".ipynb"):
        module = notebooks.run(Path(module_name), until=name.partition(".")[0])
    elif module_name.endswith(".py"):
        module = _import_file(Path(module_name))
    else:
        module = _import_module(module_name)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [
                key
                for key, found in vars(module).items()
                if getattr(found, "__module__", "") == module.__name__ and not key.startswith("_")
            ]
            near = difflib.get_close_matches(part, known, n=3)
            raise UsageError(
                f"{module_name} has no {name!r}.",
                id="bad-target",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"It has: {', '.join(known[:12])}.",
            )
        value = getattr(value, part)
    return value, str(getattr(module, "__file__", "") or "")


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise UsageError(
                f"There is no module {name!r}.",
                id="bad-target",
                hint="It is looked for in the working folder and the installed packages.",
            ) from None
        raise


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name, so that a spawned worker can import it again."""
    path = path.resolve()
    if not path.is_file():
        raise UsageError("The file does not exist.", id="bad-target", where=path)
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "/").resolve() != path:
        raise UsageError(
            f"The file's name hides the module {path.stem!r}; workers would import the wrong one.",
            id="bad-target",
            where=path,
            hint="Rename the file.",
        )
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)
