"""State dicts load completely or not at all, and what does not fit is named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from torch import Tensor, nn

from dsrface.errors import WeightsError

_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's
_MAX_NAMES_SHOWN = 6

_WITHOUT_THEM = "The network is whole: if the rest is a head that only training needs, save it without that."

Shapes = Mapping[str, tuple[int, ...]]


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], *, where: object, what: str) -> None:
    """Load every tensor of `model`, or raise with the key difference and load none.

    Args:
        model: Takes the tensors.
        tensors: By the names of the model's state dict.
        where: The file, for the error.
        what: The error's first sentence.

    Raises:
        WeightsError: id `weights-mismatch`.
    """
    require_shapes(shapes_of(model.state_dict()), tensors, where=where, what=what)
    model.load_state_dict(dict(tensors), strict=True)


def require_shapes(expected: Shapes, tensors: Mapping[str, Tensor], *, where: object, what: str) -> None:
    """Refuse tensors of other names or shapes, before a network as large as the file says is built.

    Raises:
        WeightsError: id `weights-mismatch`.
    """
    found = shapes_of(tensors)
    if expected != found:
        raise key_difference(expected, found, where=where, what=what)


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """Return the shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def plain_name(name: str) -> str:
    """Return a tensor's name without what wrappers put before it."""
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def key_difference(
    expected: Shapes, found: Shapes, *, where: object, what: str, prefix: str = ""
) -> WeightsError:
    """Return the error that lists missing, unexpected and wrongly shaped tensors, with the nearest names.

    Args:
        expected: Shapes of the network.
        found: Shapes of the file, by the same names.
        where: The file.
        what: The error's first sentence.
        prefix: What stands before each name in the file.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = [name for name in expected if name in found and expected[name] != found[name]]
    matched = len(expected) - len(missing) - len(shapes)
    lines = [what, f"{matched} of {len(expected)} tensors match."]
    if missing:
        near = {
            name: difflib.get_close_matches(name, unexpected, n=1, cutoff=0.8)
            for name in missing[:_MAX_NAMES_SHOWN]
        }
        shown = [name + (f" (the file has {prefix}{near[name][0]})" if near[name] else "") for name in near]
        lines.append(_listed("missing", shown, len(missing)))
    if unexpected:
        lines.append(
            _listed("unexpected", [prefix + name for name in unexpected[:_MAX_NAMES_SHOWN]], len(unexpected))
        )
    if shapes:
        shown = [
            f"{prefix}{name}: {list(found[name])}, wanted {list(expected[name])}"
            for name in shapes[:_MAX_NAMES_SHOWN]
        ]
        lines.append(_listed("other shape", shown, len(shapes)))
    return WeightsError(
        "\n".join(lines),
        id="weights-mismatch",
        where=where,
        hint="Nothing was loaded: weights load completely or not at all. "
        + (_WITHOUT_THEM if matched == len(expected) else "Is the file for this network?"),
    )


def _listed(label: str, shown: list[str], total: int) -> str:
    more = f", and {total - len(shown)} more" if total > len(shown) else ""
    return f"  {label} ({total}): {', '.join(shown)}{more}"
