"""The checks made so far, and what they forbid: the recommendation asks here, so that it contradicts none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from dsrface.doctor.report import Finding
from dsrface.doctor.trace.kinds import CONTRACTS

_SAYS_NO = ("warn", "fail")
_SUSPICIONS = ("mp.threads", "ds.rng", "ds.open_handles")  # that real workers confirm or clear


class Findings:
    """Collects checks; one that settles its id replaces what was said before of it.

    Args:
        tell: Hears of each check as it comes.
        checks: Those made before.
    """

    def __init__(self, tell: Callable[[Finding], None], checks: Iterable[Finding] = ()) -> None:
        self._tell = tell
        self._checks = list(checks)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._checks)

    def add(self, *checks: Finding) -> None:
        """Add checks."""
        for check in checks:
            if check.data.get("settles"):
                self._checks = [other for other in self._checks if other.id != check.id]
            self._checks.append(check)
            self._tell(check)

    def trial(self) -> Findings:
        """Return a copy that reports nothing until it is accepted."""
        return Findings(lambda _: None, self._checks)

    def accept(self, trial: Findings) -> None:
        """Take over what a trial has found."""
        new = [check for check in trial if check not in self._checks]
        self._checks = list(trial)
        for check in new:
            self._tell(check)

    def replace(self, check: Finding) -> None:
        """Put a check in the place of what was said before of its id."""
        self._checks = [other for other in self._checks if other.id != check.id] + [check]
        self._tell(check)

    def get(self, id: str) -> Finding | None:
        """Return the last check with an id."""
        return next((check for check in reversed(self._checks) if check.id == id), None)

    def failed(self, id: str) -> Finding | None:
        """Return the first failure with an id."""
        return next((check for check in self._checks if check.id == id and check.status == "fail"), None)

    def against(self, method: str) -> Finding | None:
        """Return the first finding that forbids workers of a start method, the most severe first."""
        blocking = [
            check
            for check in self._checks
            if check.status in _SAYS_NO and method in check.data.get("blocks", ())
        ]
        return min(blocking, key=lambda check: check.status != "fail", default=None)

    def settle(self, method: str) -> None:
        """Weigh what was only suspected against what workers of a start method have shown, or could not."""
        proof = self.get(f"worker.{method}")
        if proof is None or proof.status not in ("pass", "skip"):
            return
        for check in self.suspicions():
            if check.data.get("users") or _is_forbidden(check):
                continue  # stands by itself
            if proof.status == "skip":
                self._soften(check, f"not proved: {proof.summary}")
            elif check.id == "mp.threads":
                self._soften(check, f"{proof.data.get('items', 0)} items came through all the same")

    def suspicions(self) -> list[Finding]:
        """Return what speaks against workers and could only be confirmed or cleared by them."""
        found = [self.get(id) for id in _SUSPICIONS]
        return [check for check in found if check and check.status == "warn" and "settles" not in check.data]

    def _soften(self, check: Finding, text: str) -> None:
        self.replace(replace(check, status="info", summary=f"{check.summary}; {text}"))

    def against_persistent(self) -> Finding | None:
        """Return the finding that forbids to keep workers from one epoch to the next."""
        return next((finding for finding in self._checks if finding.data.get("blocks_persistent")), None)


def _is_forbidden(check: Finding) -> bool:
    """Return whether a member is of a kind whose makers forbid it to cross a fork, whatever a trial shows."""
    return any(member.get("kind") in CONTRACTS for member in check.data.get("members", ()))
