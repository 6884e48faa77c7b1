"""Lists of names that benchmarks ship as `.mat` files, read with the optional extra `benchmarks` (scipy)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsrface.errors import DataError, MachineError
from dsrface.runtime.versions import how_to_install


def read_mat(path: Path) -> dict[str, list[list[str]]]:
    """Return every table of a MATLAB file as rows of text.

    Cells of text stay text, whole numbers are written without a point.

    Args:
        path: A file of MATLAB 5 to 7.2.

    Raises:
        DataError: no such file, or of another format.
        MachineError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MachineError(
            "Lists in .mat files need scipy.", id="missing-extra", hint=how_to_install("benchmarks")
        ) from error
    try:
        content = loadmat(str(path))
    except FileNotFoundError:
        raise DataError("The list does not exist.", id="bad-list-file", where=path) from None
    except Exception as error:  # noqa: BLE001 - scipy raises almost anything
        raise DataError(
            f"Cannot read the MATLAB file: {error}.",
            id="bad-list-file",
            where=path,
            hint="A file of version 7.3 is read after `save(name, '-v7')` in MATLAB or Octave.",
        ) from None
    return {
        name: [[_text(cell) for cell in row] for row in np.atleast_2d(value)]
        for name, value in content.items()
        if not name.startswith("__") and isinstance(value, np.ndarray)
    }


def _text(cell: Any) -> str:
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.reshape(-1)[0]
    if isinstance(cell, np.ndarray):
        return " ".join(_text(item) for item in cell.reshape(-1))
    if isinstance(cell, np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)
