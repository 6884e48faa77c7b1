"""Every recogniser that is built here by name, with how it wants its images."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TypeGuard

import torch
from torch import Tensor, nn

from dsrface.config.catalogue import RECOGNISER_INPUT, RECOGNISERS, TIMM, load
from dsrface.errors import UsageError
from dsrface.models.checkpoints import Layout, find_network
from dsrface.models.foreign import build_timm
from dsrface.models.strict import shapes_of
from dsrface.types import EMBEDDING_DIM, Preprocess


def build_recogniser(name: str, *, layer_scale: float | None = None) -> nn.Module:
    """Return a randomly initialised recogniser.

    Args:
        name: Key of `RECOGNISERS`, or `timm:NAME`.
        layer_scale: Initial scale of the residual branches, for those that have one; None takes their own.

    Raises:
        UsageError: there is none of that name; the known ones are listed.
    """
    if name.startswith(TIMM):
        return build_timm(name)
    if name not in RECOGNISERS:
        raise UsageError(
            f"There is no recogniser {name!r}.",
            id="unknown-backbone",
            hint=f"Choose one of: {', '.join(RECOGNISERS)}.",
        )
    entry = RECOGNISERS[name]
    more = {"layer_scale": layer_scale} if entry.has_layer_scale else {}
    network: nn.Module = load(entry.build)(**entry.options, **more)
    return network


def input_of(name: str) -> Preprocess:
    """Return how a recogniser that `build_recogniser` knows wants its images."""
    return RECOGNISERS[name].preprocess if name in RECOGNISERS else RECOGNISER_INPUT


def embedding_dim_of(name: str) -> int:
    """Return the length of the embeddings of a recogniser that `build_recogniser` knows."""
    return RECOGNISERS[name].embedding_dim if name in RECOGNISERS else EMBEDDING_DIM


def is_known(name: object) -> TypeGuard[str]:
    """Return whether `build_recogniser` knows a name."""
    return isinstance(name, str) and (name in RECOGNISERS or name.startswith(TIMM))


@functools.cache
def expected_layout(name: str) -> Layout:
    """Return name and shape of every tensor of a recogniser."""
    with torch.device("meta"):
        return Layout(shapes_of(build_recogniser(name).state_dict()), RECOGNISERS[name].root)


def load_recogniser_state(tensors: Mapping[str, Tensor], *, where: object = "") -> tuple[str, nn.Module]:
    """Build the recogniser that tensors belong to and load it, every tensor of it.

    Args:
        tensors: Of a checkpoint, however wrapped.
        where: The file, for errors.

    Returns:
        Its name and the network, in evaluation mode.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape.
    """
    layouts = {name: expected_layout(name) for name in RECOGNISERS}
    name, state = find_network(tensors, layouts, where=where)
    network = build_recogniser(name)
    network.load_state_dict(state, strict=True)
    return name, network.eval()
