"""What to say of missing values and paths: the words that people type, and what was probably meant."""

from __future__ import annotations

import difflib
import inspect
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsrface.cli.look_first import resume_hint
from dsrface.errors import DsrfaceError, RunError, UsageError
from dsrface.runtime.command_line import command_line, joined, quoted

_LACKING = re.compile(r"(?m)^(\S+) is missing\b")
_MISSING = re.compile(r"Missing value for '(\w+)'\.")
_ALIKE, _MORE_ALIKE = 0.65, 0.8
_MAX_RUNS = 3  # to offer
_OF_PATHS = ("bad-target", "bad-pairs", "bad-landmarks", "nothing-to-resume")  # it may not be there
_VALUE = re.compile(r"--[\w-]+ [^ ]+: ")  # a flag with a wrong value
_WRONG = re.compile(r"(?m)^(\w+) = (.+?) \(from flag\): ")


def typed_names(function: Callable[..., Any]) -> dict[str, str]:
    """Return the flag or the argument that each parameter of a command is on the command line."""
    names = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        for item in getattr(parameter.annotation, "__metadata__", ()):
            # typer keeps the first name where defaults once stood
            texts = (getattr(item, "default", None), *(getattr(item, "param_decls", None) or ()))
            declared = [text for text in texts if isinstance(text, str) and text.startswith("--")]
            flag = declared[0] if declared else f"--{parameter.name.replace('_', '-')}"
            is_argument = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            names[parameter.name] = item.metavar or parameter.name.upper() if is_argument else flag
    return names


def as_typed(message: str, names: Mapping[str, str]) -> str:
    """Return a message about keys in which those of flags and arguments have the names that people type.

    Args:
        message: From `config.sources.resolve`.
        names: From `typed_names`.
    """
    message = _MISSING.sub(lambda found: f"{names.get(found[1], found[1])} is missing.", message)
    return _WRONG.sub(lambda found: f"{names.get(found[1], found[1])} {found[2]}: ", message)


def example_of(documentation: str) -> str:
    """Return the command line below the line `Example:` of a command's documentation, or an empty text."""
    _, _, after = documentation.partition("Example:")
    return " ".join(after.split("\n\n")[1].split()) if after else ""


def missing_hint(error: UsageError, command: str, flags: Mapping[str, object], example: str) -> str:
    """Return what to type when a value is missing or wrong.

    Args:
        error: Its message has the names that people type.
        command: As `execute.COMMANDS` names it.
        flags: What was given.
        example: A command line that is complete.
    """
    if error.id == "config-missing":
        return f"To make one: dsrface config init {command} --out {quoted(error.where)}"
    data = flags.get("data")
    if isinstance(data, Path) and (resume := resume_hint(data, command)):
        return f"{data} is a run folder, not a data set. {resume}"
    if isinstance(data, Path) and "vlr_size" in flags and "--vlr-size" in error.message:
        from dsrface.data.folders import vlr_sizes_of

        info = _dataset_info(data)
        if command == "evaluate" and not info and (published := _published_command(data)):
            return f"It looks like a published benchmark:\n{published}"
        if command == "train-dsr" and info.get("native"):
            return (
                f"{data} holds native faces without HR twins: no DSR can be trained on it, of whatever size."
            )
        if (sizes := vlr_sizes_of(data)) and flags["vlr_size"] is None:
            again = _again(["--vlr-size", str(sizes[0])], command, data)
            return f"{data} holds VLR faces of {', '.join(map(str, sizes))} px:\n{again}"
    if " needs a command to launch" in error.message:
        return _again(["--", "python", "train.py"], command, data)
    if completed := _completed(error.message, command, flags, example):
        return "\n".join(completed)
    if command == "finetune" and error.message.startswith("Give exactly one") and ";" not in error.message:
        return _finetune_modes(data, flags.get("vlr_size"))
    pages = f"dsrface {command} --help\ndsrface config show {command}"
    is_about_one = _VALUE.match(error.message) is not None or "(from " in error.message
    is_about_several = "--" in error.message and not is_about_one
    is_incomplete = "missing" in error.message or error.message.startswith("Give ") or is_about_several
    return f"For example {example}\n{pages}" if is_incomplete and example else pages


def _completed(message: str, command: str, flags: Mapping[str, object], example: str) -> list[str]:
    """Return what was typed with the flags that are missing; nothing where it is not known what to give."""
    data, words = flags.get("data"), shlex.split(example)
    lacks_data = command == "precompute" and data is None and flags.get("input") is None
    ways = [[_data_here()] if lacks_data else []]
    missing = _LACKING.findall(message)
    for name in missing:
        if name == "--weights":
            values = [str(run) for run in _runs_for(command, data)]
        elif name in words:
            values = words[words.index(name) + 1 :][:1]
        else:
            values = ["OUTPUTS"] if name == "--output" else []
        ways = [[*way, name, value] for way in ways for value in values]
    return [_again(way, command, data) for way in ways] if missing else []


