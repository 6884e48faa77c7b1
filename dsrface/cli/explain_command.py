"""`dsrface explain ID`: what an error, a check of the doctor or a rule of its scanner means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dsrface.cli.execute import plain_command
from dsrface.cli.output import Output
from dsrface.errors import UsageError

app = typer.Typer()
_WHAT_TO_GIVE = (
    "Take an id from a message: dsrface explain bad-config\n"
    'Or paste the text of an error: dsrface explain "can\'t pickle local object"'
)
_NUMBER = re.compile("0x[0-9a-f]+|[0-9]+(?:, [0-9]+)*")
_SHORTEST = 8  # characters of an error text; shorter ones stand in many


@plain_command(app, "explain")
def explain(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="As a message prints it; or the text of an error."),
    ],
    *,
    output: Output,
) -> None:
    """Explain an error or a check.

    What it means, why, and what to do.

    Example:

        dsrface explain bad-config
    """
    known = _known()
    if id not in known:
        found = _with_text(id, known)
        if len(found) != 1:
            near = found[:3] or difflib.get_close_matches(id, known, n=3, cutoff=0.5)
            raise UsageError(
                f"There is no error and no check {id!r}.",
                id="unknown-id",
                hint=f"Did you mean {' or '.join(near)}?" if near else _WHAT_TO_GIVE,
            )
        id = found[0]
    if output.json:
        output.document(known[id].to_dict())
    else:
        output.line(known[id].text())


def _with_text(text: str, known: Mapping[str, Any]) -> list[str]:
    """Return the ids whose error texts have this one, or stand in it: an error pasted as it was printed."""
    if len(text) < _SHORTEST:
        return []
    text = _without_numbers(text)
    found = []
    for id, item in known.items():
        errors = map(_without_numbers, getattr(item, "errors", ()))
        if any(text in error or error in text for error in errors):
            found.append(id)
    return found


def _without_numbers(text: str) -> str:
    """Return an error text without what differs each time: process ids, addresses, sizes."""
    return _NUMBER.sub("#", text.lower()).rstrip(". ")


def _known() -> Mapping[str, Any]:
    from dsrface.doctor.checks.registry import all_checks
    from dsrface.doctor.scan.rules import RULES
    from dsrface.runtime.error_texts import error_texts

    return {**error_texts(), **all_checks(), **RULES}
