"""Super-resolve very-low-resolution faces, fine-tune a recogniser on them, and keep the workers busy.

The public names are in `__all__`; each is loaded at its first use, so importing this package loads no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022 - in the order in which the docs explain them, loaded below
    "load_dsr",
    "super_resolve",
    "load_recogniser",
    "embed",
    "open_data",
    "open_outputs",
    "evaluate",
    "examine",
    "assert_workers_safe",
    "Report",
    "LoadedModel",
    "Batch",
    "Preprocess",
    "DsrfaceError",
]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
