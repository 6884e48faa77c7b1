"""From flags to an exit code: resolve the configuration, run the command, show what came out."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from dsrface.cli.field_help import ConfiguredCommand
from dsrface.cli.look_first import look_first
from dsrface.cli.missing import as_typed, example_of, missing_hint, typed_names
from dsrface.cli.options import CONFIG_OPTIONS, OUTPUT_OPTIONS
from dsrface.cli.output import Output, end_in_order, guarded, listen_to_logs
from dsrface.errors import MachineError, UsageError
from dsrface.runtime.command_line import command_line, resume_command
from dsrface.runtime.resources import address_limit_hint

Render = Callable[[Any, Output], None]
Flags = Mapping[str, object]
Collect = Callable[..., Flags]

# Command -> module of its configuration, and the name of the class.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("demo", "DemoConfig"),
    "prepare": ("prepare", "PrepareConfig"),
    "train-dsr": ("train_dsr", "TrainDsrConfig"),
    "precompute": ("precompute", "PrecomputeConfig"),
    "finetune": ("finetune", "FinetuneConfig"),
    "evaluate": ("evaluate", "EvaluateConfig"),
    "doctor": ("doctor", "DoctorConfig"),
    "bench": ("bench", "BenchConfig"),
    "export": ("export", "ExportConfig"),
    "embed": ("embed", "EmbedConfig"),
    "enrol": ("people", "EnrolConfig"),
    "identify": ("people", "IdentifyConfig"),
    "verify": ("people", "VerifyConfig"),
    "cache": ("cache", "CacheConfig"),
}


def schema_of(command: str) -> type[Any]:
    """Return a command's configuration class; free of torch."""
    module, name = COMMANDS[command]
    return getattr(importlib.import_module(f"dsrface.config.{module}"), name)  # type: ignore[no-any-return]


def command(
    app: typer.Typer, name: str, *, runs: str = "", render: Render | None = None
) -> Callable[[Collect], Collect]:
    """Register a function that collects flags; the command then runs the use case in `dsrface.commands`.

    The function's parameters are named as the keys of the command's configuration, None meaning "not given";
    it returns them as a mapping, mostly `locals()`. The options that every command has are added here.
    An option without a help text takes that of the key, with its choices and bounds. `preset` is a flag of
    the sources, not a key.

    Args:
        app: Where the command is registered.
        name: What people type.
        runs: One of `COMMANDS`; `name` when empty.
        render: Prints the result before the closing facts.
    """

    def register(collect: Collect) -> Collect:
        def body(flags: dict[str, Any], output: Output, common: Mapping[str, Any]) -> None:
            collected = dict(collect(**flags))
            preset = collected.pop("preset", None)
            sources = Sources(
                str(preset) if preset else None,
                common["config"],
                tuple(common["set_"] or ()),
                collected,
                typed_names(collect),
                example_of(inspect.getdoc(collect) or ""),
            )
            execute(runs or name, output, sources, render=render)

        schema = staticmethod(functools.partial(schema_of, runs or name))
        added = {**CONFIG_OPTIONS, **OUTPUT_OPTIONS}
        kind = type("Configured", (ConfiguredCommand,), {"schema": schema, "common": tuple(added)})
        _register(app, name, collect, added, body, kind)
        return collect

    return register


def plain_command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function without a configuration; it takes `output` as its last argument."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def body(flags: dict[str, Any], output: Output, common: Mapping[str, Any]) -> None:
            del common
            function(**flags, output=output)

        _register(app, name, function, OUTPUT_OPTIONS, body)
        return function

    return register


@dataclass(frozen=True)
class Sources:
    """Where the values of one invocation come from, the weakest first."""

    preset: str | None
    config_file: Path | None
    assignments: tuple[str, ...]
    flags: Mapping[str, object]
    names: Mapping[str, str] = field(default_factory=dict)  # key to the flag or argument that people type
    example: str = ""  # a command line that is complete


