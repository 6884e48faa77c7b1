"""Small value types that data, models and engine share, so that those rooms need not know one another.

Images are named by their range: `ImageU8` holds 0..255 bytes, `Image01` floats in [0, 1]. On disk and in
loaders an image is uint8 HWC RGB; on the device, inside networks, float BCHW in [0, 1] (a network's
`Preprocess` maps from there).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

HIGH_SIZE_PX: Final = 112  # what recognisers take
HIGH_SIZES_PX = (112, 128)  # 128: published tables of face super-resolution
MAX_SIZE_PX = 4096
VLR_SIZES_PX = (16, 24, 32)
ANY_SIZES_PX = range(8, 49)  # what a DSR for many sizes is trained on and given
EMBEDDING_DIM = 512  # of a recogniser, unless its entry in the catalogue says otherwise
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its images; travels inside every weight file.

    Args:
        size_px: Side of the square input, in pixels.
        mean: Subtracted from each channel of an Image01.
        std: Divides each channel afterwards.
        colour: Channel order the network was trained with.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    colour: str = "RGB"

    def to_json(self) -> str:
        """Return a canonical JSON text, as stored in safetensors metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Rebuild from `to_json`.

        Raises:
            ValueError, KeyError, TypeError: as `from_dict`, or no JSON.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Preprocess:
        """Build from the values of all four fields, which may come from a file of anybody.

        Raises:
            ValueError: values that no network can want.
            KeyError, TypeError: a field is missing, or of another type.
        """
        size, colour = raw["size_px"], raw["colour"]
        mean, std = (tuple(float(value) for value in raw[key]) for key in ("mean", "std"))
        if type(size) is not int or not 1 <= size <= MAX_SIZE_PX:
            raise ValueError(f"size_px is {size!r}, not a whole number from 1 to {MAX_SIZE_PX}")
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError("mean and std must be three finite numbers, those of std above 0")
        if colour not in ("RGB", "BGR"):
            raise ValueError(f"colour is {colour!r}, neither RGB nor BGR")
        return cls(size, mean, std, colour)


@dataclass
class Batch:
    """What every loader delivers, whatever the back end.

    Args:
        inputs: uint8 [B, S, S, 3], RGB: the VLR images (live, bicubic) or the 112x112 DSR outputs (cached).
        high: uint8 [B, 112, 112, 3], RGB: the HR twins, with the same geometry as `inputs`.
        labels: int64 [B], person index within the split, 0-based.
        indices: int64 [B], position of the sample in the data set.
        epoch: Epoch the batch belongs to, 0-based; with `indices` it fixes every random draw.
        sizes_px: int64 [B], on the CPU: side of each input, which is at the top left of its S x S; None where
            all have S.
    """

    inputs: torch.Tensor
    high: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    epoch: int = 0
    sizes_px: torch.Tensor | None = None

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`, as `to_device` copies."""
        return Batch(
            to_device(self.inputs, device),
            to_device(self.high, device),
            to_device(self.labels, device),
            to_device(self.indices, device),
            self.epoch,
            self.sizes_px,
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return Batch(
            self.inputs.pin_memory(),
            self.high.pin_memory(),
            self.labels.pin_memory(),
            self.indices.pin_memory(),
            self.epoch,
            self.sizes_px,
        )


def to_device(
    tensor: torch.Tensor, device: torch.device | str, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return `tensor` on `device`, as `dtype`; a copy to CUDA out of pinned memory is not waited for.

    Elsewhere it is: on MPS, a copy that is not waited for may read host memory after it was freed.
    """
    return tensor.to(device, dtype, non_blocking=str(device).startswith("cuda"))
