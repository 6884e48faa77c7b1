"""A MobileFaceNet in TensorFlow.js's format: read, refused, and equal to the original if it is there."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dsrface.errors import UsageError, WeightsError
from dsrface.models.losses import IdentityLoss
from dsrface.models.mobilefacenet_tfjs import MobileFaceNetTfjs
from dsrface.models.preprocess import network_input
from dsrface.models.recognisers import embedding_dim_of
from dsrface.models.weights import load_dsr, load_recogniser

ORIGINAL = Path(os.environ.get("DSRFACE_MOBILEFACE", "mobileface.json"))
READER = Path(__file__).parents[3] / "shared" / "tools" / "tfjs_torch.py"


def constants(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return made-up constants under the names of the real ones."""
    shapes = {"conv1_weight": (3, 3, 3, 32), "prelu1_gamma": (32,), "dense/kernel": (2048, 256)}
    shapes |= {"batchnorm0/mul": (256,), "batchnorm0/sub": (256,)}
    widths = (32, 32, 32, 64, 128)
    for number in range(1, 5):
        before, width = widths[number - 1], widths[number]
        start = f"stage{number}_unit1_"
        shapes[f"{start}conv0_0_weight"] = (1, 1, before, width)
        shapes |= {f"{start}{kernel}": (3, 3, width, 1) for kernel in ("conv0_1_df", "conv1_df", "conv2_df")}
        shapes |= {f"{start}prelu{slope}_gamma": (width,) for slope in range(3)}
    found = {name: 0.3 * rng.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    ranges = {
        "minusscalar0_second": np.array([127.5], "<f4"),
        "mulscalar0_second": np.array([1 / 128], "<f4"),
    }
    return found | ranges


def write_model(folder: Path, arrays: dict[str, np.ndarray], *, quantized: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    entries, data = [], b""
    for name, array in arrays.items():
        entry = {"name": name, "shape": list(array.shape), "dtype": "float32"}
        stored = array.astype("<f4")
        if name == quantized:
            scale, least = float(np.ptp(array)) / 255, float(array.min())
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": least}
            stored = np.round((array - least) / scale).astype("u1")
        entries.append(entry)
        data += stored.tobytes()
    (folder / "model.bin").write_bytes(data)
    path = folder / "model.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["model.bin"], "weights": entries}]}))
    return path


def by_hand(arrays: dict[str, np.ndarray], pixels: torch.Tensor) -> torch.Tensor:
    """Return what the graph computes, node by node, from RGB in 0..255."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x = (pixels - tensors["minusscalar0_second"]) * tensors["mulscalar0_second"]

    def prelu(x: torch.Tensor, name: str) -> torch.Tensor:
        return x.clamp(min=0) + tensors[name][:, None, None] * x.clamp(max=0)

    def depthwise(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        kernel = tensors[name].permute(2, 3, 0, 1)
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), kernel, None, stride, groups=len(kernel))

    x = functional.conv2d(x, tensors["conv1_weight"].permute(3, 2, 0, 1), None, 2, 1)
    x = prelu(x, "prelu1_gamma")
    for number in range(1, 5):
        start = f"stage{number}_unit1_"
        x = functional.conv2d(x, tensors[f"{start}conv0_0_weight"].permute(3, 2, 0, 1))
        x = prelu(depthwise(x, f"{start}conv0_1_df", 2), f"{start}prelu0_gamma")
        y = prelu(depthwise(x, f"{start}conv1_df", 1), f"{start}prelu1_gamma")
        x = x + prelu(depthwise(y, f"{start}conv2_df", 1), f"{start}prelu2_gamma")
    flat = x.permute(0, 2, 3, 1).flatten(1)
    return flat @ tensors["dense/kernel"] * tensors["batchnorm0/mul"] + tensors["batchnorm0/sub"]


@pytest.fixture(scope="module")
def arrays():
    return constants(np.random.default_rng(0))


@pytest.fixture(scope="module")
def model(arrays, tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("graph"), arrays)


def test_it_computes_what_the_graph_computes(model, arrays):
    loaded = load_recogniser(model)
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = loaded.model(network_input(images, loaded.preprocess))
    wanted = by_hand(arrays, images * 255)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4
    assert loaded.name == "mobilefacenet_tfjs"
    assert found.shape[1] == embedding_dim_of(loaded.name)


def test_it_can_be_learnt_from(model):
    loaded = load_recogniser(model)
    loaded.require_gradient("learnt from")
    high = torch.rand(2, 3, 112, 112)
    output = (0.9 * high).requires_grad_()
    IdentityLoss(loaded.model, loaded.preprocess)(output, high).backward()
    assert float(output.grad.abs().max()) > 0


def test_rounded_weights_are_unrounded(arrays, tmp_path):
    path = write_model(tmp_path / "rounded", arrays, quantized="dense/kernel")
    network = load_recogniser(path).model
    assert isinstance(network, MobileFaceNetTfjs)
    kernel = arrays["dense/kernel"].reshape(4, 4, 128, 256).transpose(3, 2, 0, 1).reshape(256, 2048)
    wanted = kernel * arrays["batchnorm0/mul"][:, None]
    step = float(np.ptp(kernel)) / 255 * float(np.abs(arrays["batchnorm0/mul"]).max())
    assert float(np.abs(network.embedding.weight.detach().numpy() - wanted).max()) <= step


@pytest.mark.parametrize(
    ("change", "id"),
    [
        (lambda folder: (folder / "model.bin").unlink(), "weights-missing"),
        (lambda folder: (folder / "model.bin").write_bytes(b"short"), "weights-damaged"),
        (lambda folder: (folder / "model.json").write_text("{}"), "weights-damaged"),
        (lambda folder: (folder / "model.json").write_text('{"weightsManifest": []}'), "weights-mismatch"),
        (
            lambda folder: (folder / "model.json").write_text(
                '{"weightsManifest": [{"paths": ["../model.bin"], "weights": []}]}'
            ),
            "weights-damaged",
        ),
    ],
)
def test_what_is_no_such_model_is_refused(arrays, tmp_path, change, id):
    path = write_model(tmp_path / "model", arrays)
    change(path.parent)
    with pytest.raises(WeightsError) as caught:
        load_recogniser(path)
    assert caught.value.id == id


def test_it_is_no_super_resolution_network(model):
    with pytest.raises((WeightsError, UsageError)):
        load_dsr(model)


@pytest.mark.skipif(not (ORIGINAL.is_file() and READER.is_file()), reason="the package is not at hand")
def test_it_equals_the_package():
    spec = importlib.util.spec_from_file_location("tfjs_torch", READER)
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    images = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    loaded = load_recogniser(ORIGINAL)
    with torch.no_grad():
        wanted = reader.Graph(ORIGINAL, "batchnorm0/add_1")(images.permute(0, 2, 3, 1) * 255)
        found = loaded.model(network_input(images, loaded.preprocess))
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4
