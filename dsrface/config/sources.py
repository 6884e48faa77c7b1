"""Where a configuration value comes from: defaults < preset < TOML file < --set < flags.

`resolve` merges the sources, remembers the origin of every value and makes usage errors of pydantic's errors.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from dsrface.config.keys import tables_of
from dsrface.config.problems import did_you_mean, explain, shorten
from dsrface.config.toml_lines import key_lines
from dsrface.errors import UsageError
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import read_bounded
from dsrface.runtime.nesting import flatten

COMMAND_KEY = "command"  # of a file: what it configures
MAX_WHOLE_NUMBER = 2**63 - 1
MAX_PATH_PART_BYTES = 255
# How Python writes bytes that it cannot decode; neither TOML nor safetensors or TensorBoard take such paths.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_MAX_DEPTH = 8  # tables within tables; the deepest schema has three
_MAX_TOML_BYTES = 1024**2


class Config(BaseModel):
    """Base of every configuration: frozen; a key it does not know is an error, and so is an absurd value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=False, allow_inf_nan=False
    )

    command: ClassVar[str] = ""  # only a command's root model has one
    goes_on: ClassVar[bool] = False  # the same command, typed again, goes on where it was interrupted
    # Heading to the keys whose flags `--help` shows there; those in no group are shown by --help-all.
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # Looked at before torch is loaded: keys of paths that must be there, to the error when one is not; of
    # those, to the `module:callable` that refuses a wrong one; of networks, to their kind, or an empty text
    # for any; of files to write, and of folders.
    reads: ClassVar[Mapping[str, str]] = {}
    looks: ClassVar[Mapping[str, str]] = {}
    networks: ClassVar[Mapping[str, str]] = {}
    writes: ClassVar[tuple[str, ...]] = ()
    fills: ClassVar[tuple[str, ...]] = ()
    # `module:callable` that look at the whole configuration, where one value alone does not tell.
    together: ClassVar[tuple[str, ...]] = ()

    def needs(self) -> Iterable[tuple[str, str]]:
        """Return the modules of optional extras that these values ask for, each with its extra."""
        return ()

    def not_yet_there(self) -> Iterable[Path]:
        """Return the files that are written only where none is yet."""
        return ()

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data sets whose VLR faces are read, each with their size in pixels."""
        return ()

    @classmethod
    def from_earlier(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return dotted keys and values under today's names; a model with earlier ones says so here."""
        return dict(values)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_numbers(cls, value: object, info: ValidationInfo) -> object:
        parts = value if isinstance(value, (list, tuple)) else [value]
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind is not bool and any(isinstance(part, bool) for part in parts):
            raise ValueError("true and false are neither numbers nor texts")
        return value

    @field_validator("*")
    @classmethod
    def _refuse_absurd_values(cls, value: object) -> object:
        if isinstance(value, int) and value > MAX_WHOLE_NUMBER:
            raise ValueError(f"whole numbers go up to {MAX_WHOLE_NUMBER}")
        if isinstance(value, Path):
            if "\0" in str(value):
                raise ValueError("a path holds no NUL character")
            if _HALF_CHARACTER.search(str(value)):
                raise ValueError(
                    "the path has bytes that are no text in this locale: rename it, or set LC_ALL=C.UTF-8"
                )
            longest = max((len(os.fsencode(part)) for part in value.parts), default=0)
            if longest > MAX_PATH_PART_BYTES:
                raise ValueError(
                    f"a part of the path takes {longest} bytes; file systems allow {MAX_PATH_PART_BYTES}"
                )
            with contextlib.suppress(RuntimeError):  # no such user: a name like any other
                return value.expanduser()  # no shell does it in --run=~/a, nor in a configuration file
        return value


C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Resolved(Generic[C]):
    """A complete configuration and, per dotted key that somebody set, who set it.

    Args:
        config: The configuration.
        origins: Key to `flag`, `--set`, `config FILE` or `preset NAME`.
    """

    config: C
    origins: Mapping[str, str]


