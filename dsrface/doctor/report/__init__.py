"""What the doctor found: one `Finding` a check, together a `Report` with a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrface.runtime.start_methods import METHODS
from dsrface.runtime.text import count_text, without_addresses

SCHEMA_VERSION = 1
STATUSES = ("pass", "info", "warn", "fail", "skip", "error")
NEED_ATTENTION = ("fail", "error", "warn")
OUT_OF_BUDGET = {"out_of_budget": True}  # data of a check that there was no time for
_ABOUT_WORKERS = {  # and `worker.`: what fails there does no harm without workers
    "ds.open_handles",
    "ds.unpicklable",
    "ds.non_leaf",
    "ds.temp_tensor",
    "ds.cuda_member",
    "ds.rng",
    "ds.iterable_shard",
    "ds.finalizer",
    "ds.pickle_size",
    "mp.main_guard",
    "mp.cuda_fork",
    "env.shm",
}
# A warning of one of these, or one that speaks against workers, means that workers can deliver wrong items.
_ABOUT_ITEMS = {
    "ds.items",
    "ds.output",
    "ds.rng",
    "ds.state",
    "ds.epoch",
    "ds.iterable_shard",
    "worker.consistency",
}
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        id: Of the check.
        status: One of `STATUSES`; `error` means that the check itself broke, and is never shown as passed.
        summary: What was found, one or two sentences.
        where: The attribute path, file or index it concerns.
        matters: Why it matters on this platform with this start method.
        fix: Exactly what to do.
        data: JSON-able details.
        duration_s: Seconds the check took.
        severity: The most severe status that the check can have.
    """

    id: str
    status: str
    summary: str
    where: str = ""
    matters: str = ""
    fix: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    severity: str = "fail"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as one process sends them to another."""
        return {
            "id": self.id,
            "status": self.status,
            "summary": self.summary,
            "where": self.where,
            "matters": self.matters,
            "fix": self.fix,
            "duration_s": round(self.duration_s, 4),
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Finding:
        """Rebuild a finding from `to_dict`; other keys are left out."""
        names = ("id", "status", "summary", "where", "matters", "fix", "data", "duration_s")
        return cls(**{name: raw[name] for name in names if name in raw})


def _is_left_out(check: Finding) -> bool:
    """Return whether the data set or real workers could not be judged because there was no time left."""
    return check.id.startswith(("ds.", "worker.")) and OUT_OF_BUDGET.items() <= check.data.items()


@dataclass(frozen=True)
class Report:
    """Everything one examination found.

    Args:
        version: Version of dsrface.
        target: What was examined, in the user's words; empty for the platform alone.
        platform: Facts about machine and installation.
        checks: Outcomes, in the order of the registry.
        recommendation: See `recommend.Recommendation.to_dict`; None without a data set.
        lesson: The lines that teach the classic case; empty when it is not the case.
        duration_s: Seconds the whole examination took.
        is_strict: Warnings count as failures.
        launched_workers: The `num_workers` of the loader in a launch; None when nothing was launched.
    """

    version: str
    target: str
    platform: Mapping[str, Any]
    checks: tuple[Finding, ...]
    recommendation: Mapping[str, Any] | None
    lesson: tuple[str, ...]
    duration_s: float
    is_strict: bool = False
    launched_workers: int | None = None

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
        """0 fit, 1 a check failed, 3 the data set could not be built, or there was no time to build it."""
        build = self.check("ds.build")
        if (build is not None and build.status == "fail") or self._is_unseen:
            return 3
        return 1 if self.verdict == "fail" else 0

    @property
    def _is_unseen(self) -> bool:
        """Whether there was no time to build the data set, so that nothing of it was examined."""
        build = self.check("ds.build")
        return build is not None and _is_left_out(build)

    def counts(self) -> dict[str, int]:
        """Return how many checks have each status."""
        return {status: sum(check.status == status for check in self.checks) for status in STATUSES}

    def check(self, id: str) -> Finding | None:
        """Return the check with this id, or None when it was not made."""
        return next((check for check in self.checks if check.id == id), None)

    def verdict_line(self) -> str:
        """Return the last line of the report: counts and what to do, to be quoted as it is."""
        counts = self.counts()
        words = [
            count_text(counts["fail"], "failure"),
            count_text(counts["warn"] + counts["error"], "warning"),
            f"{counts['pass'] + counts['info']} passed",
        ]
        if counts["skip"]:
            words.append(f"{counts['skip']} skipped{self._named('skip')}")
        methods = [f"{name} {'safe' if is_safe else 'not safe'}" for name, is_safe in self.methods().items()]
        by_method = f"; workers by {', '.join(methods)}" if len(methods) > 1 else ""
        return f"{', '.join(words)} in {self.duration_s:.0f} s{by_method} -> {self.advice()}"

    def advice(self) -> str:
        """Return what to do, in a few words; wrong items are never called fit to run."""
        if self.verdict == "fail":
            failed = [check.id for check in self.checks if check.status == "fail"]
            if self.launched_workers == 0 and failed and all(map(_is_about_workers, failed)):
                return f"as launched, without workers, it is right; give it none before {failed[0]} is mended"
            return "do not launch like this"
        if self._is_unseen:
            return "not examined yet: give a longer --budget"
        unproved = next((check.id for check in self.checks if _is_left_out(check)), "")
        if self.verdict == "pass":
            return f"clean but for {unproved}: give a longer --budget" if unproved else "ready"
        warnings = [check for check in self.checks if check.status in ("warn", "error")]
        wrong = [check.id for check in warnings if check.id in _ABOUT_ITEMS or check.data.get("blocks")]
        if wrong:
            return f"workers can deliver wrong items: see {wrong[0]} first"
        if unproved:
            return f"{unproved} was left out: see {warnings[0].id}, and give a longer --budget"
        return f"runs here; see {warnings[0].id} first"

    def read_on(self) -> str:
        """Return the command that explains the gravest finding; empty when nothing needs attention."""
        for status in ("fail", "warn", "error"):
            for check in self.checks:
                if check.status == status:
                    return f"dsrface doctor --explain {check.id}"
        return ""

    def loader_line(self) -> str:
        """Return the recommended loader as a line to copy; empty without a recommendation."""
        if self.recommendation is None:
            return ""
        batch = self.check("ds.output")
        size = batch.data.get("batch_size") if batch is not None else None
        return f"DataLoader(dataset, {f'batch_size={size}, ' if size else ''}{self.recommendation['flags']})"

    def _named(self, status: str) -> str:
        """Return the ids with a status in brackets, where they are few."""
        ids = [check.id for check in self.checks if check.status == status]
        return f" ({', '.join(ids)})" if len(ids) <= _NAMED else ""

    def methods(self) -> dict[str, bool]:
        """Return the start methods that real workers were started by, and whether each is safe."""
        failed = [check for check in self.checks if check.status == "fail"]
        return {
            method: not any(check.id == id or method in check.data.get("blocks", ()) for check in failed)
            for method in METHODS
            if (made := self.check(id := f"worker.{method}")) is not None and made.status != "skip"
        }

    def __str__(self) -> str:
        return "\n".join(line for line, _ in self._lines())

    def __rich__(self) -> str:
        """Return the report with colours, in the markup of rich, for `rich.print` and rich consoles."""
        escaped = ((line.replace("[", r"\["), style) for line, style in self._lines())
        return "\n".join(f"[{style}]{line}[/]" if style else line for line, style in escaped)

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Yield what needs attention, the settings to use and the verdict, each line with its style."""
        for check in self.checks:
            if check.status in NEED_ATTENTION:
                style = "bold yellow" if check.status == "warn" else "bold red"
                yield without_addresses(f"{check.status.upper()} {check.id}: {check.summary}"), style
                parts = (("where", check.where), ("matters", check.matters), ("fix", check.fix))
                for label, text in parts:
                    if text:
                        yield without_addresses(f"  {label}: {text}"), ""
        if self.recommendation is not None:
            yield self.loader_line(), "cyan"
        yield f"{self.target}: {self.verdict_line()}", "bold"

    def _repr_html_(self) -> str:
        from dsrface.doctor.report.html import report_html

        return report_html(self)

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
            "checks": [_described(finding) for finding in self.checks],
            "recommendation": dict(self.recommendation) if self.recommendation is not None else None,
            "lesson": list(self.lesson),
            "summary": self.counts(),
        }


def _is_about_workers(id: str) -> bool:
    return id in _ABOUT_WORKERS or id.startswith("worker.")


def _described(finding: Finding) -> dict[str, Any]:
    """Return a finding as it stands in the JSON report."""
    more = {"severity": finding.severity, "doc": f"dsrface doctor --explain {finding.id}"}
    return {**finding.to_dict(), **more}


def in_order(findings: Iterable[Finding], ids: Iterable[str]) -> tuple[Finding, ...]:
    """Return the findings in the order of the ids; of two with one id the more severe, else the later."""
    severity = {status: rank for rank, status in enumerate(("skip", "pass", "info", "warn", "error", "fail"))}
    kept: dict[str, Finding] = {}
    for finding in findings:
        known = kept.get(finding.id)
        if known is None or severity[finding.status] >= severity[known.status]:
            kept[finding.id] = finding
    return tuple(kept[id] for id in ids if id in kept)
