"""Every error a user can meet: one hierarchy, one exit code a family.

    DsrfaceError                  70   our own bug, when nothing below fits
    +-- UsageError                 2   flags, configuration
    +-- DataError                  3   photos, data sets, pairs files
    |   +-- ImageError             3   one image that cannot be used
    +-- WeightsError               4   weight files, key differences
    +-- MachineError               5   device, disk, installation, missing extra
    +-- TrainingError              6   non-finite loss, out of memory, collapse
    +-- RunError                   7   run folder or cache: exists, locked, stale, damaged
    +-- WorkerError                8   a DataLoader worker died or hung

A message says what happened with the value, where (file, key, sample, step) and what to do. Each error
carries a stable `id` (kebab-case) that `dsrface explain` explains. Every class can be built from one string
and pickled, because a worker process re-raises that way.
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_DONE = 0
EXIT_ANSWER_IS_NO = 1
# 128 and the signal's number, as shells have it.
EXIT_HUNG_UP = 129
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class DsrfaceError(Exception):
    """An error with a stable id, the place it concerns and what to do about it.

    Args:
        message: What happened, with the offending value; one or two sentences.
        id: Stable kebab-case identifier; the class's own `default_id` when empty.
        where: File, key, sample or step that the message is about; may be empty.
        hint: What to do next; may be empty.
    """

    exit_code: ClassVar[int] = 70
    default_id: ClassVar[str] = "internal"

    def __init__(self, message: str, *, id: str = "", where: object = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.id = id or self.default_id
        self.where = str(where)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.id, self.where, self.hint)

    def __str__(self) -> str:
        parts = [self.message]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.hint:
            parts.append(f"to do: {self.hint}")
        return "\n".join(parts)

    def as_dict(self) -> dict[str, str | int]:
        """Return the error as the JSON object that `--json` prints on stderr."""
        return {
            "error": self.id,
            "family": type(self).__name__,
            "exit_code": self.exit_code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


def _rebuild(cls: type[DsrfaceError], message: str, id: str, where: str, hint: str) -> DsrfaceError:
    return cls(message, id=id, where=where, hint=hint)


class UsageError(DsrfaceError):
    """A flag, an argument or a configuration value cannot be used as given."""

    exit_code = 2
    default_id = "usage"


class DataError(DsrfaceError):
    """The data set, a photo folder or a pairs file is not what it should be."""

    exit_code = 3
    default_id = "data"


class ImageError(DataError):
    """One image cannot be used; `id` is the short reason that `prepare` counts by."""

    default_id = "image-unreadable"


class WeightsError(DsrfaceError):
    """A weight file is damaged, unsafe, or does not match the network."""

    exit_code = 4
    default_id = "weights"


class MachineError(DsrfaceError):
    """This machine or installation cannot do what was asked (device, disk, missing extra)."""

    exit_code = 5
    default_id = "machine"


class TrainingError(DsrfaceError):
    """Training cannot go on: non-finite loss, out of memory, collapsed embedding."""

    exit_code = 6
    default_id = "training"


class RunError(DsrfaceError):
    """A run folder or a cache exists, is locked, stale, damaged or cannot be resumed."""

    exit_code = 7
    default_id = "run"


class WorkerError(DsrfaceError):
    """A DataLoader worker died or hung."""

    exit_code = 8
    default_id = "worker"
