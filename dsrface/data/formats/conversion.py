"""How to make a list that is read of a file that is none."""

from __future__ import annotations

from pathlib import Path

from dsrface.runtime.command_line import joined

_YAML = "import yaml, json; json.dump(yaml.safe_load(open({old!r}, encoding='utf-8')), open({new!r}, 'w'))"
_TOML = "import tomllib, json; json.dump(tomllib.load(open({old!r}, 'rb')), open({new!r}, 'w'))"
_SHEET = "import pandas; pandas.read_excel({old!r}).to_csv({new!r}, index=False)"
_PARQUET = "import pandas; pandas.read_parquet({old!r}).to_csv({new!r}, index=False)"
_OLD_WINDOWS = "from pathlib import Path as P; P({new!r}).write_text(P({old!r}).read_text('cp1252'), 'utf-8')"
# The name of a kind by its suffix, what it becomes, and the line of Python that does it, where one does.
_KINDS = {
    ".yaml": ("YAML", ".json", _YAML),
    ".yml": ("YAML", ".json", _YAML),
    ".toml": ("TOML", ".json", _TOML),
    ".xlsx": ("a spreadsheet", ".csv", _SHEET),
    ".xls": ("a spreadsheet", ".csv", _SHEET),
    ".ods": ("a spreadsheet", ".csv", _SHEET),
    ".parquet": ("Parquet", ".csv", _PARQUET),
    ".xml": ("XML", ".csv", ""),
    ".mat": ("a file of MATLAB", ".csv", ""),
}
_FIRST_BYTES = 4096


def unread_kind(path: Path) -> tuple[str, str]:
    """Return what a file is that its suffix says not to be read, and how to convert it; empty for another."""
    if path.suffix.lower() not in _KINDS or not path.is_file():
        return "", ""
    what, suffix, code = _KINDS[path.suffix.lower()]
    new = path.with_suffix(suffix)
    convert = (
        f"Convert it: {_command(code, path, new)}" if code else f"Write it as {new}, a line for each image."
    )
    return f"This is {what}, which is not read.", convert


def to_utf8(path: Path) -> str:
    """Return how to convert text that is not UTF-8; empty for a file that is no text at all."""
    with path.open("rb") as file:
        if b"\0" in file.read(_FIRST_BYTES):
            return ""
    new = path.with_name(f"{path.stem}_utf8{path.suffix}")
    return f"UTF-8 is read. If an older program of Windows wrote it: {_command(_OLD_WINDOWS, path, new)}"


def _command(code: str, old: Path, new: Path) -> str:
    return joined(["python", "-c", code.format(old=str(old), new=str(new))])
