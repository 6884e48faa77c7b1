"""`dsrface explain ID`: what an error, a check of the doctor or a rule of its scanner means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from dsrface.cli.execute import plain_command
from dsrface.cli.output import Output
from dsrface.errors import UsageError

app = typer.Typer()


@plain_command(app, "explain")
def explain(
    id: Annotated[str, typer.Argument(metavar="ID", help="As an error, a report or a scan prints it.")],
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
        near = difflib.get_close_matches(id, known, n=3, cutoff=0.4)
        raise UsageError(
            f"There is no error and no check {id!r}.",
            id="unknown-id",
            hint=f"Did you mean {' or '.join(near)}?" if near else "Take an id from an error or a report.",
        )
    if output.json:
        output.document(known[id].to_dict())
    else:
        output.line(known[id].text())


def _known() -> Mapping[str, Any]:
    from dsrface.doctor.checks.registry import all_checks
    from dsrface.doctor.scan.rules import RULES
    from dsrface.runtime.error_texts import error_texts

    return {**error_texts(), **all_checks(), **RULES}
