"""Networks of others, by name: an ONNX file, TorchScript, code of the user, timm, the judge.

    arcface.onnx              an ONNX graph
    torchscript:model.pt      a TorchScript program
    nets.py:make_network      a callable that returns a torch module, or a function on batches
    timm:NAME                 a network of timm with the weights that timm has for it
    timm:NAME@weights.pt      the same with weights from a file
    judge                     `models.judge`
    model.json                a graph model of TensorFlow.js: `models.mobilefacenet_tfjs`

State dicts of known recognisers are the business of `models.recognisers`, super-resolution checkpoints that
of `models.upscaler`.
"""

from __future__ import annotations

import hashlib
import inspect
import socket
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsrface.config.catalogue import RECOGNISER_INPUT, TIMM
from dsrface.errors import DsrfaceError, MachineError, UsageError, WeightsError
from dsrface.models.checkpoints import Layout, find_network
from dsrface.models.judge import load_judge
from dsrface.models.loaded import LoadedModel
from dsrface.models.mobilefacenet_tfjs import NAME, load_mobilefacenet_tfjs
from dsrface.models.onnx_network import OnnxNetwork
from dsrface.models.preprocess import adjusted, read_preprocess
from dsrface.models.sources import CALLABLE, JUDGE, TORCHSCRIPT, is_name
from dsrface.models.strict import shapes_of
from dsrface.models.timm_names import unknown_network
from dsrface.models.weight_files import read_tensors
from dsrface.runtime.files import sha256_file
from dsrface.runtime.user_callable import named_object
from dsrface.runtime.user_code import place_of
from dsrface.runtime.versions import require
from dsrface.types import EMBEDDING_DIM, HIGH_SIZE_PX, Preprocess


def open_foreign(source: Path, kind: str) -> LoadedModel | None:
    """Load what a name of the list above stands for, on the CPU; None for anything else.

    A recogniser's note (`read_preprocess`) is looked for next to its file; a callable may return
    `(network, {"colour": "BGR", ...})` instead. A super-resolution network takes and gives Image01.

    Args:
        source: As the user names it.
        kind: `"dsr"` or `"recogniser"`.

    Raises:
        DsrfaceError: it is such a name, but what it leads to cannot be used.
    """
    if not is_name(source):
        if source.suffix == ".json" and source.is_file() and kind == "recogniser":
            return _graph_model(source)
        return _onnx(source, kind) if source.suffix == ".onnx" and source.is_file() else None
    text = str(source)
    if text.startswith(TORCHSCRIPT):
        return _torchscript(Path(text.removeprefix(TORCHSCRIPT)), kind)
    if kind == "recogniser" and text == JUDGE:
        return load_judge()
    if kind == "recogniser" and text.startswith(TIMM):
        return _timm(text)
    return _called(text, kind) if CALLABLE.fullmatch(text) else None


def build_timm(name: str) -> nn.Module:
    """Return a network of timm with random weights and an embedding layer of 512.

    Args:
        name: `timm:NAME`.

    Raises:
        UsageError: timm has none of that name.
    """
    return _create(name.removeprefix(TIMM), pretrained=False, num_classes=EMBEDDING_DIM)


def _onnx(path: Path, kind: str) -> LoadedModel:
    network = OnnxNetwork(path)
    size_px = network.size_px
    if kind == "dsr":
        default = Preprocess(size_px or HIGH_SIZE_PX)
        config = {"arch": path.name, "vlr_size": size_px}
    else:
        default = Preprocess(size_px or HIGH_SIZE_PX, RECOGNISER_INPUT.mean, RECOGNISER_INPUT.std)
        default = Preprocess(default.size_px) if network.takes_bytes else default
        config = {"variant": path.name}
    if "preprocess" in network.metadata:
        default = Preprocess.from_json(network.metadata["preprocess"])
    preprocess = default if kind == "dsr" else read_preprocess(path, default)
    return LoadedModel(
        network, kind, config, preprocess, sha256_file(path), path, network.metadata, has_gradient=False
    )


def _graph_model(path: Path) -> LoadedModel:
    network, preprocess = load_mobilefacenet_tfjs(path)
    return LoadedModel(
        network, "recogniser", _config("recogniser", NAME), preprocess, _digest(network), path, {}
    )


def _torchscript(path: Path, kind: str) -> LoadedModel:
    if not path.is_file():
        raise WeightsError("There is no such file.", id="weights-missing", where=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the format is old
            program = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"torch cannot load the program: {str(error).splitlines()[0]}", id="weights-damaged", where=path
        ) from None
    preprocess = read_preprocess(path, _default_input(kind))
    network = ForeignNetwork(program).eval()
    return LoadedModel(network, kind, _config(kind, path.name), preprocess, sha256_file(path), path, {})


