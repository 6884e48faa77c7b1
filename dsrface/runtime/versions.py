"""What software made a run: gathered here, written by whoever keeps a record."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import dsrface
from dsrface.errors import MachineError

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "pydantic")
_GIT_TIMEOUT_S = 5


@dataclass(frozen=True)
class Versions:
    """Versions of everything that can change a run's numbers.

    Args:
        dsrface: Version of this package.
        python: Interpreter version.
        platform: Operating system and architecture.
        packages: Distribution name to installed version; absent ones are left out.
        git_commit: Commit of the working folder, empty outside a repository.
        git_is_dirty: Whether that working tree had changes.
    """

    dsrface: str
    python: str
    platform: str
    packages: dict[str, str]
    git_commit: str
    git_is_dirty: bool

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


def gather_versions(folder: Path | None = None) -> Versions:
    """Ask the interpreter, the installed distributions and git; imports nothing heavy.

    Args:
        folder: Where to ask git; the current folder when None.
    """
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = _git(["rev-parse", "HEAD"], folder)
    return Versions(
        dsrface=dsrface.__version__,
        python=sys.version.split()[0],
        platform=f"{platform.system()} {platform.machine()}",
        packages=packages,
        git_commit=commit,
        git_is_dirty=bool(commit and _git(["status", "--porcelain", "--untracked-files=no"], folder)),
    )


def _git(arguments: list[str], folder: Path | None) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever git the user has
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def require(module: str, *, extra: str) -> None:
    """See whether a package of an optional extra is there; imports nothing.

    Raises:
        MachineError: it is not (`missing-extra`).
    """
    if importlib.util.find_spec(module) is None:
        raise MachineError(
            f"This needs {module}, which is not installed.",
            id="missing-extra",
            hint=f"Install it: {how_to_install(extra)}",
        )


def how_to_install(extra: str) -> str:
    """Return the command that adds an optional extra; dsrface is installed from its source folder."""
    return f'in the source folder of dsrface, python -m pip install ".[{extra}]"'
