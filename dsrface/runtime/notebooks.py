"""Run the code cells of a notebook without Jupyter: `python -m dsrface.runtime.notebooks FILE.ipynb`.

Syntax of Python 3.9, standard library only: it runs in the Python of the project.
"""

from __future__ import annotations

import ast
import json
import linecache
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from dsrface.errors import UsageError

_RUNS_ITS_BODY = ("%%time", "%%timeit", "%%capture")
_COMMAND = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def run(path: Path, *, until: str = "") -> ModuleType:
    """Run a notebook's cells in order, in a module that takes the place of `__main__`, as in Jupyter.

    Lines for the notebook's own program (`%matplotlib`, `!pip`) are passed over. Each cell has a file name of
    its own, such as `train.ipynb cell 3`, under which its lines are found.

    Args:
        path: The `.ipynb` file.
        until: Name whose cell is the last to run; empty runs all.

    Raises:
        UsageError: it is no notebook (`bad-target`).
    """
    module = ModuleType("__main__")
    vars(module).update(get_ipython=lambda: None, display=lambda *_, **__: None)
    sys.modules["__main__"] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    for number, text in code_cells(path):
        name = f"{path.resolve()} cell {number}"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        tree = ast.parse(text, name)
        exec(compile(tree, name, "exec"), vars(module))  # noqa: S102 - what the user asks for
        if until and until in _bound(tree):
            break
    return module


def code_cells(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each code cell, counted from 1, without what is no Python.

    Raises:
        UsageError: it is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"This is no notebook: {error!r}.", id="bad-target", where=path) from None
    for number, text in enumerate(texts, 1):
        if not text.startswith("%%") or text.startswith(_RUNS_ITS_BODY):
            yield number, _COMMAND.sub(r"\1pass", text)


def _bound(tree: ast.Module) -> set[str]:
    """Return the names that a cell defines, imports or assigns at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    return names


if __name__ == "__main__":
    notebook = Path(sys.argv[1]).resolve()
    os.chdir(notebook.parent)  # as Jupyter does
    run(notebook)
