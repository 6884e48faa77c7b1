"""A folder of DSR outputs as a command is given it, looked at before anything is read; free of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dsrface.data.decode import walk_images
from dsrface.data.folders import HR_CACHE_FOLDER, PLAIN_OUTPUTS_FOLDER, is_data_folder, split_roots
from dsrface.data.outputs import png_tree
from dsrface.data.stored import MANIFEST, PLAN
from dsrface.errors import RunError, UsageError
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import read_json
from dsrface.types import SPLITS


def is_cache(outputs_dir: Path) -> bool:
    """Return whether a folder holds a packed cache, finished or not; else it is a PNG tree."""
    names = (MANIFEST, PLAN)
    return any((outputs_dir / name).exists() for name in names) and not png_tree.is_tree_here(outputs_dir)


def check_given_outputs(outputs_dir: Path, data: Path, size_px: int) -> None:
    """Make sure that a folder can be DSR outputs of a data set, of whichever split.

    Args:
        outputs_dir: What the user named: a split's folder, one with a folder a split, or one for all images.
        data: The data set's folder.
        size_px: Side of the VLR faces that they should have been made from.

    Raises:
        UsageError, RunError: as `check_holds`, or they were made from faces of another size.
    """
    roots = list(split_roots(data).values())
    parts = [outputs_dir / name for name in SPLITS if (outputs_dir / name).is_dir()]
    for folder in parts or [outputs_dir]:
        check_holds(folder, _names(roots), roots)
        made_from = _made_from_px(folder)
        if made_from not in (None, size_px):
            raise UsageError(
                f"These outputs were made from faces of {made_from} px, not of {size_px} px.",
                id="wrong-vlr-size",
                where=folder,
                hint=f"Use --vlr-size {made_from}, or outputs of a DSR for {size_px} px.",
            )


def check_holds(outputs_dir: Path, names: Iterable[str], roots: Sequence[Path]) -> None:
    """Make sure that a folder holds a cache, or an image of one of some names.

    Args:
        outputs_dir: The folder.
        names: Relative names, any of which will do.
        roots: Folders of the splits that have these images.

    Raises:
        UsageError: the folder is one of the data set's own, or holds neither.
        RunError: no such folder.
    """
    here_first = sorted(roots, key=lambda root: root.resolve() != outputs_dir.resolve().parent)
    made = next(filter(None, (sorted(root.glob(f"{PLAIN_OUTPUTS_FOLDER}*")) for root in here_first)), [])
    question = f"Did you mean {' or '.join(quoted(folder) for folder in made)}?"
    data = roots[0].parent if roots[0].name in SPLITS else roots[0]
    hint = question if made else f"Make them: `dsrface precompute {quoted(data)} --weights RUN`."
    if not outputs_dir.is_dir():
        raise RunError("There are no DSR outputs here.", id="no-cache", where=outputs_dir, hint=hint)
    own = [folder for root in roots for folder in (root, root / HR_CACHE_FOLDER, *_own_images(root))]
    if outputs_dir.resolve() in {folder.resolve() for folder in own}:
        raise UsageError(
            "This folder holds the data set's own images, not DSR outputs.",
            id="not-outputs",
            where=outputs_dir,
            hint=f"{hint}\nTo train without a DSR, use --no-dsr or --hr-only.",
        )
    if not is_cache(outputs_dir) and not any((outputs_dir / name).is_file() for name in names):
        raise UsageError(
            "The folder holds neither a packed cache nor any image of the data set's names.",
            id="not-outputs",
            where=outputs_dir,
            hint=hint,
        )


def _made_from_px(folder: Path) -> int | None:
    """Return the VLR size that outputs were made from; None where that is not known."""
    try:
        key = read_json(folder / MANIFEST)["key"]
        return int(key["vlr_size"])
    except (RunError, KeyError, TypeError, ValueError):
        return None


def made_by(folder: Path) -> str:
    """Return the hash of the DSR's file that made outputs, finished or not; empty where nothing tells."""
    for name in (MANIFEST, PLAN):
        with contextlib.suppress(RunError, KeyError, TypeError):
            return str(read_json(folder / name)["key"]["dsr_sha256"])
    return ""


def _names(roots: Iterable[Path]) -> Iterator[str]:
    for root in roots:
        for folder in _own_images(root):
            yield from walk_images(folder)


def _own_images(root: Path) -> Iterator[Path]:
    """Yield the folders of a split's own images."""
    for entry in sorted(root.iterdir()):
        if is_data_folder(entry.name) and not entry.name.startswith(PLAIN_OUTPUTS_FOLDER):
            yield entry
