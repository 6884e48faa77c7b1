"""A recogniser that was trained by others on other people: dlib's, with the optional extra `judge`.

The network (a ResNet with 29 convolutions, King 2017) and its weights come in the wheels of `dlib-bin`
(Boost licence) and `face_recognition_models` (the weights are CC0); nothing is downloaded at run time. It
takes the whole aligned face enlarged to 150 px, RGB in 0..255, and gives 128 numbers; it has no gradient, so
that nothing can be trained against it by mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import WeightsError
from dsrface.models.canary import canary_images
from dsrface.models.judge_files import require_judge
from dsrface.models.loaded import LoadedModel
from dsrface.models.preprocess import normalise
from dsrface.models.sources import JUDGE
from dsrface.runtime.files import sha256_file
from dsrface.types import Preprocess

_PREPROCESS = Preprocess(150, std=(1 / 255, 1 / 255, 1 / 255))
_FACTS = {
    "input": "the whole aligned face, enlarged to 150 px by bicubic, RGB in 0..255",
    "licence": "CC0 1.0 (weights), Boost 1.0 (dlib)",
}
# Between the embeddings of the canary's images, as dlib 20.0 gave it; of images in 0..1 it is 0.05.
_CANARY_DISTANCE, _TOLERANCE = 0.405, 0.05


def load_judge() -> LoadedModel:
    """Load the judge.

    Raises:
        MachineError: the extra is missing.
        WeightsError: it sees its images in another range than it wants.
    """
    path = require_judge()
    import dlib

    network = DlibNetwork(dlib.face_recognition_model_v1(str(path)))
    require_known_distance(network, _PREPROCESS)
    return LoadedModel(
        network,
        "recogniser",
        {"variant": "dlib's (judge)"},
        _PREPROCESS,
        sha256_file(path),
        Path(JUDGE),
        _FACTS,
        has_gradient=False,
    )


def require_known_distance(network: nn.Module, preprocess: Preprocess) -> None:
    """Refuse a judge whose embeddings of two fixed images are not as far apart as they were measured to be.

    Given images in [0, 1] it would still tell faces apart, only far worse, and no error would say so.

    Args:
        network: The judge.
        preprocess: How it is given its images.

    Raises:
        WeightsError: id `canary`.
    """
    first, second = network(normalise(canary_images(preprocess.size_px), preprocess))
    distance = float((first - second).norm())
    if abs(distance - _CANARY_DISTANCE) > _TOLERANCE:
        raise WeightsError(
            f"The judge does not see what it should: two fixed images are {distance:.3f} apart, not "
            f"{_CANARY_DISTANCE}.",
            id="canary",
            where=JUDGE,
            hint="It wants RGB in 0..255; or another version of dlib or of its weights is installed.",
        )


class DlibNetwork(nn.Module):
    """dlib's network as a torch module, on the CPU.

    Args:
        network: dlib's own object.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network

    def forward(self, image: Float[Tensor, "b 3 150 150"]) -> Float[Tensor, "b 128"]:
        """Return embeddings of images in 0..255, where the images were."""
        pixels = image.detach().round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
        faces = [np.ascontiguousarray(face) for face in pixels]
        found = np.array([self._network.compute_face_descriptor(face) for face in faces], np.float32)
        return torch.from_numpy(found).to(image.device)
