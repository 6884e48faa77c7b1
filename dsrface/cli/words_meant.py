"""What was probably meant by a flag or a word that a command does not take."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsrface.runtime.command_line import joined, quoted

_ALIKE, _MUCH_ALIKE = 0.7, 0.85
# What the same thing is called elsewhere; the groups are looked at where no name is alike.
_SAME = (
    ("out", "output", "run", "output-dir", "out-dir", "save-dir", "html", "report"),
    ("weights", "model", "checkpoint", "ckpt", "network", "dsr", "source"),
    ("gallery", "people", "db", "database"),
    ("vlr-size", "vlr-sizes", "size", "resolution"),
    ("workers", "jobs", "threads"),
    ("device", "gpu"),
    ("force", "overwrite"),
)
_GOES_ON = "Without it: the same command goes on where it was."
_SWITCHES = ("yes", "true", "on", "1", "no", "false", "off", "0")  # words that people give to switches
_NEEDLESS = {
    ("precompute", "--resume"): _GOES_ON,
    ("prepare", "--resume"): _GOES_ON,
    ("prepare", "--force"): "Nothing is overwritten: give another DATA, or delete that folder first.",
    ("precompute", "--split"): "Without it: the outputs of all splits are made, the finished ones left.",
    ("identify", "--weights"): "Without it: the gallery names the networks; `dsrface enrol` makes another.",
    ("identify", "--dsr"): "Without it: the gallery names the networks; `dsrface enrol` makes another.",
}
# Where a pattern such as *.png became several photos.
_SEVERAL_PHOTOS = {
    "verify": "Two photos are compared; for more: dsrface enrol KNOWN --out people.npz, then dsrface "
    "identify PHOTOS --gallery people.npz",
    **dict.fromkeys(("enrol", "identify", "embed"), "Of several photos, name the folder that they are in."),
}


def instead_of_flag(flag: str, command: Any, arguments: list[str]) -> str:
    """Return what to type instead of a flag that a command does not have; empty where that is not known.

    Args:
        flag: As it was typed, with its dashes.
        command: Of typer; None before one is known.
        arguments: All words after the program's name.
    """
    name = getattr(command, "name", "")
    if name == "doctor" and "--" not in arguments:
        words = arguments[arguments.index("doctor") + 1 :]
        if words and not words[0].startswith("-"):
            return f"The command to launch comes after --: {joined(['dsrface', 'doctor', '--', *words])}"
    if needless := _NEEDLESS.get((name, flag)):
        return needless
    value = value_of([flag], arguments)
    bare = flag.lstrip("-")
    if value and (better := flag_for(value, command)):
        near = [f"--{name}" for name in difflib.get_close_matches(bare, _names(command), 1, _MUCH_ALIKE)]
        return f"Did you mean {(near or [better])[0]} {quoted(value)}?"
    if bare not in _names(command) and (argument := _argument(bare, command)):
        return _without_flags(argument, value, command, arguments)
    if names := _flags_like(bare, command):
        return f"Did you mean {' or '.join(names)}?"
    return _key_like(bare, value, command)


def _without_flags(argument: str, value: str, command: Any, arguments: list[str]) -> str:
    """Return the line without the flags of what is given without one; for a file to write its own flag."""
    if value and (flag := _flag_of_files(Path(value).suffix, command)):
        return f"Did you mean {flag} {quoted(value)}?"
    words = [word for word in arguments if not (word.startswith("--") and _argument(word[2:], command))]
    if not arguments[1].startswith("-"):  # it is given as well
        words = [*arguments[:1], *([value] if value else [])]
    line = joined(["dsrface", *words, *([] if value else [argument])])
    return f"{argument} is given without a flag: {line}"


def instead_of_words(words: Sequence[str], command: Any, arguments: list[str]) -> str:
    """Return what to type instead of words that are more than a command takes; empty where it is not known.

    Args:
        words: Those that are too many.
        command: Of typer.
        arguments: All words after the program's name.
    """
    from dsrface.data.decode import has_image_suffix

    if whole := _path_with_blanks(arguments):
        return f"A path with blanks goes in quotes: {quoted(whole)}"
    if meant := _of_a_shell(list(words), command, arguments):
        return meant
    if as_list := _as_list(list(words), command, arguments):
        return as_list
    path, before = words[0], list(itertools.takewhile(lambda word: word != words[0], arguments))
    if has_image_suffix(path) and Path(path).is_file():  # never the value of --sheet, which is written
        return _SEVERAL_PHOTOS.get(getattr(command, "name", ""), "")
    if path.lower() in _SWITCHES and before[-1:] and before[-1] in _switches(command):
        return f"{before[-1]} takes no value."
    if (size := _option("vlr_size", command)) and path.isdecimal() and size not in arguments:
        return f"Did you mean {size} {path}?"
    if turned := _turned_round(list(words), command, arguments):
        return f"Did you mean {turned}?"
    if "--resume" in arguments and (run := _option("run", command)) and (Path(path) / "run.json").is_file():
        return f"Did you mean {run} {quoted(path)} --resume?"
    better = flag_for(path, command) or _flag_of_files(Path(path).suffix, command)
    if not better and Path(path).suffix and not Path(path).exists():
        better = _option("out", command)
    return f"Did you mean {better} {quoted(path)}?" if better else ""


def _of_a_shell(words: list[str], command: Any, arguments: list[str]) -> str:
    """Return what was meant by signs that a shell or a text editor makes of others; empty for other words."""
    name = getattr(command, "name", "")
    bare = words[0].lstrip("\N{EM DASH}\N{EN DASH}\N{MINUS SIGN}")
    if bare != words[0]:
        return f"The dash is not that of a keyboard: --{bare.lstrip('-')}"
    if words[0] == "=" and (end := arguments.index("=") if "=" in arguments else 0):
        return f"Without blanks: --set {''.join(arguments[end - 1 : end + 2])}"
    if "=" in words[0] and getattr(command, "schema", None) is not None:
        return f"Did you mean --set {words[0]}?"
    taken = arguments[1 : arguments.index(words[-1])] if words[-1] in arguments else []
    folders = {Path(word).parent for word in taken}
    if name == "prepare" and len(taken) > 1 and len(folders) == 1 and Path(taken[-1]).is_dir():
        return f"Name the folder above them: {joined(['dsrface', name, str(folders.pop()), words[-1]])}"
    return ""


def _switches(command: Any) -> set[str]:
    """Return the options that take no value."""
    switches = [item for item in getattr(command, "params", ()) if getattr(item, "is_flag", False)]
    return {name for item in switches for name in item.opts}


def _turned_round(extra: list[str], command: Any, arguments: list[str]) -> str:
    """Return the line with a network as its flag's value where it stood in the place of the argument."""
    if len(extra) != 1 or len(arguments) < 2 or arguments[1].startswith("-"):
        return ""
    flag = flag_for(arguments[1], command)
    if not flag or flag in arguments or not Path(extra[0]).exists() or flag_for(extra[0], command):
        return ""
    rest = [word for word in arguments[2:] if word != extra[0]]
    return joined(["dsrface", arguments[0], extra[0], flag, arguments[1], *rest])


