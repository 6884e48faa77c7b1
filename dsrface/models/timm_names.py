"""The names of timm's networks, from its sources: to import it takes seconds, and torch with it."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from pathlib import Path

from dsrface.errors import UsageError

_NAMED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
_FORMERLY = re.compile(r"^    '([\w.]+)': ", re.MULTILINE)  # what register_model_deprecations is given
_ON_A_HUB = "hf_hub:"
_LIST = """python -c 'import timm; print("\\n".join(timm.list_models()))'"""


def check_timm_name(name: str) -> None:
    """Make sure that timm, where it is installed, has a network of this name.

    Args:
        name: Without `timm:`; it may end in a dot and the tag of weights.

    Raises:
        UsageError: it has none (`unknown-backbone`).
    """
    known = _names()
    if known and not name.startswith(_ON_A_HUB) and name not in known and name.partition(".")[0] not in known:
        raise unknown_network(name)


def unknown_network(name: str) -> UsageError:
    """Return the error of a name that timm does not know, with those that are like it."""
    names = sorted(_names())
    near = difflib.get_close_matches(name, names, n=5) or [known for known in names if name in known][:5]
    return UsageError(
        f"timm has no network {name!r}.",
        id="unknown-backbone",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"They are listed by:\n{_LIST}",
    )


@functools.cache
def _names() -> frozenset[str]:
    """Return all names, former ones too; none where timm is not there, or not where it is expected."""
    spec = importlib.util.find_spec("timm")
    folders = spec.submodule_search_locations if spec is not None else None
    texts = [
        file.read_text(encoding="utf-8")
        for folder in folders or ()
        for file in sorted(Path(folder, "models").glob("*.py"))
    ]
    return frozenset(
        name for text in texts for pattern in (_NAMED, _FORMERLY) for name in pattern.findall(text)
    )
