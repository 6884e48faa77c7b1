"""The folder that a demo fills; free of torch, to be looked at first."""

from __future__ import annotations

from pathlib import Path

from dsrface.errors import RunError

MARKER = "demo.json"


def check_demo_folder(folder: Path) -> None:
    """Make sure that a folder is a demo's, is empty, or is not there yet.

    Raises:
        RunError: it holds something else; id `demo-folder`.
    """
    if folder.is_dir() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise RunError(
            "The folder is not empty, and holds no demo.",
            id="demo-folder",
            where=folder,
            hint="Give another folder by --out.",
        )
