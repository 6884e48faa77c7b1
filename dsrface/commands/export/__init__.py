"""`dsrface export`: a trained network as one portable file, with a numeric parity gate.

The file is written, read back by the program that will use it (onnxruntime, or our own strict loader) and
compared with torch on several inputs and batch sizes. One in fp16 or int8 must keep its accuracy on val faces
as well. A file that misses a gate never gets its name: it stays behind as `<name>.unproven`, for inspection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsrface.commands.export.accuracy import Accuracy, ValFaces
from dsrface.commands.export.card import CARD_FILE, input_text, write_card
from dsrface.commands.shared.early import nothing_to_normalise
from dsrface.config.export import ExportConfig
from dsrface.errors import EXIT_ANSWER_IS_NO, EXIT_DONE, RunError, UsageError
from dsrface.events import Emit, Note, Progress
from dsrface.models.adapters import adapter_parameters
from dsrface.models.loaded import LoadedModel
from dsrface.models.onnx_file import (
    PixelInput,
    in_fp16,
    in_int8,
    onnx_graph,
    onnx_predictor,
    pixel_preprocess,
    require_onnx,
)
from dsrface.models.preprocess import normalise
from dsrface.models.recognisers import is_known
from dsrface.models.weights import load_any, save_model
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import check_free, remove_half_written, replace, sha256_file, write_bytes
from dsrface.runtime.text import size_text

PARITY_BATCH_SIZES = (1, 2, 5)


@dataclass(frozen=True)
class ParityCheck:
    """One comparison of the file with torch.

    Args:
        name: What the input was.
        batch_size: Images in it.
        max_abs_diff: Largest absolute difference of any output value.
        max_rel_diff: The same, divided by the largest absolute value that torch gave.
    """

    name: str
    batch_size: int
    max_abs_diff: float
    max_rel_diff: float


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how far it is from torch."""

    path: Path
    kind: str
    format: str
    sha256: str
    num_bytes: int
    source: Path
    source_sha256: str
    opset: int | None
    tolerance: float
    checks: list[ParityCheck]
    max_abs_diff: float
    parity: bool
    input: str
    precision: str = "fp32"
    accuracy: Accuracy | None = None

    @property
    def is_good(self) -> bool:
        """Whether every gate was passed."""
        return self.parity and (self.accuracy is None or self.accuracy.is_kept)

    @property
    def exit_code(self) -> int:
        """0, or 1 when a gate was missed."""
        return EXIT_DONE if self.is_good else EXIT_ANSWER_IS_NO

    @property
    def summary(self) -> str:
        """The result in one or two lines."""
        verdict = "parity holds" if self.parity else "PARITY MISSED"
        worst = max(self.checks, key=self._difference)
        of_what = " of the largest value" if self.kind == "recogniser" else ""
        cost = ""
        if self.accuracy is not None:
            cost = f" {'Accuracy holds' if self.accuracy.is_kept else 'ACCURACY LOST'}: {self.accuracy.text}."
        rounded = "" if self.precision == "fp32" else f" in {self.precision}"
        return (
            f"{self.kind} as {self.format}{rounded}, {size_text(self.num_bytes)}; {verdict}: largest "
            f"difference from torch {self._difference(worst):.2e}{of_what} ({worst.name}, batch "
            f"{worst.batch_size}), "
            f"tolerance {self.tolerance:.0e}, {len(self.checks)} comparisons.{cost} Input: {self.input}."
        )

    def _difference(self, check: ParityCheck) -> float:
        """Return what the tolerance is for."""
        return difference_of(self.kind, check)

    @property
    def location(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def next_command(self) -> str:
        """What to run next."""
        path = quoted(self.path)
        if not self.is_good and self.precision != "fp32":
            finer = " --precision fp16 --data DATA" if self.precision == "int8" else ""
            return f"dsrface export {quoted(self.source)} --format onnx{finer}"
        if self.format == "onnx":
            # The path as an argument, so that no name needs to be quoted twice.
            code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"
            return f"python -c '{code}' {path}"
        if self.kind == "dsr":
            return f"dsrface precompute DATA --weights {path}"
        return f"dsrface embed IMAGES --weights {path} --out embeddings.npz"

    def to_dict(self) -> dict[str, Any]:
        """Return the result for `--json`."""
        return asdict(self) | {
            "path": str(self.path),
            "source": str(self.source),
            "summary": self.summary,
            "location": self.location,
            "next_command": self.next_command,
        }


def difference_of(kind: str, check: ParityCheck) -> float:
    """Return the difference that counts: an embedding has no natural unit, an image has, [0, 1]."""
    return check.max_rel_diff if kind == "recogniser" else check.max_abs_diff


def run(config: ExportConfig, *, emit: Emit) -> ExportResult:
    """Export a network and compare the file with torch.

    Raises:
        WeightsError: the source cannot be loaded.
        MachineError: the onnx extra is not installed (`missing-extra`).
        RunError: the output file exists (`exists`).
        UsageError: a network of others that the format cannot hold (`not-exportable`).
    """
    if config.format == "onnx":
        require_onnx()
    loaded = load_any(config.source)
    if config.format == "safetensors":
        _require_rebuildable(loaded)
    path = _free_path(config, loaded)
    if config.format == "onnx" and adapter_parameters(loaded.model):
        emit(Note("the file is for small faces: HR faces need the recogniser without adapters"))
    exported = _with_pixel_input(loaded) if config.pixels else loaded
    faces = None if config.data is None else ValFaces(config, exported)
    emit(Progress("export", 0, 2))
    unproven = path.with_name(f"{path.name}.unproven")  # takes its name only when the gates are passed
    remove_half_written(path.parent, unproven.name, CARD_FILE, f"{path.name}.{CARD_FILE}")
    predict = _write(config, loaded, exported, faces, unproven)
    emit(Progress("export", 1, 2))
    inputs = parity_inputs(exported) if faces is None else _val_inputs(faces)
    checks = [_compare(name, batch, exported.model, predict) for name, batch in inputs]
    accuracy = None if faces is None else faces.compare(_torch_predictor(exported.model), predict)
    emit(Progress("export", 2, 2))
    measured = [difference_of(loaded.kind, check) for check in checks]
    result = ExportResult(
        path=path,
        kind=loaded.kind,
        format=config.format,
        sha256=sha256_file(unproven),
        num_bytes=unproven.stat().st_size,
        source=loaded.path,
        source_sha256=loaded.sha256,
        opset=config.opset if config.format == "onnx" else None,
        tolerance=config.allowed_difference,
        checks=checks,
        max_abs_diff=max(check.max_abs_diff for check in checks),
        parity=all(np.isfinite(measured)) and max(measured) <= config.allowed_difference,
        input=input_text(exported),
        precision=config.precision,
        accuracy=accuracy,
    )
    if not result.is_good:
        emit(Note("The file does not compute what the network computes; do not use it.", is_warning=True))
        return dataclasses.replace(result, path=unproven)
    replace(unproven, path)
    if write_card(exported, path) is None:
        emit(Note(f"{CARD_FILE} next to it is somebody else's, and stays as it is", is_warning=True))
    return result


def _free_path(config: ExportConfig, loaded: LoadedModel) -> Path:
    """Return where the file goes: nothing is there, or --force was given."""
    path = config.out or _default_path(config, loaded)
    if not config.force:
        check_free(path, command=config.command)
    if path.exists() and path.samefile(loaded.path):
        raise RunError(
            "The output is the source itself.", id="exists", where=path, hint="Give another name by --out."
        )
    return path


def _require_rebuildable(loaded: LoadedModel) -> None:
    """Refuse a recogniser that dsrface could not build again from a file of tensors."""
    if loaded.kind == "recogniser" and not is_known(loaded.name):
        raise UsageError(
            f"A safetensors file holds tensors alone, and dsrface has no architecture {loaded.name!r}.",
            id="not-exportable",
            where=loaded.path,
            hint="Use it where it is, or --format onnx for a torch module.",
        )


def _with_pixel_input(loaded: LoadedModel) -> LoadedModel:
    """Return a recogniser that normalises its images itself.

    Raises:
        UsageError: a DSR, which takes RGB in [0, 1] as it is.
    """
    if loaded.kind == "dsr":
        raise nothing_to_normalise()
    model = PixelInput(loaded.model, loaded.preprocess).eval()
    return dataclasses.replace(loaded, model=model, preprocess=pixel_preprocess(loaded.preprocess.size_px))


def _graph(config: ExportConfig, loaded: LoadedModel, faces: ValFaces | None) -> bytes:
    try:
        graph = onnx_graph(loaded, opset=config.opset)
    except torch.onnx.OnnxExporterError as error:
        if loaded.kind == "dsr" or is_known(loaded.name):
            raise
        raise UsageError(
            f"torch cannot write {loaded.name} as ONNX.",
            id="not-exportable",
            where=loaded.path,
            hint="An ONNX file is one already; instead of TorchScript, export the module it was made of.",
        ) from error
    if config.precision == "fp16":
        return in_fp16(graph)
    if config.precision == "int8":
        assert faces is not None
        return in_int8(graph, faces.batches(), kind=loaded.kind)
    return graph


def _val_inputs(faces: ValFaces) -> list[tuple[str, Tensor]]:
    """Return val faces at several batch sizes: a calibrated file need not be right for noise."""
    batch = faces.batches()[0]
    return [(f"val faces {size}", batch[:size]) for size in PARITY_BATCH_SIZES]


def parity_inputs(loaded: LoadedModel) -> list[tuple[str, Tensor]]:
    """Return named inputs in the network's own range: noise at several batch sizes, extremes and a ramp."""
    size = loaded.preprocess.size_px
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, size).expand(1, 3, size, size)
    images = [
        (f"noise {batch}", torch.rand(batch, 3, size, size, generator=generator))
        for batch in PARITY_BATCH_SIZES
    ]
    images += [
        ("black", torch.zeros(1, 3, size, size)),
        ("white", torch.ones(1, 3, size, size)),
        ("ramp", ramp),
    ]
    if loaded.kind == "recogniser":
        return [(name, normalise(image, loaded.preprocess)) for name, image in images]
    return images


