"""What a user names in code of their own: `package.module:name`, `path/file.py:name` or `file.ipynb:name`."""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dsrface.errors import UsageError
from dsrface.runtime import notebooks

_FORMS = "package.module:callable or path/file.py:callable"
_MOST_OFFERED = 4
_BINDS_MORE = (
    "exec",
    "globals",
    "setattr",
    "vars",
    "locals",
)  # what a file defines with these, no one can read


def named_object(spec: str, *, flag: str, wanted: str) -> tuple[Any, str]:
    """Import what a name leads to; runs foreign code.

    Args:
        spec: The name.
        flag: Option that takes it, for the error.
        wanted: What it should lead to, with its article, for the error.

    Returns:
        The object, and the source file of its module; the latter may be empty.

    Raises:
        UsageError: the name leads nowhere (`bad-target`).
    """
    module_name, name = split_spec(spec, flag=flag, wanted=wanted)
    if module_name.endswith(".ipynb"):
        module = notebooks.run(Path(module_name), until=name.partition(".")[0])
    elif module_name.endswith(".py"):
        module = _import_file(Path(module_name))
    else:
        module = _import_module(module_name)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [
                key
                for key, found in vars(module).items()
                if getattr(found, "__module__", "") == module.__name__ and not key.startswith("_")
            ]
            near = difflib.get_close_matches(part, known, n=3)
            raise UsageError(
                f"{module_name} has no {name!r}.",
                id="bad-target",
                hint=f"Did you mean {' or '.join(near)}?" if near else f"It has: {', '.join(known[:12])}.",
            )
        value = getattr(value, part)
    return value, str(getattr(module, "__file__", "") or "")


def split_spec(spec: str, *, flag: str, wanted: str) -> tuple[str, str]:
    """Return the module or file that a name stands for, and the name in it; runs nothing.

    Args:
        spec: The name.
        flag: Option that takes it, for the error; may be empty.
        wanted: What it should lead to, with its article, for the error.

    Raises:
        UsageError: not of the form `module:name` (`bad-target`).
    """
    module_name, _, name = spec.replace("::", ":").rpartition(":")  # as pytest writes it
    if module_name and name and not {"/", "\\"} & set(name):  # else a drive of Windows, and no name
        return module_name, name
    hint = f"Write {flag} " + _FORMS.replace(" or ", f" or {flag} ") + "."
    module, _, attribute = spec.rpartition(".")
    file = Path(spec if spec.endswith(".py") else f"{spec}.py")
    if defined := _definitions(file):
        offered = [f"{flag} {file}:{each}".strip() for each in defined[:_MOST_OFFERED]]
        hint = "\n".join([f"{file} defines these:", *offered])
    elif module.strip(".") and attribute in _definitions(Path(*module.split(".")).with_suffix(".py")):
        hint = f"Did you mean {flag} {module}:{attribute}?"
    raise UsageError(f"{spec!r} does not name {wanted}.", id="bad-target", hint=hint)


def check_in_file(spec: str, *, flag: str, wanted: str) -> None:
    """Make sure of what can be known of a name without running anything: its form, its file, its definition.

    Args:
        spec: The name.
        flag: Option that takes it, for the error.
        wanted: What it should lead to, with its article, for the error.

    Raises:
        UsageError: no such form or file, or the file defines no such name (`bad-target`).
    """
    module_name, name = split_spec(spec, flag=flag, wanted=wanted)
    file = Path(module_name)
    if file.suffix in {".py", ".ipynb"} and not file.is_file():
        raise UsageError("The file does not exist.", id="bad-target", where=file)
    if file.suffix == ".ipynb" or (file.suffix != ".py" and not Path(f"{file}.py").is_file()):
        return
    known = _bound_names(file if file.suffix == ".py" else Path(f"{file}.py"))
    first = name.partition(".")[0]
    if known is not None and first not in known:
        public = [key for key in known if not key.startswith("_")]
        near = difflib.get_close_matches(first, public, n=1) or public[:_MOST_OFFERED]
        raise UsageError(
            f"{module_name} has no {first!r}.",
            id="bad-target",
            hint="\n".join(["Did you mean:", *(f"{flag} {module_name}:{each}" for each in near)])
            if near
            else "",
        )


def _bound_names(file: Path) -> list[str] | None:
    """Return the names that a source file binds anywhere, or None where they cannot be known."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    names: list[str] = []
    for node in nodes:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _BINDS_MORE:
            return None
    return None if "*" in names or "__getattr__" in names else list(dict.fromkeys(names))


def _definitions(file: Path) -> list[str]:
    """Return the public classes and functions of a source file, those first that look like data sets."""
    try:
        body = ast.parse(file.read_bytes()).body if file.suffix == ".py" else []
    except (OSError, SyntaxError, ValueError):
        return []
    named = [node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    public = [node for node in named if not node.name.startswith("_")]

    def is_data_set(node: ast.ClassDef | ast.FunctionDef) -> bool:
        return isinstance(node, ast.ClassDef) and any("Data" in ast.unparse(base) for base in node.bases)

    return [node.name for node in sorted(public, key=is_data_set, reverse=True)]


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise UsageError(
                f"There is no module {name!r}.",
                id="bad-target",
                hint="It is looked for in the working folder and the installed packages.",
            ) from None
        raise


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name, so that a spawned worker can import it again."""
    path = path.resolve()
    if not path.is_file():
        raise UsageError("The file does not exist.", id="bad-target", where=path)
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "/").resolve() != path:
        raise UsageError(
            f"The file's name hides the module {path.stem!r}; workers would import the wrong one.",
            id="bad-target",
            where=path,
            hint="Rename the file.",
        )
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)