def flag_for(path: str, command: Any) -> str:
    """Return the flag of a command that takes what is at a path; empty where nothing says so.

    Args:
        path: As it was typed.
        command: Of typer, with a configuration.
    """
    from dsrface.data.outputs.given import is_cache
    from dsrface.models.sources import kind_at

    schema = getattr(command, "schema", None)
    place = Path(path)
    if schema is None or not place.exists():
        return ""
    if is_cache(place):
        return _option("dsr_outputs", command)
    if place.suffix == ".toml":
        return _option("config", command)
    if place.suffix == ".npz":
        return _option("gallery", command)
    kind = kind_at(place)
    keys = [key for key, wanted in schema().networks.items() if kind and wanted == kind]
    return next(filter(None, (_option(key, command) for key in keys)), "")


def _flag_of_files(suffix: str, command: Any) -> str:
    """Return the flag whose value is a file with this suffix, as its help says; empty where there is none."""
    options = getattr(command, "params", ())
    fits = [option.opts[0] for option in options if suffix and str(option.metavar).endswith(suffix)]
    return next((flag for flag in fits if flag.startswith("--")), "")


def value_of(flags: Sequence[str], arguments: Sequence[str]) -> str:
    """Return what was typed as the value of an option, or an empty text."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, is_joined, value = word.partition("=")
        if name in flags:
            return value if is_joined else "" if after.startswith("--") else after
    return ""


def _option(key: str, command: Any) -> str:
    """Return the flag of a key, or an empty text where the command has none."""
    for option in getattr(command, "params", ()):
        flags = [name for name in option.opts if name.startswith("--")]
        if option.name == key and flags:
            return str(flags[0])
    return ""


def _argument(name: str, command: Any) -> str:
    """Return how the help calls the argument of a name, or an empty text."""
    for option in getattr(command, "params", ()):
        shown = str(option.metavar or option.name.upper()).strip("[]")
        is_meant = name.replace("-", "_") in (option.name, shown.lower())
        if is_meant and not any(word.startswith("-") for word in option.opts):
            return shown
    return ""


def _flags_like(bare: str, command: Any) -> list[str]:
    """Return the flags that differ by a slip, or begin or end alike, or mean the same."""
    names = _names(command)
    likely = [name for name in names if name != "set" or bare.startswith(name)]  # it is short, so like many
    near = difflib.get_close_matches(bare, likely, n=1, cutoff=_ALIKE)
    near = near or [name for name in names if name.endswith(f"-{bare}")]
    near = near or [name for name in names if name.startswith(f"{bare}-")][:1]
    same = [name for group in _SAME if bare in group for name in group if name in names]
    return [f"--{name}" for name in near or same[:1]]


def _names(command: Any) -> list[str]:
    """Return the flags of a command without their dashes."""
    params = getattr(command, "params", ())
    return [name[2:] for item in params for name in item.opts if name.startswith("--")]


def _key_like(bare: str, value: str, command: Any) -> str:
    schema = getattr(command, "schema", None)
    if schema is None:
        return ""
    from dsrface.config.keys import key_meanings, keys_like

    keys = keys_like(bare.replace("-", "_"), key_meanings(schema()))
    return f"Did you mean --set {keys[0]}={value or '...'}?" if keys else ""


def _path_with_blanks(arguments: Sequence[str]) -> str:
    """Return the path that neighbouring words are, taken together; empty where there is none."""
    for start in range(len(arguments)):
        for end in range(start + 2, len(arguments) + 1):
            whole = " ".join(arguments[start:end])
            if not whole.startswith("-") and Path(whole).exists():
                return whole
    return ""


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
