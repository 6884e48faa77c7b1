"""Weights of a graph model of TensorFlow.js: `model.json`, and the files of numbers that it names next to it.

Only the tensors are read; whose they are, the network that takes them knows (`models.mobilefacenet_tfjs`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsrface.errors import WeightsError
from dsrface.runtime.files import read_bounded

_MAX_JSON_BYTES, _MAX_BYTES = 16 * 1024**2, 1024**3
_TYPES = {"float32": "<f4", "int32": "<i4", "bool": "u1", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}


def read_graph_model(path: Path) -> dict[str, Tensor]:
    """Return the constants of a graph model by name, real ones as float32 whatever they are stored in.

    Args:
        path: `model.json`.

    Raises:
        WeightsError: no graph model, or its files are missing, cut short or too long.
    """
    try:
        manifest = json.loads(read_bounded(path, max_bytes=_MAX_JSON_BYTES))["weightsManifest"]
        return dict(_tensors(path, manifest))
    except FileNotFoundError as error:
        raise WeightsError(
            f"The graph model names a file that is not here: {Path(error.filename).name}.",
            id="weights-missing",
            where=path,
            hint="Keep the .bin files next to model.json.",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise WeightsError(
            f"This is no graph model of TensorFlow.js: {error!r}.", id="weights-damaged", where=path
        ) from None


def _tensors(path: Path, manifest: Any) -> Iterator[tuple[str, Tensor]]:
    for group in manifest:
        names = [Path(name) for name in group["paths"]]
        if any(name.name != str(name) for name in names):
            raise ValueError("its files must be next to it")
        data = b"".join(read_bounded(path.parent / name, max_bytes=_MAX_BYTES) for name in names)
        start = 0
        for entry in group["weights"]:
            array, num_bytes = _array(entry, data[start:])
            start += num_bytes
            yield str(entry["name"]), torch.from_numpy(array)
        if start != len(data):
            raise ValueError(f"{len(data)} bytes of numbers, {start} were expected")


def _array(entry: Mapping[str, Any], data: bytes) -> tuple[Any, int]:
    """Return the numbers of one tensor and how many bytes they took."""
    stored = entry.get("quantization") or {"dtype": entry["dtype"]}
    kind, shape = np.dtype(_TYPES[stored["dtype"]]), [int(side) for side in entry["shape"]]
    if min(shape, default=1) < 0:
        raise ValueError(f"the shape {shape} of {entry['name']}")
    count = math.prod(shape)
    array = np.frombuffer(data, kind, count).reshape(shape)
    if entry["dtype"] == "float32":
        scale, least = np.float32(stored.get("scale", 1)), np.float32(stored.get("min", 0))
        array = array.astype(np.float32) * scale + least
    return np.array(array), count * kind.itemsize