def _called(spec: str, kind: str) -> LoadedModel:
    try:
        make, file = named_object(spec, flag="the network as", wanted="a network")
        _check_needs_nothing(make, spec)
        value = make if isinstance(make, nn.Module) else make()
    except DsrfaceError:
        raise
    except Exception as error:
        raise UsageError(
            f"{spec} stopped with {type(error).__name__}: {error}", id="bad-target", where=place_of(error)
        ) from error
    note: dict[str, Any] = {}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], dict):
        value, note = value
    if not callable(value):
        raise UsageError(
            f"{spec} gives a {type(value).__name__}, which is no network.",
            id="bad-target",
            hint="Return a torch module, a function on batches, or one of them and a dict with the colour "
            "order, mean, std and size_px of its images.",
        )
    network = ForeignNetwork(value).eval()
    default = _default_input(kind)
    try:
        preprocess = adjusted(default, note)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"What {spec} says about its images cannot be used: {error}.", id="bad-target"
        ) from None
    digest = _digest(network, Path(file).read_bytes() if file else b"")
    return LoadedModel(network, kind, _config(kind, spec), preprocess, digest, Path(spec), {})


def _check_needs_nothing(make: Any, spec: str) -> None:
    if isinstance(make, nn.Module):
        return
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        name = spec.rpartition(":")[2]
        raise UsageError(
            f"{spec} cannot be called without arguments: {error}.",
            id="bad-target",
            hint=f"Name a function that gives them: def make_network(): return {name}(...)",
        ) from None
    except ValueError:  # some callables of C tell no signature
        return


class ForeignNetwork(nn.Module):
    """A module, a program or a function on batches as a module of one output.

    Args:
        network: Takes tensors. Of several outputs (a tuple, a dict) the largest counts: some give a quality
            or a norm as well as the embedding or the image.
    """

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return what the network makes of a batch, as a tensor where the batch is."""
        found = self.network(image)
        if isinstance(found, dict):
            found = tuple(found.values())
        outputs = [item for item in (found if isinstance(found, tuple) else (found,)) if item is not None]
        if not outputs or not all(isinstance(item, Tensor | np.ndarray | list) for item in outputs):
            raise TypeError(f"what it gives is a {type(found).__name__}, not a tensor")
        # A tensor stays itself: in a trace, as_tensor would make a constant of it.
        tensors = [item if isinstance(item, Tensor) else torch.as_tensor(item) for item in outputs]
        return max(tensors, key=Tensor.numel).to(image.device)


def _timm(spec: str) -> LoadedModel:
    name, _, file = spec.removeprefix(TIMM).replace("\\", "/").partition("@")
    config = {"variant": f"{TIMM}{name}"}
    if not file:
        try:
            _do_not_ask_without_a_network()
            network = _create(name, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"timm cannot get the weights of {name}: {str(error).splitlines()[0]}",
                id="weights-unreachable",
                hint=f"Give a file: {TIMM}{name}@weights.pt",
            ) from None
        known: Any = network.pretrained_cfg
        preprocess = Preprocess(int(known["input_size"][-1]), tuple(known["mean"]), tuple(known["std"]))
        return LoadedModel(network.eval(), "recogniser", config, preprocess, _digest(network), Path(spec), {})
    path = Path(file)
    tensors, _ = read_tensors(path)
    network = _create(name, pretrained=False, num_classes=EMBEDDING_DIM)
    _, state = find_network(tensors, {name: Layout(shapes_of(network.state_dict()))}, where=path)
    network.load_state_dict(state, strict=True)
    preprocess = read_preprocess(path, RECOGNISER_INPUT)
    return LoadedModel(network.eval(), "recogniser", config, preprocess, sha256_file(path), path, {})


def _do_not_ask_without_a_network() -> None:
    """Have the hub's library look into its cache alone where its server's name is not known here.

    It would ask ten times, for the better part of a minute, and say each time that it did.
    """
    from huggingface_hub import constants

    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
    if urllib.request.getproxies() or host is None:
        return
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        constants.HF_HUB_OFFLINE = True


def _create(name: str, **options: Any) -> nn.Module:
    require("timm", extra="faces")
    import timm

    if not name.startswith("hf_hub:") and not timm.is_model(name):
        raise unknown_network(name)
    network: nn.Module = timm.create_model(name, **options)
    return network


def _default_input(kind: str) -> Preprocess:
    return RECOGNISER_INPUT if kind == "recogniser" else Preprocess(HIGH_SIZE_PX)


def _config(kind: str, name: str) -> dict[str, Any]:
    return {"variant": name} if kind == "recogniser" else {"arch": name, "vlr_size": None}


def _digest(network: nn.Module, data: bytes = b"") -> str:
    digest = hashlib.sha256(data)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
