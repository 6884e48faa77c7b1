"""What the parser of the command line complains of, in plain words and with what to type instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from dsrface.cli.missing import example_of
from dsrface.errors import UsageError
from dsrface.runtime.command_line import joined

_EXTRA = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)")
_ALIKE = 0.7


def usage_error(error: Exception, arguments: Sequence[str]) -> UsageError:
    """Return a complaint of typer's parser as a `UsageError`.

    Args:
        error: The complaint; its class is private to typer.
        arguments: Words after the program's name.
    """
    context = getattr(error, "ctx", None)
    command = getattr(context, "command", None)
    path = getattr(context, "command_path", "") or " ".join(["dsrface", *arguments[:1]])
    message, hint = _explained(error, command, list(arguments))
    if not message.endswith((".", "?", ")")):
        message += "."
    more = "" if hint else example_of(getattr(command, "help", "") or "")
    hints = [hint, f"For example {more}" if more else "", f"{path} --help"]
    return UsageError(message, id="bad-flag", hint="\n".join(filter(None, hints)))


def _explained(error: Exception, command: Any, arguments: list[str]) -> tuple[str, str]:
    """Return what is wrong, and what to type instead where that is known."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    flag = getattr(error, "option_name", "")
    if hasattr(error, "possibilities") and flag.startswith("-"):
        return f"There is no option {flag}.", _instead_of(flag, command, arguments)
    if found := _EXTRA.fullmatch(message.removesuffix(".")):
        words = found[1].split()
        return f"{' '.join(words)}: more than this command takes.", _as_list(words, command, arguments)
    option = getattr(error, "param", None)
    if option is not None and getattr(option, "opts", None) and "Input should" in message:
        return _wrong_value(str(error), option, arguments)
    if message == "Missing command." or (message.startswith("No such command") and "mean" not in message):
        return message, f"Choose one of: {', '.join(getattr(command, 'commands', {}))}."
    return message or "The command line is incomplete.", ""


def _instead_of(flag: str, command: Any, arguments: list[str]) -> str:
    """Return what was probably meant by a flag that does not exist."""
    if command is not None and command.name == "doctor" and "--" not in arguments:
        words = arguments[arguments.index("doctor") + 1 :]
        if words and not words[0].startswith("-"):
            return f"The command to launch comes after --: {joined(['dsrface', 'doctor', '--', *words])}"
    flags = [name for option in getattr(command, "params", ()) for name in option.opts]
    likely = [name for name in flags if name != "--set" or flag.startswith(name)]  # it is short, so like many
    near = difflib.get_close_matches(flag, likely, n=1, cutoff=_ALIKE)
    near = near or [name for name in flags if flag.startswith("--") and name.endswith(flag[1:])]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    schema = getattr(command, "schema", None)
    if schema is None:
        return ""
    from dsrface.config.keys import key_meanings, keys_like

    keys = keys_like(flag.lstrip("-").replace("-", "_"), key_meanings(schema()))
    value = _value_of([flag], arguments) or "..."
    return f"Did you mean --set {keys[0]}={value}?" if keys else ""


def _as_list(extra: list[str], command: Any, arguments: list[str]) -> str:
    """Return a list with commas where one with blanks was typed."""
    start = next(
        (index for index in range(len(arguments)) if arguments[index : index + len(extra)] == extra), 0
    )
    if start < 2:
        return ""
    flag, first = arguments[start - 2 : start]
    option = next((item for item in getattr(command, "params", ()) if flag in item.opts), None)
    if option is None or "," not in str(option.metavar):
        return ""
    return f"A list is written with commas: {flag} {','.join([first, *extra])}"


def _wrong_value(said: str, option: Any, arguments: list[str]) -> tuple[str, str]:
    from dsrface.config.problems import meant, plain_words

    words = plain_words(said)
    value = _value_of(option.opts, arguments)
    near = meant(value, words)
    return f"{option.opts[0]} {value!r}: {words}.", f"Did you mean {option.opts[0]} {near}?" if near else ""


def _value_of(flags: Sequence[str], arguments: list[str]) -> str:
    """Return what was typed as the value of an option, or an empty text."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, is_joined, value = word.partition("=")
        if name in flags:
            return value if is_joined else after
    return ""