def _default_path(config: ExportConfig, loaded: LoadedModel) -> Path:
    root = config.source if config.source.is_dir() else config.source.parent
    return root / "export" / f"{loaded.kind}.{config.format}"


def _write(
    config: ExportConfig, loaded: LoadedModel, exported: LoadedModel, faces: ValFaces | None, path: Path
) -> Callable[[Tensor], Tensor]:
    """Write the file, and return what it computes, read back from it."""
    if config.format == "onnx":
        write_bytes(path, _graph(config, exported, faces))
        return onnx_predictor(path, loaded.kind)
    _write_safetensors(path, loaded)
    return _torch_predictor(load_any(path).model)


def _write_safetensors(path: Path, loaded: LoadedModel) -> None:
    own = {"format", "schema", "kind", "config", "preprocess", "dsrface_version"}
    extra = {key: value for key, value in loaded.metadata.items() if key not in own}
    extra["source_sha256"] = loaded.sha256
    save_model(
        path, loaded.model, kind=loaded.kind, config=loaded.config, preprocess=loaded.preprocess, extra=extra
    )


def _torch_predictor(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def predict(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            output: Tensor = model(batch)
            return output

    return predict


def _compare(name: str, batch: Tensor, model: nn.Module, predict: Callable[[Tensor], Tensor]) -> ParityCheck:
    batch = batch.contiguous()
    wanted = _torch_predictor(model)(batch)
    found = predict(batch)
    if found.shape != wanted.shape:
        return ParityCheck(name, len(batch), float("inf"), float("inf"))
    difference = float((found.double() - wanted.double()).abs().max())
    return ParityCheck(name, len(batch), difference, difference / max(float(wanted.abs().max()), 1e-12))
