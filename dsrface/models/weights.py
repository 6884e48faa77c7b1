"""Weight files: safetensors whose metadata is enough to rebuild the network, loaded completely or not at all.

    model.safetensors
        metadata  format = "dsrface", schema = "1", kind = "dsr" | "recogniser",
                  config and preprocess (JSON), dsrface_version, and whatever the writer adds
        tensors   the network's state dict

A source is a run folder (`best.json`, else `last.json`, names the checkpoint), a checkpoint folder, or a
file. Checkpoints of others (.pt) are read with torch's weights-only reader, which runs no code from the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save as save_tensors
from torch import nn

from dsrface import __version__
from dsrface.config.catalogue import RECOGNISERS
from dsrface.config.dsr_model import DsrConfig
from dsrface.errors import UsageError, WeightsError
from dsrface.models.adapters import MAX_RANK, add_adapters
from dsrface.models.canary import canary_dsr, canary_recogniser
from dsrface.models.dsr import build_dsr
from dsrface.models.foreign import open_foreign
from dsrface.models.loaded import LoadedModel
from dsrface.models.preprocess import read_preprocess
from dsrface.models.recognisers import build_recogniser, is_known, load_recogniser_state
from dsrface.models.sources import resolve_source, wrong_kind, wrong_vlr_size
from dsrface.models.strict import load_strictly, plain_name, require_shapes, shapes_of
from dsrface.models.upscaler import Upscaler, load_spandrel
from dsrface.models.weight_files import read_tensors
from dsrface.runtime.files import sha256_file, write_bytes
from dsrface.types import HIGH_SIZE_PX, VLR_SIZES_PX, Preprocess

FORMAT = "dsrface"
SCHEMA = "1"
KINDS = ("dsr", "recogniser")


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
        model: The network; tensors are copied to the CPU, wrappers' prefixes (`module.`, `_orig_mod.`)
            dropped.
        kind: `"dsr"` or `"recogniser"`.
        config: DsrConfig's fields, or `recogniser_config`.
        preprocess: How it wants its images.
        extra: More metadata, e.g. the run's id; must not reuse a key above.
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
        plain_name(name): tensor.detach().to("cpu").contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    write_bytes(path, _with_sorted_header(save_tensors(tensors, metadata=metadata)))


def recogniser_config(variant: str, adapter_rank: int = 0) -> dict[str, Any]:
    """Return what rebuilds a recogniser, as a weight file stores it."""
    return {"variant": variant, **({"adapter_rank": adapter_rank} if adapter_rank else {})}


def load_dsr(
    source: Path,
    *,
    vlr_size: int | None = None,
    high_size: int = HIGH_SIZE_PX,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load a super-resolution network: a run folder, a file of dsrface or of others, or a name.

    Names are those of `models.foreign`; checkpoints of others are read by spandrel, where it is installed.

    Args:
        source: Where it is.
        vlr_size: Side of the images it must take, in pixels; None takes any.
        high_size: Side of the images it must give; a network of others is made to.
        device: Where it goes.

    Raises:
        WeightsError: missing, damaged, not a DSR, or not complete to the last tensor.
        UsageError: it takes or gives images of another size.
    """
    loaded = _load_dsr(source, high_size)
    if vlr_size is not None and loaded.vlr_size not in (None, vlr_size):
        error = wrong_vlr_size(loaded.vlr_size, vlr_size, loaded.path)
        if loaded.vlr_size == loaded.high_size:
            error.hint = (
                "A network whose output is not larger than its input is no DSR, but may be a recogniser."
            )
        raise error
    if loaded.high_size != high_size:
        raise UsageError(
            f"The DSR gives faces of {loaded.high_size} px; {high_size} px are wanted here.",
            id="wrong-dsr-size",
            where=loaded.path,
            hint=f"It belongs to data sets of `dsrface prepare --high-size {loaded.high_size}`; all that a "
            "recogniser sees has 112 px.",
        )
    canary_dsr(loaded.model, loaded.vlr_size or vlr_size or VLR_SIZES_PX[0], high_size, where=loaded.path)
    return replace(loaded, model=loaded.model.to(device))


