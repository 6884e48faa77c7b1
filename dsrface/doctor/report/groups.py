"""The report in four groups, as people ask: the machine, the workers, the items, the speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dsrface.doctor.report import Finding

GROUPS: Mapping[str, str] = {
    "machine": "Machine",
    "workers": "Workers",
    "items": "Items",
    "speed": "Speed",
}
_PREFIXES = {"env": "machine", "mp": "workers", "worker": "workers", "ds": "items", "perf": "speed"}
_WORKERS = {
    "ds.unpicklable",
    "ds.non_leaf",
    "ds.temp_tensor",
    "ds.cuda_member",
    "ds.open_handles",
    "ds.pickle_size",
    "ds.refcount_growth",
    "ds.finalizer",
    "ds.iterable_shard",
}
_SPEED = {"env.threads", "env.storage", "env.decoder"}
_GRAVEST_FIRST = ("fail", "error", "warn", "pass", "info", "skip")


def group_of(id: str) -> str:
    """Return the group of a check, one of `GROUPS`."""
    if id in _WORKERS:
        return "workers"
    return "speed" if id in _SPEED else _PREFIXES[id.partition(".")[0]]


def grouped(checks: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each group that has any, the gravest first."""
    found: dict[str, list[Finding]] = {group: [] for group in GROUPS}
    for check in checks:
        found[group_of(check.id)].append(check)
    for members in found.values():
        members.sort(key=lambda check: _GRAVEST_FIRST.index(check.status))
    return {group: members for group, members in found.items() if members}


def headline(group: str, checks: Iterable[Finding]) -> str:
    """Return what is known of a group in one line, without its faults.

    Args:
        group: One of `GROUPS`.
        checks: Its findings.
    """
    found = {check.id: check for check in checks}
    return _HEADLINES[group](found)


def _machine(found: Mapping[str, Finding]) -> str:
    python, torch = _said(found, "env.python"), _said(found, "env.torch")
    parts = (python.partition(" on ")[0], torch.partition(",")[0], _said(found, "env.cpu"))
    return ", ".join(filter(None, parts))


def _workers(found: Mapping[str, Finding]) -> str:
    proofs = [id for id in found if id.startswith("worker.") and id != "worker.consistency"]
    parts = [text for id in proofs if (text := _said(found, id))]
    is_clean = not any(check.status == "fail" for check in found.values())
    if parts and is_clean and (same := found.get("worker.consistency")) and same.status == "pass":
        parts.append("equal to those of a plain loop")
    method = _said(found, "mp.start_method").partition(":")[0]
    return ", ".join(parts) or (f"start by {method}" if method else "")


def _items(found: Mapping[str, Finding]) -> str:
    return "; ".join(filter(None, (_said(found, id) for id in ("ds.build", "ds.items", "ds.output"))))


def _speed(found: Mapping[str, Finding]) -> str:
    reason = _said(found, "perf.recommend").partition(": ")[2]
    return "; ".join(filter(None, (_said(found, "perf.launch"), reason)))


def _said(found: Mapping[str, Finding], id: str) -> str:
    check = found.get(id)
    return check.summary if check is not None and check.status in ("pass", "info") else ""


_HEADLINES = {"machine": _machine, "workers": _workers, "items": _items, "speed": _speed}
