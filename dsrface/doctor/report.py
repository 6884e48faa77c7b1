"""What the doctor found: one `Check` per id, together a `Report` with a verdict."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dsrface.runtime.text import count_text

SCHEMA_VERSION = 1
STATUSES = ("pass", "info", "warn", "fail", "skip", "error")

# Every check, in the order of the report, with the worst status it can have.
SEVERITIES: Mapping[str, str] = {
    "env.python": "info",
    "env.torch": "fail",
    "env.torchvision": "fail",
    "env.cpu": "warn",
    "env.ram": "fail",
    "env.shm": "fail",
    "env.fds": "warn",
    "env.threads": "warn",
    "env.storage": "warn",
    "env.commit": "warn",
    "env.decoder": "warn",
    "mp.start_method": "warn",
    "mp.main_guard": "fail",
    "mp.cuda_poison": "warn",
    "mp.cuda_fork": "fail",
    "mp.threads": "warn",
    "ds.build": "fail",
    "ds.items": "fail",
    "ds.unpicklable": "fail",
    "ds.non_leaf": "fail",
    "ds.temp_tensor": "fail",
    "ds.cuda_member": "fail",
    "ds.open_handles": "fail",
    "ds.rng": "warn",
    "ds.pickle_size": "fail",
    "ds.refcount_growth": "warn",
    "ds.output": "fail",
    "ds.state": "fail",
    "ds.epoch": "fail",
    "ds.finalizer": "fail",
    "ds.iterable_shard": "fail",
    "worker.fork": "fail",
    "worker.spawn": "fail",
    "worker.forkserver": "fail",
    "worker.consistency": "fail",
    "perf.launch": "fail",
    "perf.recommend": "warn",
}
CHECK_IDS = tuple(SEVERITIES)


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Args:
        id: One of `CHECK_IDS`.
        status: One of `STATUSES`; `error` means that the check itself broke, and is never shown as passed.
        summary: What was found, one or two sentences.
        where: The attribute path, file or index it concerns.
        matters: Why it matters on this platform with this start method.
        fix: Exactly what to do.
        data: JSON-able details.
        duration_s: Seconds the check took.
    """

    id: str
    status: str
    summary: str
    where: str = ""
    matters: str = ""
    fix: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the check as it stands in the JSON report."""
        return {
            "id": self.id,
            "status": self.status,
            "severity": SEVERITIES[self.id],
            "summary": self.summary,
            "where": self.where,
            "matters": self.matters,
            "fix": self.fix,
            "doc": f"docs/doctor-checks.md#{anchor(self.id)}",
            "duration_s": round(self.duration_s, 4),
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Check:
        """Rebuild a check from `to_dict`, as the child process sends it."""
        names = ("id", "status", "summary", "where", "matters", "fix", "data", "duration_s")
        return cls(**{name: raw[name] for name in names if name in raw})


@dataclass(frozen=True)
class Report:
    """Everything one examination found.

    Args:
        version: Version of dsrface.
        target: What was examined, in the user's words; empty for the platform alone.
        platform: Facts about machine and installation.
        checks: Outcomes, in the order of `CHECK_IDS`.
        recommendation: See `recommend.Recommendation.to_dict`; None without a data set.
        lesson: The lines that teach the classic case; empty when it is not the case.
        duration_s: Seconds the whole examination took.
        is_strict: Warnings count as failures.
    """

    version: str
    target: str
    platform: Mapping[str, Any]
    checks: tuple[Check, ...]
    recommendation: Mapping[str, Any] | None
    lesson: tuple[str, ...]
    duration_s: float
    is_strict: bool = False

    @property
    def verdict(self) -> str:
        """`pass`, `warn` or `fail`; a check that broke counts as a warning."""
        statuses = {check.status for check in self.checks}
        if "fail" in statuses:
            return "fail"
        if statuses & {"warn", "error"}:
            return "fail" if self.is_strict else "warn"
        return "pass"

    @property
    def exit_code(self) -> int:
        """0 fit, 1 a check failed, 3 the data set could not be built."""
        if any(check.id == "ds.build" and check.status == "fail" for check in self.checks):
            return 3
        return 1 if self.verdict == "fail" else 0

    def counts(self) -> dict[str, int]:
        """Return how many checks have each status."""
        return {status: sum(check.status == status for check in self.checks) for status in STATUSES}

    def check(self, id: str) -> Check | None:
        """Return the check with this id, or None when it was not made."""
        return next((check for check in self.checks if check.id == id), None)

    def verdict_line(self) -> str:
        """Return the last line of the report: counts and what to do."""
        counts = self.counts()
        words = [
            count_text(counts["fail"], "failure"),
            count_text(counts["warn"] + counts["error"], "warning"),
            f"{counts['pass'] + counts['info']} passed",
        ]
        if counts["skip"]:
            words.append(f"{counts['skip']} skipped")
        advice = {"fail": "do not launch like this", "warn": "can run, read the warnings", "pass": "ready"}
        return f"{', '.join(words)} in {self.duration_s:.0f} s -> {advice[self.verdict]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `--json` prints; its schema is docs/doctor.schema.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": "dsrface doctor",
            "version": self.version,
            "target": self.target,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "duration_s": round(self.duration_s, 3),
            "platform": dict(self.platform),
            "checks": [check.to_dict() for check in self.checks],
            "recommendation": dict(self.recommendation) if self.recommendation is not None else None,
            "lesson": list(self.lesson),
            "summary": self.counts(),
        }


def guarded(id: str, make: Callable[[], Check]) -> Check:
    """Return what a check finds; one that breaks is told as `error` and never stops the others."""
    start = time.perf_counter()
    try:
        check = make()
    except Exception as error:  # noqa: BLE001 - a broken check is a finding about the check
        check = Check(
            id,
            "error",
            f"this check broke: {type(error).__name__}: {error}",
            fix="Please report it, with the output of `dsrface doctor --json`.",
            data={"traceback": traceback.format_exc()[-2000:]},
        )
    return check if check.duration_s else replace(check, duration_s=time.perf_counter() - start)


def in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks in the report's order; of two with one id the graver stays, or the later."""
    gravity = {status: rank for rank, status in enumerate(("skip", "pass", "info", "warn", "error", "fail"))}
    kept: dict[str, Check] = {}
    for check in checks:
        known = kept.get(check.id)
        if known is None or gravity[check.status] >= gravity[known.status]:
            kept[check.id] = check
    return tuple(kept[id] for id in CHECK_IDS if id in kept)


def anchor(id: str) -> str:
    """Return the heading anchor of a check in docs/doctor-checks.md."""
    return id.replace(".", "")
