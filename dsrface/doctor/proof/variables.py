"""What a fresh worker may find otherwise than this process: module variables, and settings of the process."""

from __future__ import annotations

import contextvars
import decimal
import locale
import os
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import torch

from dsrface.doctor.proof.seeding import users_modules
from dsrface.runtime.user_code import is_ordinary

_SIMPLE = (bool, int, float, str, bytes, type(None))
_MOST = 2000
_FLAGS = (("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES"), ("PIL.Image", "MAX_IMAGE_PIXELS"))


def process_state() -> dict[str, str]:
    """Return the simple values of the user's modules and the settings that items may depend on, as text."""
    return {**module_variables(), **settings()}


def settings() -> dict[str, str]:
    """Return what a main program sets for its process; of the environment, which has secrets, checksums."""
    found = {
        "torch.get_default_dtype()": str(torch.get_default_dtype()),
        "torch.is_grad_enabled()": str(torch.is_grad_enabled()),
        "the working folder": os.getcwd(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "decimal.getcontext().prec": str(decimal.getcontext().prec),
    }
    for module, flag in _FLAGS:
        if module in sys.modules:
            found[f"{module}.{flag}"] = str(getattr(sys.modules[module], flag))
    for variable, value in contextvars.copy_context().items():
        if issubclass(type(value), _SIMPLE):
            found[f"the context variable {variable.name}"] = repr(value)[:120]
    for name, text in os.environ.items():
        found[f"os.environ[{name!r}]"] = f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
    return found


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """Return the first value that a worker finds otherwise, in words; None when there is none.

    Args:
        here: `process_state` of this process.
        there: That of a worker. A module that is not loaded there says nothing.
    """
    for name, value in here.items():
        if name not in there and name.startswith(("os.environ", "the context variable")):
            return name
        if there.get(name, value) != value:
            values = "" if name.startswith("os.environ") else f" ({value} here, {there[name]} in a worker)"
            return f"{name}{values}"
    return None


def module_variables() -> dict[str, str]:
    """Return the simple values and the functions of the user's modules and classes, as text."""
    found = {}
    for module in users_modules():
        name = "__main__" if module.__name__ == "__mp_main__" else module.__name__
        for key, value in list(vars(module).items()):
            if issubclass(type(value), type):
                own = type.__getattribute__(value, "__dict__")  # a metaclass may raise at every attribute
                if own.get("__module__") == module.__name__:
                    found.update(_simple(f"{name}.{key}", own))
        found.update(_simple(name, vars(module)))
    return dict(list(found.items())[:_MOST])


def _simple(owner: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return simple values as text, and functions and other callables by the name they were defined with."""
    found = {}
    for key, value in list(values.items()):
        if key.startswith("__"):
            continue
        if issubclass(type(value), _SIMPLE):
            found[f"{owner}.{key}"] = repr(value)[:120]
        elif callable(value) and is_ordinary(value):
            found[f"{owner}.{key}"] = str(getattr(value, "__qualname__", type(value).__qualname__))
    return found
