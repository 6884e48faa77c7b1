"""The simple values of the user's modules, in which a fresh worker may differ from this process."""

from __future__ import annotations

from dsrface.doctor.proof.seeding import users_modules

_SIMPLE = (bool, int, float, str, bytes, type(None))


def module_variables() -> dict[str, str]:
    """Return the simple values of the user's modules, as text: what a fresh worker may have otherwise."""
    found = {}
    for module in users_modules():
        name = "__main__" if module.__name__ == "__mp_main__" else module.__name__
        for key, value in list(vars(module).items()):
            if not key.startswith("__") and issubclass(type(value), _SIMPLE):
                found[f"{name}.{key}"] = repr(value)[:120]
    return dict(list(found.items())[:2000])
