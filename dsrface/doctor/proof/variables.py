"""The simple values of the user's modules, in which a fresh worker may differ from this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsrface.doctor.proof.seeding import users_modules

_SIMPLE = (bool, int, float, str, bytes, type(None))
_MOST = 2000


def module_variables() -> dict[str, str]:
    """Return the simple values of the user's modules and classes, as text: a fresh worker may have others."""
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
    return {
        f"{owner}.{key}": repr(value)[:120]
        for key, value in list(values.items())
        if not key.startswith("__") and issubclass(type(value), _SIMPLE)
    }
