"""The program: every command in the order in which people meet them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import typer

from dsrface import __version__
from dsrface.cli import cache_commands, config_commands, explain_command, people, pipeline, tools
from dsrface.cli.output import guarded, output_of
from dsrface.cli.parser_errors import refuse_empty_words, usage_error

# The classical, plain help: rich's would read "[/x]" in a help text as markup.
app = typer.Typer(
    name="dsrface",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for group in (pipeline.app, tools.app, people.app, explain_command.app):
    app.registered_commands += group.registered_commands
app.add_typer(cache_commands.app, name="cache")
app.add_typer(config_commands.app, name="config")

# The base of all complaints of typer's parser, whose module is private.
_ParserError = cast(type[Exception], typer.BadParameter.__mro__[2])


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: Words after the program's name.
    """
    output = output_of(list(arguments))
    program = typer.main.get_command(app)
    try:
        with guarded(output):
            refuse_empty_words(arguments)
            try:
                code = program.main(list(arguments), prog_name="dsrface", standalone_mode=False)
            except _ParserError as error:
                raise usage_error(error, arguments, program) from None
    except typer.Exit as error:
        return error.exit_code
    return code if isinstance(code, int) else 0


def _show_version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        typer.echo(f"dsrface {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Super-resolve very-low-resolution faces, train a recogniser on them, and keep DataLoader workers safe.

    Start with `dsrface demo`; then prepare, train-dsr, precompute, finetune, evaluate on your own photos.
    `dsrface doctor` tells what DataLoader workers will do, for any PyTorch data set.
    """
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