def execute(name: str, output: Output, sources: Sources, *, render: Render | None = None) -> None:
    """Resolve the configuration, run the command and show its result.

    Raises:
        typer.Exit: with the result's exit code.
    """
    from dsrface.config.sources import resolve

    try:
        resolved = resolve(
            schema_of(name),
            preset=sources.preset,
            config_file=sources.config_file,
            assignments=sources.assignments,
            flags=sources.flags,
        )
    except UsageError as error:
        error.message = as_typed(error.message, sources.names)
        error.hint = error.hint or missing_hint(error, name, sources.flags, sources.example)
        raise
    look_first(resolved.config)
    with _spinner(output, "loading"):
        module = import_command(name.replace("-", "_"))
    output.goes_on_with = functools.partial(_goes_on_with, resolved.config)
    with _stdout_for_results(output), _events(output) as emit:
        result = module.run(resolved.config, emit=emit)
    if int(os.environ.get("RANK", "0")) == 0:  # under torchrun, one process speaks
        if output.json:
            output.document(result.to_dict())
        else:
            if render is not None:
                render(result, output)
            output.facts(result)
    raise typer.Exit(int(getattr(result, "exit_code", 0)))


def _goes_on_with(config: Any) -> str:
    """Return the command that goes on where one is interrupted now; empty where none does."""
    from dsrface.models.sources import is_run

    run = getattr(config, "run", None)
    if run is not None and is_run(run):
        return resume_command(config.command, config.data, run)
    return command_line() if config.goes_on else ""


def import_command(name: str) -> Any:
    """Import a command's module, and torch with it.

    Raises:
        MachineError: the installation is broken: torch and torchvision do not fit, a package is missing.
    """
    try:
        return importlib.import_module(f"dsrface.commands.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "dsrface":
            raise
        raise MachineError(
            f"The package {error.name} is not installed.",
            id="package-missing",
            hint=f"python -m pip install {error.name}",
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        text = str(error)
        if "torchvision::" in text:
            raise MachineError(
                "torch and torchvision do not belong together: torchvision's operators cannot be registered.",
                id="torchvision-mismatch",
                hint="Install both in one command, so that they come from one place:\n"
                "python -m pip install --force-reinstall torch torchvision",
            ) from error
        raise MachineError(
            f"Importing what {name} needs failed: {text.splitlines()[0] if text else type(error).__name__}",
            id="broken-install",
            hint=address_limit_hint()
            or "`dsrface doctor` looks at the installation; -vv shows where the import failed.",
        ) from error


def _spinner(output: Output, text: str) -> contextlib.AbstractContextManager[object]:
    """Show on a terminal that something goes on, for what reports no progress."""
    is_shown = output.err.is_terminal and output.verbosity >= 0 and not output.json
    return output.err.status(text) if is_shown else contextlib.nullcontext()


@contextlib.contextmanager
def _events(output: Output) -> Iterator[Callable[[Any], None]]:
    from dsrface.cli.progress import make_sink

    sink = make_sink(output)
    try:
        yield sink.emit
    finally:
        sink.close()


@contextlib.contextmanager
def _stdout_for_results(output: Output) -> Iterator[None]:
    """Keep a library's prints out of the JSON document."""
    with contextlib.redirect_stdout(sys.stderr) if output.json else contextlib.nullcontext():
        yield


def _register(
    app: typer.Typer,
    name: str,
    function: Callable[..., Any],
    added: Mapping[str, tuple[Any, object]],
    body: Callable[[dict[str, Any], Output, Mapping[str, Any]], None],
    kind: type[TyperCommand] | None = None,
) -> None:
    """Give `function`'s parameters and the added ones to typer, as one signature."""

    def invoke(**values: Any) -> None:
        common = {key: values.pop(key) for key in added}
        output = Output(json=common["json"], verbosity=-1 if common["quiet"] else min(common["verbose"], 2))
        listen_to_logs(output)
        end_in_order()
        with guarded(output):
            body(values, output, common)

    signature = inspect.signature(function, eval_str=True)
    own = [item for item in signature.parameters.values() if item.annotation is not Output]
    keyword = inspect.Parameter.KEYWORD_ONLY
    extra = [
        inspect.Parameter(key, keyword, default=default, annotation=kind)
        for key, (kind, default) in added.items()
    ]
    invoke.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
    invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *extra)}
    invoke.__doc__ = function.__doc__
    app.command(name, cls=kind)(invoke)