def resolve(
    schema: type[C],
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Resolved[C]:
    """Merge all sources into one validated configuration.

    Args:
        schema: The command's root model.
        preset: Name of `config/presets/<command>/<name>.toml`; `<command>` is the schema's `command`.
        config_file: TOML file, e.g. the `config.toml` of an earlier run.
        assignments: `key.path=value` texts; the right side is parsed as TOML, else kept as text.
        flags: Dotted key to value; None means "not given".

    Raises:
        UsageError: unknown key (with the nearest known one), wrong type, unreadable file, unknown preset.
    """
    values, origins = _collect(schema, preset, config_file, assignments, flags or {})
    try:
        return Resolved(schema.model_validate(values), origins)
    except ValidationError as error:
        said = explain(error.errors(include_url=False), schema, _with_lines(origins, config_file))
        raise UsageError(said, id="bad-config") from None


def merge(
    schema: type[Config],
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    assignments: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the given values and their origins by dotted key; required keys may be missing.

    Raises:
        UsageError: as `resolve`, except for missing values.
    """
    values, origins = _collect(schema, preset, config_file, assignments, {})
    try:
        schema.model_validate(values)
    except ValidationError as error:
        # Without a required key, rules between keys (whose place is the root) cannot hold either.
        problems = [
            item for item in error.errors(include_url=False) if item["loc"] and item["type"] != "missing"
        ]
        if problems:
            said = explain(problems, schema, _with_lines(origins, config_file))
            raise UsageError(said, id="bad-config") from None
    return flatten(values), origins


def list_presets(command: str) -> list[str]:
    """Return the preset names of a command, sorted."""
    folder = resources.files("dsrface.config") / "presets" / command
    if not folder.is_dir():
        return []
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load_preset(schema: type[Config], name: str) -> dict[str, Any]:
    """Return a preset's values.

    Raises:
        UsageError: no such preset; the known ones are listed.
    """
    known = list_presets(schema.command)
    if name not in known:
        raise UsageError(
            f"There is no preset {name!r} for {schema.command}.{did_you_mean(name, known)}",
            id="unknown-preset",
            hint=f"Choose one of: {', '.join(known) or 'none exist'}.",
        )
    file = resources.files("dsrface.config") / "presets" / schema.command / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def to_toml(config: Config) -> str:
    """Return the complete configuration as TOML; feeding it back gives an equal configuration."""
    values = _without_none(config.model_dump(mode="json"))
    return tomli_w.dumps({COMMAND_KEY: config.command, **values} if config.command else values)


def command_of(path: Path) -> str:
    """Return the command that a configuration file says it is for; empty where it says nothing.

    Raises:
        UsageError: the file cannot be read.
    """
    return str(_read_toml(path).get(COMMAND_KEY, ""))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested mappings; the inverse of `flatten`."""
    values: dict[str, Any] = {}
    _merge(values, {}, flat, "")
    return values


def _collect(
    schema: type[Config],
    preset: str | None,
    config_file: Path | None,
    assignments: Sequence[str],
    flags: Mapping[str, object],
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if config_file is not None:
        table = _read_toml(config_file)
        named = table.pop(COMMAND_KEY, schema.command)
        if named != schema.command:
            raise UsageError(
                f"The file is for {named}, not for {schema.command}.",
                id="bad-config",
                where=config_file,
                hint=f"dsrface {named} --config {quoted(config_file)}",
            )
        given = schema.from_earlier(flatten(table))
        _merge(values, origins, given, f"config {config_file}")
    for text in assignments:
        key, value = _parse_assignment(text)
        _merge(values, origins, schema.from_earlier({key: value}), "--set")
    for key, value in flags.items():
        if value is not None:
            _merge(values, origins, {key: value}, "flag")
    if not list_presets(schema.command):
        return values, origins
    if preset is not None:
        _merge(values, origins, {"preset": preset}, "flag")
    if not isinstance(values.get("preset"), str):
        return values, origins
    name = values["preset"]
    weaker: dict[str, Any] = {}
    weaker_origins: dict[str, str] = {}
    chosen = _without_replaced_tables(schema, load_preset(schema, name), values)
    _merge(weaker, weaker_origins, chosen, f"preset {name}")
    _merge(weaker, {}, values, "")
    return weaker, weaker_origins | origins


def _without_replaced_tables(
    schema: type[Config], preset: Mapping[str, Any], stronger: Mapping[str, Any]
) -> dict[str, Any]:
    """Leave out a preset's table where a stronger source chooses another one of the union."""
    kept = dict(preset)
    for name, field in schema.model_fields.items():
        tags = tables_of(field.annotation).keys() - {""}
        ours, theirs = preset.get(name), stronger.get(name)
        if tags and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            key = next(key for key, value in ours.items() if value in tags)
            if theirs.get(key, ours[key]) != ours[key]:
                del kept[name]
    return kept


def _merge(values: dict[str, Any], origins: dict[str, str], new: Mapping[str, Any], origin: str) -> None:
    for key, value in flatten(new).items():
        *parents, leaf = key.split(".")
        level = values
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise UsageError(
                    f"{key} goes below {parent}, which is a value, not a table.", id="bad-config"
                )
        level[leaf] = value
        origins[key] = origin


def _parse_assignment(text: str) -> tuple[str, object]:
    key, separator, right = text.partition("=")
    if not separator or not key.strip() or key.count(".") >= _MAX_DEPTH:
        raise UsageError(
            f"--set takes key=value, not {shorten(repr(text))}.",
            id="bad-set",
            hint="For example --set optim.lr=1e-4.",
        )
    try:
        return key.strip(), tomllib.loads(f"value = {right.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), right.strip()
    except RecursionError:
        raise UsageError(f"The value of --set {key.strip()} is nested too deeply.", id="bad-set") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(read_bounded(path, max_bytes=_MAX_TOML_BYTES).decode("utf-8-sig"))
        _check_depth(values)
    except FileNotFoundError:
        raise UsageError("The configuration file does not exist.", id="config-missing", where=path) from None
    except (OSError, ValueError) as error:
        if (path / "config.toml").is_file():
            raise UsageError(
                "This is a run folder, not a configuration file.",
                id="bad-config",
                where=path,
                hint=f"Did you mean {path / 'config.toml'}?",
            ) from None
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is not valid TOML"
        problem = "" if isinstance(error, OSError) else f": {error}"
        raise UsageError(f"The configuration file {reason}{problem}.", id="bad-config", where=path) from None
    except RecursionError:
        raise UsageError(
            "The configuration file is nested too deeply.", id="bad-config", where=path
        ) from None
    return values


def _with_lines(origins: Mapping[str, str], path: Path | None) -> dict[str, str]:
    """Return the origins of keys with their line in the configuration file."""
    if path is None:
        return dict(origins)
    lines = key_lines(path.read_text(encoding="utf-8-sig"))
    is_here = f"config {path}"
    return {
        key: f"{origin}:{lines[key]}" if origin == is_here and key in lines else origin
        for key, origin in origins.items()
    }


def _check_depth(values: Mapping[str, Any]) -> None:
    level: list[Mapping[str, Any]] = [values]
    for _ in range(_MAX_DEPTH):
        level = [item for table in level for item in table.values() if isinstance(item, Mapping)]
        if not level:
            return
    raise RecursionError


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
