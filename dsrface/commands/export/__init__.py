"""`dsrface export`: a trained network as one portable file, with a numeric parity gate.

The file is written, read back by the program that will use it (onnxruntime, or our own strict loader) and
compared with torch on several inputs and batch sizes. A file that misses the gate never gets its name: it
stays behind as `<name>.unproven`, for inspection.
"""

from __future__ import annotations

import io
import json
import logging
import shlex
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsrface import __version__
from dsrface.commands.export.card import CARD_FILE, input_text, write_card
from dsrface.config.export import ExportConfig
from dsrface.errors import EXIT_ANSWER_IS_NO, EXIT_DONE, MachineError, RunError
from dsrface.events import Emit, Note, Progress
from dsrface.models.loaded import LoadedModel
from dsrface.models.preprocess import normalise
from dsrface.models.weights import load_any, save_model
from dsrface.runtime.files import remove_half_written, replace, sha256_file, write_bytes
from dsrface.runtime.text import size_text
from dsrface.runtime.versions import how_to_install

# The export traces with a batch of 2, so a batch of 1 and larger ones prove that the batch axis is really
# free.
PARITY_BATCH_SIZES = (1, 2, 5)
INPUT_NAMES = {"dsr": "low", "recogniser": "image"}
OUTPUT_NAMES = {"dsr": "high", "recogniser": "embedding"}


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

    @property
    def exit_code(self) -> int:
        """0, or 1 when the parity gate was missed."""
        return EXIT_DONE if self.parity else EXIT_ANSWER_IS_NO

    @property
    def summary(self) -> str:
        """The result in one or two lines."""
        verdict = "parity holds" if self.parity else "PARITY MISSED"
        worst = max(self.checks, key=lambda check: check.max_abs_diff)
        return (
            f"{self.kind} as {self.format}, {size_text(self.num_bytes)}; {verdict}: largest difference "
            f"from torch {self.max_abs_diff:.2e} ({worst.name}, batch {worst.batch_size}), "
            f"tolerance {self.tolerance:.0e}, {len(self.checks)} comparisons. Input: {self.input}."
        )

    @property
    def location(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def next_command(self) -> str:
        """What to run next."""
        path = shlex.quote(str(self.path))
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


def run(config: ExportConfig, *, emit: Emit) -> ExportResult:
    """Export a network and compare the file with torch.

    Raises:
        WeightsError: the source cannot be loaded.
        MachineError: the onnx extra is not installed (`missing-extra`).
        RunError: the output file exists (`exists`).
    """
    if config.format == "onnx":
        _require_onnx()
    loaded = load_any(config.source)
    path = config.out or _default_path(config, loaded)
    if path.exists() and not config.force:
        raise RunError(
            "The file exists.", id="exists", where=path, hint="Add --force, or give another name by --out."
        )
    if path.exists() and path.samefile(loaded.path):
        raise RunError(
            "The output is the source itself.", id="exists", where=path, hint="Give another name by --out."
        )
    emit(Progress("export", 0, 2))
    unproven = path.with_name(f"{path.name}.unproven")  # takes its name only when the gate is passed
    remove_half_written(path.parent, unproven.name)
    if config.format == "onnx":
        write_bytes(unproven, _onnx_bytes(loaded, opset=config.opset))
        predict = _onnx_predictor(unproven, loaded.kind)
    else:
        _write_safetensors(unproven, loaded)
        predict = _torch_predictor(load_any(unproven).model)
    emit(Progress("export", 1, 2))
    checks = [_compare(name, low, loaded.model, predict) for name, low in parity_inputs(loaded)]
    emit(Progress("export", 2, 2))
    # An embedding has no natural unit, an image has: [0, 1].
    measured = [check.max_rel_diff if loaded.kind == "recogniser" else check.max_abs_diff for check in checks]
    parity = all(np.isfinite(measured)) and max(measured) <= config.tolerance
    if parity:
        replace(unproven, path)
        if write_card(loaded, path) is None:
            emit(Note(f"{CARD_FILE} beside it is somebody else's, and stays as it is", is_warning=True))
    else:
        path = unproven
        emit(Note("The file does not compute what torch computes; do not use it.", is_warning=True))
    return ExportResult(
        path=path,
        kind=loaded.kind,
        format=config.format,
        sha256=sha256_file(path),
        num_bytes=path.stat().st_size,
        source=loaded.path,
        source_sha256=loaded.sha256,
        opset=config.opset if config.format == "onnx" else None,
        tolerance=config.tolerance,
        checks=checks,
        max_abs_diff=max(check.max_abs_diff for check in checks),
        parity=parity,
        input=input_text(loaded),
    )


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


def _write_safetensors(path: Path, loaded: LoadedModel) -> None:
    own = {"format", "schema", "kind", "config", "preprocess", "dsrface_version"}
    extra = {key: value for key, value in loaded.metadata.items() if key not in own}
    extra["source_sha256"] = loaded.sha256
    save_model(
        path, loaded.model, kind=loaded.kind, config=loaded.config, preprocess=loaded.preprocess, extra=extra
    )


def _onnx_bytes(loaded: LoadedModel, *, opset: int) -> bytes:
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
    for key, value in _onnx_metadata(loaded).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    data: bytes = proto.SerializeToString()
    return data


def _onnx_metadata(loaded: LoadedModel) -> dict[str, str]:
    return {
        "format": "dsrface",
        "kind": loaded.kind,
        "config": json.dumps(loaded.config, sort_keys=True),
        "preprocess": loaded.preprocess.to_json(),
        "source_sha256": loaded.sha256,
        "dsrface_version": __version__,
    }


def _onnx_predictor(path: Path, kind: str) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(
        session.run([OUTPUT_NAMES[kind]], {INPUT_NAMES[kind]: batch.numpy()})[0]
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


def _require_onnx() -> None:
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
