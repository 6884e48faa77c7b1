"""Canaries: two built-in images through a freshly loaded network, before anybody relies on it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import WeightsError
from dsrface.models.preprocess import normalise
from dsrface.types import Preprocess

# Two unlike images whose embeddings agree to this cosine: the network says nothing about its input.
_MAX_COSINE = 0.9999
_ON_CPU = (
    "Its code names a GPU, where it was saved. Save it again with the network and its example on the CPU: "
    "model.cpu(), then torch.jit.trace."
)


@torch.no_grad()
def canary_recogniser(model: nn.Module, preprocess: Preprocess, *, where: object = "") -> None:
    """Run two fixed, unlike images through a recogniser; refuse embeddings that are broken or all the same.

    Raises:
        WeightsError: id `canary`.
    """
    embeddings = _answer(model, normalise(canary_images(preprocess.size_px), preprocess), where)
    if embeddings.ndim != 2 or len(embeddings) != 2:
        raise _no_interface(f"it gives {list(embeddings.shape)} for two images, not two rows", where)
    norms = embeddings.norm(dim=1)
    cosine = float(torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0))
    reason = ""
    if not bool(torch.isfinite(embeddings).all()):
        reason = "its embeddings are not finite"
    elif float(norms.min()) < 1e-6:
        reason = "its embeddings are zero"
    elif cosine > _MAX_COSINE:
        reason = f"two unlike images get the same embedding (cosine {cosine:.6f})"
    if reason:
        raise WeightsError(
            f"The recogniser does not work: {reason}.",
            id="canary",
            where=where,
            hint="All tensors fit, but their values are no trained network's; use another checkpoint.",
        )


@torch.no_grad()
def canary_dsr(model: nn.Module, vlr_size: int, high_size: int, *, where: object = "") -> None:
    """Run two fixed images through a DSR; refuse weights of zero, an output not finite or of another size.

    Raises:
        WeightsError: id `canary`.
    """
    weights = list(model.parameters())
    if weights and not any(bool(weight.any()) for weight in weights):
        raise WeightsError(
            "The network does not work: every weight is zero.",
            id="canary",
            where=where,
            hint="The file was written but never filled; use another checkpoint.",
        )
    output = _answer(model, canary_images(vlr_size), where)
    if tuple(output.shape[-2:]) != (high_size, high_size) or not bool(torch.isfinite(output).all()):
        raise WeightsError("The network does not work: its output is not finite.", id="canary", where=where)


def _answer(model: nn.Module, images: Tensor, where: object) -> Tensor:
    """Return what a network makes of images, which code of others may refuse in any way."""
    try:
        return torch.as_tensor(model(images)).float()
    except Exception as error:
        # The last line is the reason; TorchScript puts its whole stack before it.
        reason = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
        problem = f"given images as {list(images.shape)} it stops with {type(error).__name__}: {reason}"
        raise _no_interface(problem, where, hint=_ON_CPU if "cuda" in str(error).lower() else "") from error


def _no_interface(problem: str, where: object, *, hint: str = "") -> WeightsError:
    return WeightsError(
        f"The network cannot be used here: {problem.removesuffix('.')}.",
        id="network-interface",
        where=where,
        hint=hint
        or "It takes floats [B, 3, H, W]; a recogniser gives [B, D], a super-resolution network images.",
    )


def canary_images(size_px: int) -> Float[Tensor, "2 3 {size_px} {size_px}"]:
    """Return two fixed Image01 patterns: coloured waves of different direction and frequency."""
    axis = torch.linspace(0, 1, size_px)
    rows, columns = axis[:, None], axis[None, :]
    first = torch.stack([(6 * rows + k).sin() * (4 * columns).cos() for k in range(3)])
    second = torch.stack([(17 * columns - 9 * rows + 2 * k).sin() for k in range(3)])
    return torch.stack([first, second]) / 2 + 0.5
