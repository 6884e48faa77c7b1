"""What every command says at its end: the result, where it is, the next command."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dsrface.errors import EXIT_DONE


@dataclass(frozen=True)
class CommandResult:
    """Result of a command.

    Args:
        summary: The result in a line or two.
        location: The file or folder that it is in.
        next_command: What to run next; may be empty.
    """

    summary: str
    location: str
    next_command: str

    @property
    def exit_code(self) -> int:
        """0: what was asked for is done."""
        return EXIT_DONE

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `--json`."""
        return asdict(self)