def _load_dsr(source: Path, high_size: int) -> LoadedModel:
    foreign = open_foreign(source, "dsr")
    if foreign is not None:
        upscaler = Upscaler(foreign.model, size_px=high_size).eval()
        return replace(foreign, model=upscaler, config=foreign.config | {"high_size": high_size})
    path = resolve_source(source, "dsr")
    tensors, metadata = read_tensors(path)
    if "format" not in metadata:
        return load_spandrel(path, high_size)
    _require_kind(metadata, "dsr", path)
    preprocess = _preprocess(metadata, path)
    try:
        config = DsrConfig.model_validate(_json(metadata, "config", path))
    except ValidationError as error:
        problems = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        raise _bad_metadata("config", problems, path) from None
    with torch.device("meta"):  # takes no memory: the file's word for its size is not believed yet
        expected = shapes_of(build_dsr(config).state_dict())
    what = f"These are not the tensors of the {config.arch} network."
    require_shapes(expected, tensors, where=path, what=what)
    model = build_dsr(config)
    load_strictly(model, tensors, where=path, what=what)
    # Forward passes are 10 to 18 % faster this way on a CPU, the uint8 images the same.
    model.eval().to(memory_format=torch.channels_last)
    return LoadedModel(model, "dsr", config.model_dump(), preprocess, sha256_file(path), path, metadata)


def load_recogniser(source: Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a recogniser: a run folder, a file of dsrface, a checkpoint of a known architecture, or a name.

    Names are those of `models.foreign`, such as `judge`. How a checkpoint of others wants its images is what
    its architecture is published with, unless a note next to the file says otherwise (`read_preprocess`).

    Args:
        source: Where it is.
        device: Where it goes.

    Raises:
        WeightsError: missing, unsafe, damaged, or no recogniser to the last tensor.
    """
    loaded = open_foreign(source, "recogniser") or _load_recogniser(source)
    loaded.model.eval()
    canary_recogniser(loaded.model, loaded.preprocess, where=loaded.path)
    return replace(loaded, model=loaded.model.to(device))


def _load_recogniser(source: Path) -> LoadedModel:
    path = resolve_source(source, "recogniser")
    tensors, metadata = read_tensors(path)
    if metadata.get("format") == FORMAT:
        _require_kind(metadata, "recogniser", path)
        preprocess = _preprocess(metadata, path)
        config = _json(metadata, "config", path)
        variant, rank = config.get("variant"), config.get("adapter_rank", 0)
        if not is_known(variant):
            raise _bad_metadata("config", f"unknown variant {variant!r}", path)
        if type(rank) is not int or not 0 <= rank <= MAX_RANK:
            raise _bad_metadata("config", f"adapter_rank {rank!r}", path)
        model = build_recogniser(variant)
        if rank:
            add_adapters(model, rank)
        load_strictly(model, tensors, where=path, what=f"These are not the tensors of {variant}.")
    else:
        variant, model = load_recogniser_state(tensors, where=path)
        preprocess, metadata = read_preprocess(path, RECOGNISERS[variant].preprocess), {}
        config = recogniser_config(variant)
    return LoadedModel(model, "recogniser", config, preprocess, sha256_file(path), path, metadata)


def load_any(source: Path) -> LoadedModel:
    """Load whichever network a source holds, on the CPU; another program's is taken for a recogniser.

    Raises:
        WeightsError: as `load_dsr` and `load_recogniser`.
    """
    if source.exists() and source.suffix != ".onnx":
        _, metadata = read_tensors(resolve_source(source))
        if metadata.get("kind") == "dsr":
            return load_dsr(source)
    return load_recogniser(source)


def _with_sorted_header(data: bytes) -> bytes:
    # safetensors writes the metadata in the order of a hash table, another one in every process
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


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
            hint=f"It was written by dsrface {metadata.get('dsrface_version', '?')}: use that or later.",
        )
    if metadata.get("kind") != kind:
        raise wrong_kind(str(metadata.get("kind")), kind, path)


def _json(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(metadata[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise _bad_metadata(key, repr(error), path) from None
    if not isinstance(value, dict):
        raise _bad_metadata(key, "not an object", path)
    return value


def _preprocess(metadata: Mapping[str, str], path: Path) -> Preprocess:
    try:
        return Preprocess.from_json(metadata["preprocess"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _bad_metadata("preprocess", repr(error), path) from None


def _bad_metadata(key: str, problem: str, path: Path) -> WeightsError:
    return WeightsError(
        f"The file's metadata `{key}` cannot be used: {problem}.",
        id="weights-metadata",
        where=path,
        hint="Export the weights again with `dsrface export`, or take another checkpoint.",
    )
