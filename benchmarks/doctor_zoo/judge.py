"""Hold one report of the doctor against what its case declares, and count the outcomes."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from declare import Case

BUDGET_TOLERANCE = 1.2
FAULT_OUTCOMES = ("right", "another", "missed", "unproved", "unfinished")
HEALTHY_OUTCOMES = ("silent", "warning", "failure", "number", "unproved", "unfinished")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one case under one start method.

    Args:
        case: Name of the case.
        kind: Its group.
        method: Start method.
        is_fault: Whether there was something to find.
        is_silent: Whether the data would have been wrong without an error.
        outcome: One of `FAULT_OUTCOMES` or `HEALTHY_OUTCOMES`, or `skipped`.
        why: What is wrong about the answer; empty when nothing is.
        seconds: Time of the whole examination.
        is_late: It took more than 1.2 times its budget.
        is_littered: It left processes behind.
    """

    case: str
    kind: str
    method: str
    is_fault: bool
    is_silent: bool
    outcome: str
    why: str = ""
    seconds: float = 0.0
    is_late: bool = False
    is_littered: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the doctor said what it should."""
        return self.outcome in ("right", "silent", "skipped")


def judge(case: Case, report: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the outcome and what is wrong about it; `report` is None when there was no answer."""
    if report is None:
        return "unfinished", "no report"
    findings = _findings(report)
    if case.is_fault:
        outcome, why = _judge_fault(case, report, findings)
        left_out = _left_out(report) if outcome == "missed" else ""
        return ("unproved", left_out) if left_out else (outcome, why)
    told = [finding for finding in findings if not _is_excused(case, finding)]
    if told:
        worst = "failure" if any(finding["status"] == "fail" for finding in told) else "warning"
        return worst, "; ".join(_short(finding) for finding in told)
    if wrong := _wrong_advice(case, report):
        return "number", wrong
    left_out = _left_out(report)
    return ("unproved", left_out) if left_out else ("silent", "")


def _judge_fault(case: Case, report: Mapping[str, Any], findings: list[dict[str, Any]]) -> tuple[str, str]:
    if not case.persistent:  # a remark is enough where the recommendation already avoids the fault
        findings = findings + [check for check in report.get("checks", []) if check["status"] == "info"]
    named = [
        finding
        for finding in findings
        if any(fnmatch.fnmatch(finding["id"], pattern) for pattern in case.ids)
    ]
    wrong = _wrong_advice(case, report)
    if not named:
        told = [finding for finding in findings if not finding["id"].startswith("env.")]
        told = [finding for finding in told if finding["status"] in ("warn", "fail")]
        problem = "; ".join(_short(finding) for finding in told)
        return ("another" if told else "missed"), "; ".join(filter(None, (problem, wrong)))
    missing = min((_missing(case, finding) for finding in named), key=len)
    problems = [*missing, *filter(None, [wrong])]
    return ("another", "; ".join(problems)) if problems else ("right", "")


def _missing(case: Case, finding: Mapping[str, Any]) -> list[str]:
    text = json.dumps(
        [finding.get(key) for key in ("summary", "where", "matters", "data")], ensure_ascii=False
    )
    problems = []
    if not re.search(case.where, text):
        problems.append(f"{_short(finding)} does not name {case.where}")
    if not re.search(case.fix, finding.get("fix", ""), re.IGNORECASE):
        problems.append(f"{finding['id']} advises: {finding.get('fix', '')[:160]!r}")
    return problems


def _left_out(report: Mapping[str, Any]) -> str:
    """Return what the doctor says when its budget ended before workers were proved."""
    proofs = (f"worker.{report.get('platform', {}).get('start_method')}", "worker.consistency")
    for check in report.get("checks", []):
        if check["id"] in proofs and check["data"].get("out_of_budget"):
            return f"{check['id']}: {check['summary']}"
    return ""