def _data_here() -> str:
    """Return the one data set of this folder, or what stands for one."""
    from dsrface.data.folders import data_sets_in

    found = data_sets_in(Path())
    return str(found[0]) if len(found) == 1 else "DATA"


def _again(words: list[str], command: str, data: object) -> str:
    """Return what was typed with words more; the command and its data set where it was another program."""
    typed = command_line()
    if not typed.startswith(f"dsrface {command}"):
        typed = joined(["dsrface", command, *([str(data)] if isinstance(data, Path) else [])])
    return f"{typed} {joined(words)}"


def _runs_for(command: str, data: object) -> list[Path]:
    """Return the runs whose network `--weights` of a command may name, in the usual places."""
    from dsrface.models.sources import runs_near

    kind = "dsr" if command == "precompute" else "recogniser"
    trained_by = "train-dsr" if kind == "dsr" else "finetune"
    beside = [data.parent / "runs"] if isinstance(data, Path) and data.parent != Path() else []
    return runs_near([*beside, Path("runs"), Path("runs", trained_by)], kind)[:_MAX_RUNS]


def _finetune_modes(data: object, vlr_size: object) -> str:
    """Return the ways to choose what to train on, with the outputs or the run that is at hand."""
    from dsrface.data.folders import outputs_folder
    from dsrface.models.sources import runs_near

    ways = ["--no-dsr"]
    if isinstance(data, Path):
        runs = runs_near([data.parent / "runs", Path("runs")], "dsr")
        ways = [joined(["--live", str(run)]) for run in runs[:1]] + ways
        outputs = data / "train" / outputs_folder(int(str(vlr_size or 0)))
        ways = ([joined(["--dsr-outputs", str(outputs)])] if outputs.is_dir() else []) + ways
    again = _again([], "finetune", data).rstrip()
    size = "" if vlr_size is None or "--vlr-size" in again else f" --vlr-size {vlr_size}"
    return "\n".join(f"{again}{size} {way}" for way in ways)


def near_path(error: DsrfaceError) -> str:
    """Return a question after the entry that a path which is not there probably meant; empty without one."""
    is_missing = error.id.startswith("no-") or error.id.endswith("-missing") or error.id in _OF_PATHS
    if not error.where or not is_missing or error.hint.startswith("Did you mean"):
        return ""
    from dsrface.models.sources import is_run

    path, tidy = Path(str(error.where)), Path(str(error.where).strip(" \t\"'"))
    if tidy != path and tidy != Path() and tidy.exists():
        return f"Did you mean {tidy}?"
    file = Path(str(error.where).rpartition(":")[0])  # of file.py:callable
    try:
        if path.exists() or file.is_file() or not path.parent.is_dir():
            return ""
        if any(Path(part).exists() for part in _before_commas(str(path))):  # FILE, line 3
            return ""
        # Which run was meant, the kind of the network tells: `models.sources`.
        is_wanted = is_run if error.id == "nothing-to-resume" else lambda entry: not is_run(entry)
        names = [entry.name for entry in path.parent.iterdir() if is_wanted(entry)]
        # What has an ending is a file, and no folder that only begins alike.
        names = [name for name in names if _can_be(path.parent / name, path.suffix)]
        near = [name for name in difflib.get_close_matches(path.name, names) if _is_like(path.name, name)]
    except (OSError, ValueError):  # what is named is no path
        return ""
    return f"Did you mean {path.with_name(near[0])}?" if near else ""


def _before_commas(where: str) -> list[str]:
    return [where[: found.start()] for found in re.finditer(", ", where)]


def _is_like(name: str, other: str) -> bool:
    """Return whether two names differ by a slip, and not only agree in their ends, such as `.toml`."""
    first, second = Path(name.lower()), Path(other.lower())
    ratio = difflib.SequenceMatcher(None, first.stem, second.stem).ratio()
    return ratio >= (_ALIKE if first.suffix == second.suffix else _MORE_ALIKE)


def _can_be(entry: Path, suffix: str) -> bool:
    return not suffix or entry.suffix == suffix or not entry.is_dir()


def _published_command(data: Path) -> str:
    from dsrface.data.folders import published_command

    return published_command(data) if data.is_dir() else ""


def _dataset_info(data: Path) -> dict[str, Any]:
    from dsrface.data.folders import DATASET_FILE
    from dsrface.runtime.files import read_json

    try:
        return read_json(data / DATASET_FILE)
    except RunError:
        return {}
