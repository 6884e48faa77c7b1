"""A network's tensors inside a checkpoint, found by names and shapes, whatever they are wrapped in.

Trainers put prefixes before the names (`module.`, `model.`, `backbone.`), nest state dicts below keys
(`state_dict`, `params_ema`) and save heads, optimisers and averaged copies next to the network. The tensors
decide: a prefix fits when what is below it is the network, to the last tensor and no tensor more.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsrface.errors import WeightsError
from dsrface.models.strict import Shapes, key_difference, shapes_of

_COUNTER = "num_batches_tracked"  # of BatchNorm: old files lack it, and it changes nothing here
_AVERAGED = re.compile(r"(^|[._])ema([._]|$)")


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a network's tensors.

    Args:
        shapes: By the network's own names.
        root: Prefix that all of them have and that a file may lack; often empty.
    """

    shapes: Shapes
    root: str = ""

    def bare(self) -> Shapes:
        """Return the shapes without the root and without counters."""
        return {
            name.removeprefix(self.root): shape
            for name, shape in self.shapes.items()
            if not name.endswith(_COUNTER)
        }


def find_network(
    tensors: Mapping[str, Tensor], layouts: Mapping[str, Layout], *, where: object
) -> tuple[str, dict[str, Tensor]]:
    """Return which network's tensors these are, and its complete state dict.

    Of an averaged copy (`ema` in a name) and the network itself, the copy is taken, as its authors do.

    Args:
        tensors: Of the file, by whatever names.
        layouts: The networks that it may be.
        where: The file, for errors.

    Raises:
        WeightsError: none fits (`weights-mismatch`, with the difference to the nearest), or several different
            ones of the same kind do (`weights-ambiguous`).
    """
    shapes = {name: shape for name, shape in shapes_of(tensors).items() if not name.endswith(_COUNTER)}
    prefixes_by_name: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        parts = name.split(".")
        for start in range(len(parts)):
            prefixes_by_name[".".join(parts[start:])].append("".join(f"{part}." for part in parts[:start]))
    nearest: tuple[int, str, str] = (-1, "", "")
    for network, layout in layouts.items():
        bare = layout.bare()
        found = Counter(
            prefix
            for name, shape in bare.items()
            for prefix in prefixes_by_name[name]
            if shapes[prefix + name] == shape
        )
        complete = [
            prefix
            for prefix, count in found.items()
            if count == len(bare) == sum(name.startswith(prefix) for name in shapes)
        ]
        if complete:
            prefix = _choose(complete, bare, tensors, where)
            return network, _state(tensors, layout, prefix)
        best, count = max(found.items(), key=lambda item: item[1], default=("", 0))
        nearest = max(nearest, (count, network, best), key=lambda item: item[0])
    raise _mismatch(shapes, layouts, nearest, where)


def _choose(prefixes: Sequence[str], bare: Shapes, tensors: Mapping[str, Tensor], where: object) -> str:
    averaged = [prefix for prefix in prefixes if _AVERAGED.search(prefix)]
    first, *others = averaged or prefixes
    for other in others:
        if not all(torch.equal(tensors[first + name], tensors[other + name]) for name in bare):
            raise WeightsError(
                f"The file holds two such networks, below `{first}` and below `{other}`.",
                id="weights-ambiguous",
                where=where,
                hint="Save the state dict of the one you mean into a file of its own.",
            )
    return first


def _state(tensors: Mapping[str, Tensor], layout: Layout, prefix: str) -> dict[str, Tensor]:
    return {
        name: tensors.get(prefix + name.removeprefix(layout.root), torch.zeros((), dtype=torch.int64))
        for name in layout.shapes
    }


def _mismatch(
    shapes: Shapes, layouts: Mapping[str, Layout], nearest: tuple[int, str, str], where: object
) -> WeightsError:
    _, network, prefix = nearest
    layout = layouts[network]
    below = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    known = ", ".join(layouts)
    what = f"No network known here has these tensors; the nearest is {network}. Known are {known}."
    if len(layouts) == 1:
        what = f"These are not the tensors of {network}."
    return key_difference(layout.bare(), below, where=where, what=what, prefix=prefix)
