"""What the parser of the command line complains of, in plain words and with what to type instead."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from dsrface.cli.missing import example_of
from dsrface.cli.words_meant import instead_of_flag, instead_of_words, value_of
from dsrface.errors import UsageError
from dsrface.runtime.command_line import joined

_MANY = 6  # commands: a list of more is not read
_MAX_WORDS = 3  # in a message
_SINGLE_DASH = re.compile(r"-[A-Za-z][\w-]{2,}")  # -vlr-size
_EXTRA = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)")


def usage_error(error: Exception, arguments: Sequence[str], program: Any = None) -> UsageError:
    """Return a complaint of typer's parser as a `UsageError`.

    Args:
        error: The complaint; its class is private to typer.
        arguments: Words after the program's name.
        program: The group of all commands, for complaints that do not tell their own.
    """
    context = getattr(error, "ctx", None)
    known = getattr(program, "commands", {})
    command = getattr(context, "command", None) or next(
        (known[word] for word in arguments[:1] if word in known), None
    )
    path = getattr(context, "command_path", "") or " ".join(["dsrface", *arguments[:1]])
    message, hint = _explained(error, command, list(arguments), program)
    if not message.endswith((".", "?", ")")):
        message += "."
    more = "" if hint else example_of(getattr(command, "help", "") or "")
    hints = [hint, f"For example {more}" if more else "", f"{path} --help"]
    return UsageError(message, id="bad-flag", hint="\n".join(filter(None, hints)))


def refuse_empty_words(arguments: Sequence[str]) -> None:
    """Refuse an empty word, which as a path would be the working folder; not those of a launch.

    Raises:
        UsageError: there is one.
    """
    if "" in itertools.takewhile(lambda word: word != "--", arguments):
        raise UsageError(
            f"A word of the command line is empty: {joined(['dsrface', *arguments])}",
            id="bad-flag",
            hint="Is a variable of the shell not set? The working folder is a dot: .",
        )


def _explained(error: Exception, command: Any, arguments: list[str], program: Any) -> tuple[str, str]:
    """Return what is wrong, and what to type instead where that is known."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    flag = getattr(error, "option_name", "")
    if hasattr(error, "possibilities") and flag.startswith("-"):
        own = itertools.takewhile(lambda word: word != "--", arguments)
        if typed := next((word for word in own if _SINGLE_DASH.match(word)), ""):  # read as letters
            flag = typed.partition("=")[0]
        if flag == "-V":
            return f"There is no option {flag}.", "dsrface --version"
        better = instead_of_flag(flag, command, arguments)
        return f"There is no option {flag}.", better or _of_commands(flag, command, arguments, program)
    if found := _EXTRA.fullmatch(message.removesuffix(".")):
        words = found[1].split()
        more = f" and {len(words) - _MAX_WORDS} more" if len(words) > _MAX_WORDS else ""
        shown = f"{' '.join(words[:_MAX_WORDS])}{more}: more than this command takes."
        return shown, instead_of_words(words, command, arguments)
    if message.removesuffix(".").endswith("is not readable"):
        return message, "This user may not read it: change its permissions, or ask its owner."
    if flag and "requires an argument" in message:
        return _no_value(flag, command), ""
    option = getattr(error, "param", None)
    if option is not None and getattr(option, "opts", None) and "Input should" in message:
        return _wrong_value(str(error), option, arguments)
    if message.startswith("No such command") and (plain := _of_other_programs(arguments, command)):
        return message.partition(" Did you mean")[0], plain
    if message.startswith("No such command") and (later := _command_after(command, arguments)):
        return message.partition(" Did you mean")[0], f"The command comes first: {later}"
    if message == "Missing command." or (message.startswith("No such command") and "mean" not in message):
        return message, f"Choose one of: {', '.join(getattr(command, 'commands', {}))}."
    return message or "The command line is incomplete.", ""


def _of_other_programs(arguments: list[str], group: Any) -> str:
    """Return what to type for `help` and `version`, which others have as commands, or in other letters."""
    first, *rest = arguments or [""]
    if first == "help":
        return " ".join(["dsrface", *[word for word in rest[:1] if word in group.commands], "--help"])
    if first == "version":
        return "dsrface --version"
    if first.lower() != first and first.lower() in getattr(group, "commands", {}):
        return f"Did you mean {joined(['dsrface', first.lower(), *rest])}?"
    return ""


def _wrong_value(said: str, option: Any, arguments: list[str]) -> tuple[str, str]:
    from dsrface.config.problems import meant, plain_words

    words = plain_words(said)
    value = value_of(option.opts, arguments)
    near = meant(value, words)
    return f"{option.opts[0]} {value!r}: {words}.", f"Did you mean {option.opts[0]} {near}?" if near else ""


def _of_commands(flag: str, command: Any, arguments: list[str], program: Any) -> str:
    """Return the line with the option behind its command, or the commands that have it; empty for none."""
    names = [
        name
        for name, each in getattr(program, "commands", {}).items()
        if any(flag in option.opts for option in each.params)
    ]
    later = _command_after(command, arguments)
    if later and later.split()[1] in names:
        return f"The command comes first: {later}"
    if len(names) > _MANY:
        return f"It comes behind a command, and most have it: dsrface {names[0]} {flag}"
    listed = ", ".join(f"dsrface {name}" for name in names)
    return f"It is an option of {listed}." if names else ""


def _no_value(flag: str, command: Any) -> str:
    """Return that an option lacks its value, with the values that it takes."""
    option = next((item for item in getattr(command, "params", ()) if flag in item.opts), None)
    takes = str(getattr(option, "metavar", None) or "")
    if getattr(option, "name", "") == "preset":
        from dsrface.config.sources import list_presets

        takes = ", ".join(list_presets(command.name))
    return f"{flag} needs a value{f': {takes}' if takes else ''}."


def _command_after(group: Any, arguments: list[str]) -> str:
    """Return the line with its command first where another word stands there; empty without a command."""
    commands = getattr(group, "commands", {})
    found = next((word for word in arguments if word in commands), "")
    rest = [word for word in arguments if word != found]
    return joined(["dsrface", found, *rest]) if found else ""
