"""Reading weight files without running code from them: safetensors, and torch's own format."""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import reprlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.torch_version import TorchVersion

from dsrface.errors import MachineError, WeightsError
from dsrface.models.sources import damaged, is_safetensors
from dsrface.runtime.text import size_text
from dsrface.runtime.user_callable import split_spec

_SAFE_TORCH = "2.6"
# What trainers write besides the tensors: hyper-parameters, callbacks, scores. None of it is needed.
_TRAINERS_NOTES = (
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "argparse.Namespace", "omegaconf.", "easydict.",
    "yacs.", "pathlib.", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
)  # fmt: skip


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a .safetensors file, or tensors of a .pt file; runs no code from it.

    The format is known by the content, not by the name. Tensors of a .pt file that are below other names get
    these in front, with dots: `state_dict.module.stem.0.weight`; `models.checkpoints` finds networks there.

    Raises:
        WeightsError: missing (`weights-missing`), unreadable or cut short (`weights-damaged`), a pickle that
            would run code (`unsafe-pickle`), or something without tensors (`weights-no-tensors`).
        UsageError: a source file, without the callable in it that makes a network (`bad-target`).
        MachineError: a .pt file, and torch is too old to read it safely (`torch-too-old`).
    """
    if not path.is_file():
        raise WeightsError("There is no such file.", id="weights-missing", where=path)
    if path.suffix == ".py":
        split_spec(str(path), flag="", wanted="a network")
    if is_safetensors(path):
        return _read_safetensors(path)
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            # copies, so that no network keeps a map of a file that somebody may replace
            tensors = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
            return tensors, dict(handle.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, f"not readable as safetensors ({error})") from None


def refuse_old_torch(path: Path) -> None:
    """Refuse to unpickle with a torch whose weights-only reader can be made to run code: CVE-2025-32434.

    Raises:
        MachineError: torch is older than 2.6 (`torch-too-old`).
    """
    if TorchVersion(torch.__version__) < _SAFE_TORCH:
        raise MachineError(
            f"torch {torch.__version__} cannot read this file safely: it may run code (CVE-2025-32434).",
            id="torch-too-old",
            where=path,
            hint="Use torch 2.6 or later, or a safetensors file.",
        )


def _read_torch(path: Path) -> dict[str, Tensor]:
    refuse_old_torch(path)
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        value = _unpickled(path)
    except WeightsError:
        raise
    except pickle.UnpicklingError:
        if not _is_whole_pickle(path):  # torch's own words advise to load it as code
            raise damaged(path, "its pickle cannot be followed to its end") from None
        raise WeightsError(
            "The file would run code when opened: it holds pickled objects, not tensors alone.",
            id="unsafe-pickle",
            where=path,
            hint="Nothing in it was run. Ask its author for a safetensors file, or for what "
            "torch.save(model.state_dict(), FILE) writes.",
        ) from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises almost anything
        raise damaged(path, _first_line(error)) from None
    tensors = dict(_tensors_below(value))
    if not tensors:
        raise WeightsError(
            f"The file holds no state dict but {_describe(value)}.",
            id="weights-no-tensors",
            where=path,
            hint="A state dict maps names to tensors; it may be below other names, such as `state_dict`.",
        )
    return tensors


def _unpickled(path: Path) -> Any:
    """Return what torch's weights-only reader makes of a file; notes of trainers become empty objects."""
    with path.open("rb") as handle, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle's protocol, of no use to anybody here
        try:
            # a handle, not the path: by the path's ending torch would choose another reader
            return torch.load(handle, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            stand_ins = _stand_ins(path)
            if not stand_ins:
                raise
            handle.seek(0)
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(handle, map_location="cpu", weights_only=True)


def _stand_ins(path: Path) -> list[Any]:
    """Return an empty class for every foreign one in a file; none when one is not a trainer's note."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, OSError, pickle.UnpicklingError):
        return []
    if not all(name.startswith(_TRAINERS_NOTES) for name in names):
        return []
    return [(dict if name.endswith("Dict") else type(name, (_Empty,), {}), name) for name in names]


class _Empty:
    """Takes whatever a pickle gives to it, and keeps nothing."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        del state


def _tensors_below(value: object) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of nested mappings, with the names on the way joined by dots; none of them twice."""
    seen: set[int] = set()
    waiting = [("", value)]
    while waiting:
        prefix, item = waiting.pop()
        if isinstance(item, Tensor):
            yield prefix, item
        elif isinstance(item, Mapping) and id(item) not in seen:
            seen.add(id(item))  # a mapping may hold itself
            start = f"{prefix}." if prefix else ""
            waiting += [(f"{start}{key}", below) for key, below in reversed(list(item.items()))]


def _check_archive(path: Path) -> None:
    """Refuse a zip archive that would unpack to more than it is: torch stores everything as it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise WeightsError(
            "This is a TorchScript program, not a state dict.",
            id="torchscript",
            where=path,
            hint="Programs are not run unless asked for. If you trust it, name it torchscript:FILE.",
        )
    unpacked = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or unpacked > path.stat().st_size:
        raise damaged(path, f"its archive is compressed, to {size_text(unpacked)}; torch compresses nothing")


def _is_whole_pickle(path: Path) -> bool:
    """Return whether the file's pickle can be followed to its end: bytes that are damaged cannot."""
    with contextlib.suppress(Exception), contextlib.ExitStack() as stack:
        source: IO[bytes] = stack.enter_context(path.open("rb"))
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            [name] = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            source = stack.enter_context(archive.open(name))
        return sum(1 for _ in pickletools.genops(source)) > 1
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(reprlib.repr, list(value)[:5])) or 'nothing'}"
    return f"a {type(value).__name__}"
