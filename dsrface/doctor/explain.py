"""What each check is about: the text of `dsrface doctor --explain ID` and of docs/doctor-checks.md."""

from __future__ import annotations

import difflib
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from dsrface.doctor.report import CHECK_IDS, SEVERITIES
from dsrface.errors import UsageError


@dataclass(frozen=True)
class Explanation:
    """One check in words.

    Args:
        id: The check.
        title: What it looks at.
        why: What goes wrong, and where.
        how: How it is found.
        fix: What to do.
        errors: Texts that people meet and search for.
    """

    id: str
    title: str
    why: str
    how: str
    fix: str
    errors: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the explanation as paragraphs of at most 88 columns."""
        parts = [f"{self.id}: {self.title} (at worst: {SEVERITIES[self.id]})"]
        for label, value in (("why", self.why), ("found by", self.how), ("fix", self.fix)):
            parts.append(textwrap.fill(f"{label}: {value}", 88, subsequent_indent="  "))
        if self.errors:
            parts.append("error texts it explains:\n" + "\n".join(f"  {error}" for error in self.errors))
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the parts."""
        return {**asdict(self), "severity": SEVERITIES[self.id], "errors": list(self.errors)}


def explain(id: str) -> Explanation:
    """Return the explanation of a check.

    Raises:
        UsageError: no such check; near ones are named.
    """
    if id not in EXPLANATIONS:
        raise unknown_check(id)
    return EXPLANATIONS[id]


def unknown_check(name: str) -> UsageError:
    """Return the error for a name that fits no check; it names near ones."""
    near = difflib.get_close_matches(name, CHECK_IDS, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(CHECK_IDS)}."
    return UsageError(f"There is no check {name!r}.", id="unknown-check", hint=hint)


def _load() -> Mapping[str, Explanation]:
    text = (resources.files("dsrface.doctor") / "explanations.toml").read_text(encoding="utf-8")
    return {
        id: Explanation(id, **{**parts, "errors": tuple(parts.get("errors", ()))})
        for id, parts in tomllib.loads(text).items()
    }


EXPLANATIONS = _load()
