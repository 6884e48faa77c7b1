"""Any ONNX graph as a torch module, with the optional extra `onnx`; on the CPU, without gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface.errors import MachineError, WeightsError
from dsrface.runtime.versions import how_to_install

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def open_session(source: Path | bytes, *, num_threads: int | None = None) -> Any:
    """Return onnxruntime's session of a graph, on the CPU.

    Args:
        source: The .onnx file, or its bytes.
        num_threads: Threads of one forward pass; None takes torch's number.

    Raises:
        MachineError: onnxruntime is not installed.
        WeightsError: no graph that onnxruntime can run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MachineError(
            "Running an ONNX file needs onnxruntime, which this installation lacks.",
            id="missing-extra",
            hint=f"Install it: {how_to_install('onnx')}",
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or torch.get_num_threads()
    options.log_severity_level = 3
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, of which it promises none
        raise WeightsError(
            f"onnxruntime cannot run the graph: {str(error).splitlines()[0]}",
            id="weights-damaged",
            where="" if isinstance(source, bytes) else source,
        ) from error


class OnnxNetwork(nn.Module):
    """One image input, its largest output; images may be NCHW or NHWC, floats or bytes.

    Args:
        source: The .onnx file, or its bytes.
        num_threads: Threads of one forward pass; None takes torch's number.

    Raises:
        MachineError: onnxruntime is not installed.
        WeightsError: no graph that onnxruntime can run, or none that takes images alone.
    """

    def __init__(self, source: Path | bytes, *, num_threads: int | None = None) -> None:
        super().__init__()
        where = "" if isinstance(source, bytes) else source
        self._session = open_session(source, num_threads=num_threads)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
            shown = ", ".join(f"{item.name} {item.shape} {item.type}" for item in inputs)
            raise WeightsError(
                f"The graph takes {shown}; wanted is one batch of images, as floats or bytes.",
                id="network-interface",
                where=where,
                hint="Wrap it in Python, and name it nets.py:callable.",
            )
        self._name, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self.takes_bytes = self._type is np.uint8
        shape = inputs[0].shape
        self._is_channels_last = shape[3] == 3 and shape[1] != 3
        self._batch = shape[0] if isinstance(shape[0], int) else None
        side = shape[2]
        self.size_px: int | None = side if isinstance(side, int) else None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b ..."]:
        """Return the graph's output for each image, float32, where the images were.

        A graph of bytes takes Image01 here, and normalises inside.
        """
        array = image.detach().float().cpu().numpy()
        if self.takes_bytes:
            array = np.rint(array * 255).clip(0, 255)
        if self._is_channels_last:
            array = array.transpose(0, 2, 3, 1)
        step = self._batch or len(array)
        parts = [self._run(array[start : start + step], step) for start in range(0, len(array), step)]
        found = torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(image.device)
        if found.ndim == 4 and found.shape[2:] == (1, 1):
            return found.flatten(1)
        is_image = found.ndim == 4 and self._is_channels_last
        return found.permute(0, 3, 1, 2) if is_image else found

    def _run(self, part: np.ndarray, step: int) -> np.ndarray:
        missing = step - len(part)  # a fixed batch is filled up with copies of its last image
        filled = np.concatenate([part, *[part[-1:]] * missing]) if missing else part
        feed = np.ascontiguousarray(filled, self._type)
        outputs: list[np.ndarray] = self._session.run(None, {self._name: feed})
        # Some give a quality or a norm as well as the embedding or the image.
        output = max(outputs, key=lambda found: found.size)
        return output[: len(part)]
