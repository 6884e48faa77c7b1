"""A check as one object: what it is called, what it says about itself, and the functions that make it."""

from __future__ import annotations

import textwrap
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dsrface.doctor.report import Finding
from dsrface.runtime.user_code import innermost, raised_by_users

# What must be there for a stage; the report says so of a check that was not made.
STAGE_NEEDS: Mapping[str, str] = {
    "machine": "",
    "torch": "torch",
    "limits": "a data set",
    "members": "a data set",
    "items": "a data set",
    "cost": "a data set",
    "threads": "a data set",
    "starts": "workers",
    "compared": "workers",
    "epochs": "workers",
    "recommend": "a data set",
}
REPORT_IT = "This is a bug of dsrface, not of your data: please report it, with `dsrface doctor --json`."


@dataclass(frozen=True)
class Check:
    """One thing that the doctor looks at.

    Args:
        id: Stable identifier, `<group>.<name>`; the groups are env, mp, ds, worker, perf.
        order: Place within its group in the report.
        worst: The most severe status it can have.
        title: What it looks at.
        why: What goes wrong, and where.
        how: How it is found.
        fix: What to do.
        errors: Texts that people meet and search for.
        runs: Stage to the function that makes it there: `function(check, context) -> Finding | None`.
    """

    id: str
    order: int
    worst: str
    title: str
    why: str
    how: str
    fix: str
    errors: tuple[str, ...] = ()
    runs: Mapping[str, Callable[[Check, Any], Finding | None]] = field(default_factory=dict)

    @property
    def needs(self) -> str:
        """What must be there before it can be made: nothing, `torch`, `a data set` or `workers`."""
        return next((STAGE_NEEDS[stage] for stage in self.runs), "")

    def finding(
        self,
        status: str,
        summary: str,
        where: str = "",
        matters: str = "",
        fix: str = "",
        data: Mapping[str, Any] | None = None,
        duration_s: float = 0.0,
    ) -> Finding:
        """Return what was found, under this check's id."""
        return Finding(self.id, status, summary, where, matters, fix, data or {}, duration_s)

    def run(self, stage: str, context: Any) -> Finding | None:
        """Make the check; a bug of dsrface in it is its own finding, `error`, and never blames the data."""
        return self.guarded(lambda: self.runs[stage](self, context))

    def guarded(self, make: Callable[[], Finding | None]) -> Finding | None:
        """Return what a function finds, or that it broke and by whose line."""
        start = time.perf_counter()
        try:
            found = make()
        except Exception as error:  # noqa: BLE001 - a check that breaks is a finding about the check
            found = self.broken(error)
        if found is None or found.duration_s:
            return found
        return replace(found, duration_s=time.perf_counter() - start)

    def broken(self, error: Exception) -> Finding:
        """Return the finding for a check that raised."""
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        text = f"{type(error).__name__}: {error}"
        if raised_by_users(error):
            return self.finding(
                "error",
                f"could not be checked: the data set's code raised {text}",
                where=innermost(error),
                fix="Correct that line; it was called while the data set was looked at.",
                data={"traceback": trace[-2000:]},
            )
        return self.finding(
            "error", f"this check broke: {text}", fix=REPORT_IT, data={"traceback": trace[-2000:]}
        )

    def text(self) -> str:
        """Return the explanation as paragraphs of at most 88 columns."""
        parts = [f"{self.id}: {self.title} (at worst: {self.worst})"]
        for label, value in (("why", self.why), ("found by", self.how), ("fix", self.fix)):
            parts.append(textwrap.fill(f"{label}: {value}", 88, subsequent_indent="  "))
        if self.errors:
            parts.append("error texts it explains:\n" + "\n".join(f"  {error}" for error in self.errors))
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation's parts."""
        return {
            "id": self.id,
            "title": self.title,
            "why": self.why,
            "how": self.how,
            "fix": self.fix,
            "errors": list(self.errors),
            "severity": self.worst,
            "needs": self.needs,
        }
