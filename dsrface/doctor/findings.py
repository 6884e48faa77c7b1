"""The checks made so far, and what they forbid: the recommendation asks here, so that it contradicts none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dsrface.doctor.report import Finding

_SAYS_NO = ("warn", "fail")


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
        """Return a copy of which nobody hears until it is accepted."""
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

    def against_persistent(self) -> Finding | None:
        """Return the finding that forbids to keep workers from one epoch to the next."""
        return next((finding for finding in self._checks if finding.data.get("blocks_persistent")), None)
