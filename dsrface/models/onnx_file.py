"""A network as an ONNX graph, in fp32, fp16 or int8, and a function that runs the file.

The exporter traces with a batch of 2; that the batch axis is really free is proven by other batch sizes.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dsrface import __version__
from dsrface.errors import MachineError
from dsrface.models.loaded import LoadedModel
from dsrface.models.onnx_network import open_session
from dsrface.runtime.versions import how_to_install
from dsrface.types import Preprocess

INPUT_NAMES = {"dsr": "low", "recogniser": "image"}
OUTPUT_NAMES = {"dsr": "high", "recogniser": "embedding"}
# Where nearly all the work is; the rest, such as LayerNorm and softmax, loses most when it is rounded.
_INT8_OPERATORS = ["Conv", "MatMul", "Gemm"]


class PixelInput(nn.Module):
    """A recogniser that takes RGB pixels in [0, 255] and normalises them itself.

    Args:
        model: The recogniser.
        preprocess: What it wants.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.model, self._is_bgr = model, preprocess.colour == "BGR"
        # Buffers: the exporter would leave its own stand-ins in the cache of `normalise`.
        for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the embeddings of a batch of its own size."""
        ordered = pixels.flip(1) if self._is_bgr else pixels
        embedding: Tensor = self.model((ordered - self.mean) / self.std)
        return embedding


def pixel_preprocess(size_px: int) -> Preprocess:
    """Return how `PixelInput` wants its images: Image01 times 255, RGB."""
    return Preprocess(size_px, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))


def require_onnx() -> None:
    """Make sure that the optional extra is installed.

    Raises:
        MachineError: id `missing-extra`.
    """
    missing = []
    for module in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(module)
        except ImportError:
            missing.append(module)
    if missing:
        raise MachineError(
            f"Exporting to ONNX needs {', '.join(missing)}, which this installation lacks.",
            id="missing-extra",
            hint=f"Install them: {how_to_install('onnx')}",
        )


def onnx_graph(loaded: LoadedModel, *, opset: int) -> bytes:
    """Return the graph of a network, its batch axis free, with what dsrface knows of it as metadata.

    Args:
        loaded: The network.
        opset: Operator set version.

    Raises:
        torch.onnx.OnnxExporterError: torch cannot write it.
    """
    size = loaded.preprocess.size_px
    example = torch.zeros(2, 3, size, size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # the exporter prints its progress and warns about its own internals; neither is for the user
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            loaded.model.eval(),
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=[INPUT_NAMES[loaded.kind]],
            output_names=[OUTPUT_NAMES[loaded.kind]],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    proto = program.model_proto
    for key, value in _metadata(loaded).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    data: bytes = proto.SerializeToString()
    return data


def in_fp16(graph: bytes) -> bytes:
    """Return a graph with weights and arithmetic in half precision; input and output stay fp32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tiny weights are rounded; the gates say what it costs
        converted = convert_float_to_float16(onnx.load_from_string(graph), keep_io_types=True)
    data: bytes = converted.SerializeToString()
    return data


def in_int8(graph: bytes, batches: Sequence[Tensor], *, kind: str) -> bytes:
    """Return a graph whose convolutions and matrix products are in int8 (static quantisation, QDQ).

    Args:
        graph: In fp32.
        batches: Inputs as the network takes them; their range at each layer fixes its scale.
        kind: `"dsr"` or `"recogniser"`.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, Any]] = ({INPUT_NAMES[kind]: batch.numpy()} for batch in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._feeds, None)

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory(prefix="dsrface-int8-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "int8.onnx"
        root.setLevel(logging.ERROR)  # it advises preparations that need another package
        try:
            quantize_static(
                onnx.load_from_string(graph),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=_INT8_OPERATORS,
            )
        finally:
            root.setLevel(level)
        return target.read_bytes()


def onnx_predictor(path: Path, kind: str) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a file in onnxruntime, on the CPU."""
    session = open_session(path.read_bytes())
    return lambda batch: torch.from_numpy(
        session.run([OUTPUT_NAMES[kind]], {INPUT_NAMES[kind]: batch.numpy()})[0]
    )


def _metadata(loaded: LoadedModel) -> dict[str, str]:
    return {
        "format": "dsrface",
        "kind": loaded.kind,
        "config": json.dumps(loaded.config, sort_keys=True),
        "preprocess": loaded.preprocess.to_json(),
        "source_sha256": loaded.sha256,
        "dsrface_version": __version__,
    }
