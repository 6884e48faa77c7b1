"""Ways to run a super-resolution network on a CPU: one function each, listed in `config.catalogue`.

Each takes the network and a function that reads some of its images, and returns the network to run instead,
which takes and gives the same. Threads may share it: each runs a batch of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import MachineError
from dsrface.models.loaded import LoadedModel
from dsrface.models.onnx_file import in_int8, onnx_graph, require_onnx
from dsrface.models.onnx_network import OnnxNetwork

_OPSET = 18
Sample = Callable[[], Float[Tensor, "b 3 s s"]]


def as_it_is(loaded: LoadedModel, sample: Sample) -> nn.Module:
    """Return the network itself."""
    del sample
    return loaded.model


def compiled(loaded: LoadedModel, sample: Sample) -> nn.Module:
    """Return the network compiled by torch, for batches of any size.

    Raises:
        MachineError: torch cannot compile here, mostly because there is no C++ compiler.
    """
    network = cast("nn.Module", torch.compile(loaded.model, dynamic=True))
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the compiler's own internals
            network(sample())
    except Exception as error:  # noqa: BLE001 - torch's compilers raise classes of their own
        raise MachineError(
            f"torch cannot compile the network here: {str(error).splitlines()[0]}",
            id="no-compiler",
            hint="It needs a C++ compiler. Use another backend: --set backend=auto",
        ) from None
    return network


def onnx_runtime(loaded: LoadedModel, sample: Sample) -> nn.Module:
    """Return the network in ONNX Runtime, one thread a batch.

    Raises:
        MachineError: the extra `onnx` is missing.
    """
    del sample
    require_onnx()
    return OnnxNetwork(onnx_graph(loaded, opset=_OPSET), num_threads=1)


def int8(loaded: LoadedModel, sample: Sample) -> nn.Module:
    """Return the network in ONNX Runtime with convolutions and matrix products in int8.

    Raises:
        MachineError: the extra `onnx` is missing.
    """
    require_onnx()
    graph = in_int8(onnx_graph(loaded, opset=_OPSET), [sample().contiguous()], kind=loaded.kind)
    return OnnxNetwork(graph, num_threads=1)


class MirrorEnsemble(nn.Module):
    """The mean of a network's output and of its mirrored output for the mirrored face; twice the work.

    Args:
        model: From `[b, 3, s, s]` to `[b, 3, 112, 112]`.

    Source:
        Lim et al. 2017 (EDSR), their "self-ensemble", with its mirror image alone: faces stand upright.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, low: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 112 112"]:
        """Return the super-resolved batch, not clamped."""
        mirrored = self.model(low.flip(-1)).float().flip(-1)
        mean: Tensor = (self.model(low).float() + mirrored) / 2
        return mean
