"""Super-resolution networks of others, made to give HR faces of the size that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import WeightsError
from dsrface.models.loaded import LoadedModel
from dsrface.models.resize import resize_bicubic
from dsrface.models.weight_files import read_tensors
from dsrface.runtime.files import sha256_file
from dsrface.runtime.versions import how_to_install
from dsrface.types import Preprocess

# Averaged weights before the others, as their authors take them.
_WRAPPERS = (
    "params_ema.", "params-ema.", "params.", "model_state_dict.", "state_dict.", "model_ema.", "model.",
    "net.", "netG.", "generator.", "module.",
)  # fmt: skip
_MOST_SHOWN = 300  # letters of what spandrel says
_PIXELS_AT_ONCE = 64 * 112 * 112  # of a batch; one of faces of 512 px would take tens of GiB
_RESTORERS_SIZE_PX = 512  # what networks that restore faces at their own size were trained with


class Upscaler(nn.Module):
    """A network of another factor, between a resize before it and one after it.

    Args:
        network: Maps Image01 to Image01, at any factor.
        size_px: Side of the result.
        input_px: Side that images are enlarged to beforehand; None gives them as they are.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], *, size_px: int, input_px: int | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self._size_px, self._input_px = size_px, input_px

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 h h"]:
        """Return the batch at the wanted size, not clamped."""
        side = self._input_px or low.shape[-1]
        parts = torch.split(low, max(1, _PIXELS_AT_ONCE // side**2))
        return torch.cat([self._enlarged(part) for part in parts])

    def _enlarged(self, low: Tensor) -> Tensor:
        image = low if self._input_px is None else resize_bicubic(low, size_px=self._input_px).clamp(0, 1)
        return resize_bicubic(self.network(image), size_px=self._size_px)


def load_spandrel(path: Path, high_size: int) -> LoadedModel:
    """Load a super-resolution or face restoration checkpoint, with the optional extra `spandrel`.

    Real-ESRGAN, SwinIR, GFPGAN and some forty other architectures, known by their tensors. A network that
    restores faces without enlarging them gets the face at 512 px.

    Args:
        path: The file.
        high_size: Side of the images that it is made to give.

    Raises:
        WeightsError: unreadable, of no architecture that spandrel knows, or the extra is missing.
    """
    try:
        import spandrel
    except ImportError:
        raise WeightsError(
            "The file does not say which network it belongs to: it was not written by dsrface.",
            id="weights-no-metadata",
            where=path,
            hint="A DSR is loaded from a run of `dsrface train-dsr` or a file that `dsrface export` wrote. "
            f"Checkpoints of other projects need the extra spandrel: {how_to_install('spandrel')}",
        ) from None
    tensors, _ = read_tensors(path)
    problems: list[str] = []
    found: Any = _recognised(tensors, spandrel.ModelLoader(), problems)
    if found is None:
        raise WeightsError(
            f"spandrel knows the names of the tensors, but they do not fit its network: {problems[0]}"
            if problems
            else "No super-resolution network has these tensors: neither dsrface nor spandrel knows them.",
            id="weights-mismatch",
            where=path,
            hint="A network of another kind goes as an ONNX file, torchscript:FILE, or nets.py:callable.",
        )
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != 3:
        raise WeightsError(
            f"{found.architecture.name} does not map colour images to images.",
            id="network-interface",
            where=path,
        )
    input_px = None
    if found.scale == 1:
        input_px = _RESTORERS_SIZE_PX if found.purpose == "FaceSR" else high_size
    model = Upscaler(SpandrelNetwork(found), size_px=high_size, input_px=input_px).eval()
    arch = f"{found.architecture.name} x{found.scale}"
    config = {"arch": arch, "vlr_size": None, "high_size": high_size}
    return LoadedModel(model, "dsr", config, Preprocess(high_size), sha256_file(path), path, {})


def _recognised(tensors: Mapping[str, Tensor], loader: Any, problems: list[str]) -> Any:
    """Return what spandrel makes of tensors, as they are or below a wrapper's prefix; None when nothing.

    Args:
        tensors: By their names in the file.
        loader: spandrel's.
        problems: Gets what kept networks from being loaded whose names the tensors have.
    """
    import spandrel

    try:
        return loader.load_from_state_dict(dict(tensors))
    except (spandrel.UnsupportedModelError, KeyError):
        pass
    except RuntimeError as error:
        said = str(error).removeprefix("Error(s) in loading state_dict for ")
        problems.append(" ".join(said.split("\n\t")[:2]).strip()[:_MOST_SHOWN])
    for wrapper in _WRAPPERS:
        below = {
            name.removeprefix(wrapper): item for name, item in tensors.items() if name.startswith(wrapper)
        }
        if below and (found := _recognised(below, loader, problems)) is not None:
            return found
    return None


class SpandrelNetwork(nn.Module):
    """spandrel's descriptor as a module: its padding, its clamp, its network.

    Args:
        descriptor: An ImageModelDescriptor.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network: nn.Module = descriptor.model
        self._descriptor = descriptor

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Return the batch, enlarged by the network's factor."""
        enlarged: Tensor = self._descriptor(image)
        return enlarged
