"""Weight files: safetensors whose metadata is enough to rebuild the network, loaded completely or not at all.

    model.safetensors
        metadata  format = "dsrface", schema = "1", kind = "dsr" | "recogniser", config (JSON), preprocess (JSON),
                  dsrface_version, and whatever the writer adds
        tensors   the network's state dict

A source is a run folder (`best.json`, else `last.json`, names the checkpoint), a checkpoint folder, or a file. Official
EdgeFace files (.pt) are read with torch's weights-only reader, which runs no code from the file.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from dsrface import __version__
from dsrface.config.dsr_model import DsrConfig
from dsrface.errors import WeightsError
from dsrface.models.dsr import build_dsr
from dsrface.models.edgeface import (
    EDGEFACE_PREPROCESS,
    EDGEFACE_VARIANTS,
    EdgeFace,
    build_edgeface,
    key_difference,
    load_edgeface_state,
)
from dsrface.runtime.files import sha256_file, write_bytes
from dsrface.types import HIGH_SIZE_PX, Preprocess

MODEL_FILE = "model.safetensors"
FORMAT = "dsrface"
SCHEMA = "1"
KINDS = ("dsr", "recogniser")
_POINTERS = ("best.json", "last.json")
# Two different faces whose embeddings agree to this cosine: the network says nothing about its input.
_MAX_CANARY_COSINE = 0.9999


@dataclass(frozen=True)
class LoadedModel:
    """A network that passed every check, in evaluation mode.

    Args:
        model: The network, on the device that was asked for.
        kind: `"dsr"` or `"recogniser"`.
        config: What rebuilds it: DsrConfig's fields, or `{"variant": ...}`.
        preprocess: How it wants its images; the size is that of its input.
        sha256: Of the file's bytes, in hex.
        path: The file.
        metadata: Everything the file says about itself; empty for an official EdgeFace file.
        canary: What two built-in inputs gave, e.g. `embedding_norm` and `cosine` for a recogniser.
    """

    model: nn.Module
    kind: str
    config: dict[str, Any]
    preprocess: Preprocess
    sha256: str
    path: Path
    metadata: dict[str, str]
    canary: dict[str, float]


def save_model(
    path: Path,
    model: nn.Module,
    *,
    kind: str,
    config: Mapping[str, Any],
    preprocess: Preprocess,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a network's state dict and what rebuilds it, atomically; equal input gives equal bytes.

    Args:
        path: File to write, usually `<checkpoint>/model.safetensors`.
        model: The network; tensors are copied to the CPU, wrappers' prefixes (`module.`, `_orig_mod.`) dropped.
        kind: `"dsr"` or `"recogniser"`.
        config: DsrConfig's fields, or `{"variant": ...}`.
        preprocess: How it wants its images.
        extra: More metadata, e.g. the run's id; must not reuse a key of ours.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {KINDS}")
    metadata = {
        "format": FORMAT,
        "schema": SCHEMA,
        "kind": kind,
        "config": json.dumps(dict(config), sort_keys=True),
        "preprocess": preprocess.to_json(),
        "dsrface_version": __version__,
    }
    if clash := metadata.keys() & (extra or {}).keys():
        raise ValueError(f"extra metadata reuses {sorted(clash)}")
    metadata.update(extra or {})
    tensors = {
        _plain_name(name): tensor.detach().to("cpu").contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    write_bytes(path, save_tensors(tensors, metadata=dict(sorted(metadata.items()))))


def load_dsr(source: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a super-resolution network: a run folder, a checkpoint folder or a file.

    Raises:
        WeightsError: missing, damaged, not ours, not a DSR, or not complete to the last tensor.
    """
    path = resolve_source(source)
    tensors, metadata = read_tensors(path)
    _require_kind(metadata, "dsr", path)
    preprocess = _preprocess(metadata, path)
    try:
        config = DsrConfig.model_validate(_json(metadata, "config", path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise _bad_metadata("config", problems, path) from None
    model = build_dsr(config)
    load_strictly(
        model,
        tensors,
        where=path,
        what=f"These are not the tensors of the {config.arch} network in `config`.",
    )
    model.eval()
    canary = _canary_dsr(model, config.vlr_size, path)
    return LoadedModel(
        model.to(device), "dsr", config.model_dump(), preprocess, sha256_file(path), path, metadata, canary
    )


def load_recogniser(source: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a recogniser: a run folder, a checkpoint folder, a file of ours or an official EdgeFace file.

    Raises:
        WeightsError: missing, unsafe, damaged, or not an EdgeFace to the last tensor.
    """
    path = resolve_source(source)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") == FORMAT:
        _require_kind(metadata, "recogniser", path)
        preprocess = _preprocess(metadata, path)
        variant = _json(metadata, "config", path).get("variant")
        if variant not in EDGEFACE_VARIANTS:
            raise _bad_metadata("config", f"unknown variant {variant!r}", path)
        model = build_edgeface(variant)
        load_strictly(model, tensors, where=path, what=f"These are not the tensors of {variant}.")
    else:
        preprocess, metadata = EDGEFACE_PREPROCESS, {}
        try:
            model = load_edgeface_state(tensors)
        except WeightsError as error:
            raise WeightsError(error.message, id=error.id, where=path, hint=error.hint) from None
    model.eval()
    canary = canary_recogniser(model, preprocess, where=path)
    config = {"variant": model.variant}
    return LoadedModel(
        model.to(device), "recogniser", config, preprocess, sha256_file(path), path, metadata, canary
    )


def load_any(source: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Load whichever network a source holds; a file that is not ours is taken for an EdgeFace.

    Raises:
        WeightsError: as `load_dsr` and `load_recogniser`.
    """
    _, metadata = read_tensors(resolve_source(source))
    return (load_dsr if metadata.get("kind") == "dsr" else load_recogniser)(source, device=device)


def resolve_source(source: Path) -> Path:
    """Return the weight file that a run folder, checkpoint folder or file stands for.

    Raises:
        WeightsError: nothing there, or a folder without weights.
    """
    if source.is_file():
        return source
    if not source.exists():
        raise WeightsError("There is no such file or folder.", id="weights-missing", where=source)
    if (source / MODEL_FILE).is_file():
        return source / MODEL_FILE
    for name in _POINTERS:
        pointer = source / name
        if pointer.is_file():
            path = source / _pointed_at(pointer) / MODEL_FILE
            if not path.is_file():
                raise WeightsError(
                    f"{name} points at a checkpoint that is not there.", id="weights-missing", where=path
                )
            return path
    raise WeightsError(
        "The folder holds no weights: neither model.safetensors nor best.json nor last.json.",
        id="weights-missing",
        where=source,
        hint="Give a run folder that has saved a checkpoint, a checkpoint folder, or a weight file.",
    )


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a .safetensors file, or tensors of a .pt file; never runs code from the file.

    The format is told by the content, not by the name. A .pt file may hold its tensors below `state_dict` or `model`.

    Raises:
        WeightsError: missing (`weights-missing`), unreadable or cut short (`weights-damaged`), a pickle that would run
            code (`unsafe-pickle`), or something without tensors (`weights-no-tensors`).
    """
    if not path.is_file():
        raise WeightsError("There is no such file.", id="weights-missing", where=path)
    with path.open("rb") as handle:
        start = handle.read(16)
    is_torch = zipfile.is_zipfile(path) or start[:2] in {b"PK", b"\x80\x02"}
    return (_read_torch(path), {}) if is_torch else _read_safetensors(path)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], *, where: object, what: str) -> None:
    """Load every tensor of `model`, or raise with the key difference and load none.

    Raises:
        WeightsError: id `weights-mismatch`.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        error = key_difference(expected, found, what=what)
        raise WeightsError(error.message, id=error.id, where=where, hint=error.hint)
    model.load_state_dict(dict(tensors), strict=True)


def normalise(image: Float[Tensor, "b 3 h w"], preprocess: Preprocess) -> Float[Tensor, "b 3 h w"]:
    """Map an Image01 batch to what a network wants: colour order, then (x - mean) / std per channel."""
    if preprocess.colour == "BGR":
        image = image.flip(1)
    mean = torch.tensor(preprocess.mean, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image - mean) / std


@torch.no_grad()
def canary_recogniser(model: nn.Module, preprocess: Preprocess, *, where: object = "") -> dict[str, float]:
    """Run two fixed, unlike images through a recogniser and refuse embeddings that are broken or all the same.

    Returns:
        `embedding_norm`, the mean of the two, and `cosine` between them.

    Raises:
        WeightsError: id `canary`.
    """
    embeddings = model(normalise(canary_images(preprocess.size_px), preprocess)).float()
    norms = embeddings.norm(dim=1)
    cosine = float(torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0))
    reason = ""
    if not bool(torch.isfinite(embeddings).all()):
        reason = "its embeddings are not finite"
    elif float(norms.min()) < 1e-6:
        reason = "its embeddings are zero"
    elif cosine > _MAX_CANARY_COSINE:
        reason = f"two unlike images get the same embedding (cosine {cosine:.6f})"
    if reason:
        raise WeightsError(
            f"The recogniser does not work: {reason}.",
            id="canary",
            where=where,
            hint="All tensors fit, but their values are not those of a trained network; use another checkpoint.",
        )
    return {"embedding_norm": float(norms.mean()), "cosine": cosine}


def canary_images(size_px: int) -> Float[Tensor, "2 3 {size_px} {size_px}"]:
    """Return two fixed Image01 patterns: coloured waves of different direction and frequency."""
    axis = torch.linspace(0, 1, size_px)
    rows, columns = axis[:, None], axis[None, :]
    first = torch.stack([(6 * rows + k).sin() * (4 * columns).cos() for k in range(3)])
    second = torch.stack([(17 * columns - 9 * rows + 2 * k).sin() for k in range(3)])
    return torch.stack([first, second]) / 2 + 0.5


@torch.no_grad()
def _canary_dsr(model: nn.Module, vlr_size: int, path: Path) -> dict[str, float]:
    from dsrface.models.resize import upsample_bicubic

    low = canary_images(vlr_size)
    output = model(low)
    if tuple(output.shape[-2:]) != (HIGH_SIZE_PX, HIGH_SIZE_PX) or not bool(torch.isfinite(output).all()):
        raise WeightsError("The network does not work: its output is not finite.", id="canary", where=path)
    return {"mean_change_from_bicubic": float((output - upsample_bicubic(low)).abs().mean())}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, f"not a readable safetensors or torch file ({error})") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    if _is_torchscript(path):
        raise WeightsError(
            "This is a TorchScript program, not a state dict.",
            id="torchscript",
            where=path,
            hint="Programs are not run. Where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt').",
        )
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (
            "Unsupported" not in str(error)
            and "WeightsUnpickler" not in str(error)
            and "GLOBAL" not in str(error)
        ):
            raise _damaged(path, _first_line(error)) from None
        raise WeightsError(
            "The file is a pickle that would run code when opened, or holds whole objects instead of tensors.",
            id="unsafe-pickle",
            where=path,
            hint="Nothing in it was run. Where you trust its source, make a plain file of it once: "
            "torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pt').",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(path, _first_line(error)) from None
    while isinstance(value, Mapping) and (inner := _wrapped(value)) is not None:
        value = inner
    if (
        not isinstance(value, Mapping)
        or not value
        or not all(isinstance(item, Tensor) for item in value.values())
    ):
        raise WeightsError(
            f"The file holds no state dict but {_describe(value)}.",
            id="weights-no-tensors",
            where=path,
            hint="A state dict maps names to tensors, at the top or below `state_dict` or `model`.",
        )
    return {str(name): tensor for name, tensor in value.items()}


def _wrapped(value: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    for key in ("state_dict", "model"):
        if isinstance(value.get(key), Mapping):
            inner: Mapping[Any, Any] = value[key]
            return inner
    return None


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _pointed_at(pointer: Path) -> str:
    try:
        return str(json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"The pointer file is damaged: {error!r}.", id="weights-damaged", where=pointer
        ) from None


def _require_kind(metadata: Mapping[str, str], kind: str, path: Path) -> None:
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            "The file does not say which network it belongs to: it was not written by dsrface.",
            id="weights-no-metadata",
            where=path,
            hint="A DSR is loaded from a run of `dsrface train-dsr` or a file that `dsrface export` wrote.",
        )
    if metadata.get("schema") != SCHEMA:
        raise WeightsError(
            f"The file has schema {metadata.get('schema')!r}; this version reads {SCHEMA!r}.",
            id="weights-schema",
            where=path,
            hint=f"It was written by dsrface {metadata.get('dsrface_version', '?')}; use that version or a later one.",
        )
    if metadata.get("kind") != kind:
        raise WeightsError(
            f"This is a {metadata.get('kind')}, where a {kind} is wanted.",
            id="weights-wrong-kind",
            where=path,
            hint="train-dsr makes a dsr, finetune a recogniser.",
        )


def _json(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(metadata[key])
    except (KeyError, ValueError) as error:
        raise _bad_metadata(key, repr(error), path) from None
    if not isinstance(value, dict):
        raise _bad_metadata(key, "not an object", path)
    return value


def _preprocess(metadata: Mapping[str, str], path: Path) -> Preprocess:
    try:
        return Preprocess.from_json(metadata["preprocess"])
    except (KeyError, ValueError, TypeError) as error:
        raise _bad_metadata("preprocess", repr(error), path) from None


def _bad_metadata(key: str, problem: str, path: Path) -> WeightsError:
    return WeightsError(
        f"The file's metadata `{key}` cannot be used: {problem}.", id="weights-metadata", where=path
    )


def _damaged(path: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"The weight file is damaged: {problem}.",
        id="weights-damaged",
        where=path,
        hint="It may have been cut short while copying; compare its size and fetch it again.",
    )


def _plain_name(name: str) -> str:
    while name.startswith(("module.", "_orig_mod.")):
        name = name.split(".", 1)[1]
    return name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, list(value)[:5])) or 'nothing'}"
    return f"a {type(value).__name__}"


__all__ = ["EdgeFace", "LoadedModel", "load_any", "load_dsr", "load_recogniser", "normalise", "save_model"]