def _wrong_advice(case: Case, report: Mapping[str, Any]) -> str:
    advice = report.get("recommendation")
    if not advice:
        return ""
    number = advice["num_workers"]
    if case.most_workers is not None and number > case.most_workers and not _has_other_method(case, advice):
        return f"recommends {number} workers, at most {case.most_workers} are right"
    if number < case.least_workers:
        return f"recommends {number} workers, at least {case.least_workers} are right"
    if not case.persistent and number and advice["persistent_workers"]:
        return "recommends persistent_workers=True"
    return ""


def _has_other_method(case: Case, advice: Mapping[str, Any]) -> bool:
    """Whether the advice leaves the start methods in which the case is a fault."""
    context = advice.get("multiprocessing_context")
    return context is not None and context not in case.methods


def _findings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "checks" not in report:  # a usage error
        error = report.get("error", report)
        text = str(error.get("message", error))
        return [
            {
                "id": str(error.get("id", "error")),
                "status": "fail",
                "summary": text,
                "fix": str(error.get("hint", "")),
            }
        ]
    return [check for check in report["checks"] if check["status"] in ("warn", "fail", "error")]


def _is_excused(case: Case, finding: Mapping[str, Any]) -> bool:
    """What the machine lacks is no fault of a data set."""
    return finding["id"].startswith("env.") or finding["id"] in case.allowed


def _short(finding: Mapping[str, Any]) -> str:
    return f"{finding['status']} {finding['id']}: {finding['summary'][:160]}"


def by_method(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """Return the confusion table: a column for each start method, the counts' names first."""
    head = [
        "start method",
        "faults",
        "right id, path and fix",
        "found with another",
        "missed",
        "not proved in budget",
        "no answer",
        "missed with wrong data",
        "healthy",
        "silent",
        "false warning",
        "false failure",
        "wrong number",
        "not proved in budget",
        "no answer",
        "over budget",
        "left behind",
    ]
    columns = [head]
    for method, group in _groups(verdicts, "method").items():
        faults = [verdict for verdict in group if verdict.is_fault]
        sound = [verdict for verdict in group if not verdict.is_fault]
        cells = [len(faults), *(_count(faults, outcome) for outcome in FAULT_OUTCOMES)]
        cells.append(sum(verdict.is_silent and verdict.outcome == "missed" for verdict in faults))
        cells += [len(sound), *(_count(sound, outcome) for outcome in HEALTHY_OUTCOMES)]
        cells += [sum(verdict.is_late for verdict in group), sum(verdict.is_littered for verdict in group)]
        columns.append([method, *map(str, cells)])
    return [list(row) for row in zip(*columns, strict=True)]


def by_kind(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """Return a row for each kind of case, all start methods together, the head first."""
    rows = [["kind", "faults", "right", "healthy", "silent", "not proved or no answer", "wrong"]]
    for kind, group in _groups(verdicts, "kind").items():
        faults = [verdict for verdict in group if verdict.is_fault]
        sound = [verdict for verdict in group if not verdict.is_fault]
        open_ = _count(group, "unproved") + _count(group, "unfinished")
        good = sum(verdict.is_good for verdict in group)
        cells = [len(faults), _count(faults, "right"), len(sound), _count(sound, "silent"), open_]
        rows.append([kind, *map(str, [*cells, len(group) - good - open_])])
    return rows


def _groups(verdicts: Iterable[Verdict], what: str) -> dict[str, list[Verdict]]:
    groups: dict[str, list[Verdict]] = collections.defaultdict(list)
    for verdict in verdicts:
        if verdict.outcome != "skipped":
            groups[getattr(verdict, what)].append(verdict)
    return groups


def _count(verdicts: list[Verdict], outcome: str) -> int:
    return sum(verdict.outcome == outcome for verdict in verdicts)


def as_text(rows: list[list[str]], *, is_markdown: bool) -> str:
    """Return the rows as lines; the first one is the head."""
    if is_markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        return "\n".join(lines)
    width = max(12, *(2 + len(cell) for cell in rows[0][1:]))
    return "\n".join(f"{row[0]:24}" + "".join(f"{cell:>{width}}" for cell in row[1:]) for row in rows)
