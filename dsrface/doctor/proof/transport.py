"""The first thing that differs between two values, as a path: what got lost on the way from a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsrface.doctor.proof.fingerprint import fingerprint

_DEEPEST = 20


def first_difference(sent: Any, received: Any, path: str = "batch", depth: int = 0) -> str:
    """Return e.g. `batch[0].spacing (an attribute) is lost`, or "" where nothing certain differs."""
    if depth > _DEEPEST or fingerprint(sent) == fingerprint(received):
        return ""
    if type(sent).__name__ != type(received).__name__:
        return f"{path} is a {type(received).__name__}, was a {type(sent).__name__}"
    lost = _attributes(sent, received, path)
    if lost:
        return lost
    if isinstance(sent, Mapping) and isinstance(received, Mapping):
        for key in sent:
            if key not in received:
                return f"{path}[{key!r}] is lost"
        return _first(((sent[key], received[key], f"{path}[{key!r}]") for key in sent), depth)
    if isinstance(sent, (list, tuple)) and len(sent) == len(received):
        return _first(((a, b, f"{path}[{n}]") for n, (a, b) in enumerate(zip(sent, received))), depth)
    own = getattr(sent, "__dict__", None)
    if own:
        return _first(
            ((part, getattr(received, name, None), f"{path}.{name}") for name, part in own.items()), depth
        )
    return ""


def _attributes(sent: Any, received: Any, path: str) -> str:
    """Attributes that hang on tensors and arrays are dropped by their reducers."""
    own, arrived = getattr(sent, "__dict__", None) or {}, getattr(received, "__dict__", None) or {}
    for name in own:
        if name not in arrived:
            return f"{path}.{name}, an attribute of a {type(sent).__name__}, is lost"
        if own[name] is not None and arrived[name] is None:
            return f"{path}.{name}, an attribute of a {type(sent).__name__}, arrives as None"
    return ""


def _first(pairs: Iterable[tuple[Any, Any, str]], depth: int) -> str:
    differences = (first_difference(sent, received, path, depth + 1) for sent, received, path in pairs)
    return next((found for found in differences if found), "")
