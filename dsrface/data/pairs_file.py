"""Verification pairs of a data set, from a list of pairs."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.formats.pair_lists import read_pair_list
from dsrface.data.layout import FaceSplit
from dsrface.data.pair_finder import PairFinder
from dsrface.data.pairs import Pairs, folded


def read_pairs(path: Path, split: FaceSplit) -> Pairs:
    """Read a list of pairs in any form of `formats.pair_lists`.

    Args:
        path: The list.
        split: Where the images are looked up: image `i` of a person is `<name>_<i>` with any leading zeros;
            a path is looked up without its suffix.

    Returns:
        The pairs whose images are in the split; the others are counted, as other splits may hold them.

    Raises:
        DataError: as `read_pair_list`.
    """
    listed = read_pair_list(path)
    find = PairFinder(split.names)
    rows: list[tuple[int, int, bool, int]] = []
    for pair in listed.pairs:
        first, second = find(pair.first), find(pair.second)
        if first is not None and second is not None:
            rows.append((first, second, pair.is_same, pair.fold))
    num_skipped = len(listed.pairs) - len(rows)
    folds = "1 fold" if listed.num_folds == 1 else f"{listed.num_folds} folds"
    return folded(rows, f"{folds} of {path.name}", num_folds=listed.num_folds, num_skipped=num_skipped)
