"""Which device and which number format a run uses, and why."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from dsrface.errors import MachineError, TrainingError, UsageError
from dsrface.runtime.resources import address_limit_hint

if TYPE_CHECKING:
    import torch

Amp = Literal["fp32", "bf16", "fp16"]
# Of NVIDIA, AMD, either under WSL, and NVIDIA's small boards.
_DRIVER_FILES = ("nvidia*", "kfd", "dxg", "nvgpu*", "nvhost*", "nvmap")
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")


@dataclass(frozen=True)
class Device:
    """A device that was checked to exist.

    Args:
        kind: `"cpu"`, `"cuda"` or `"mps"`.
        torch_name: What `torch.device` takes, e.g. `"cuda:1"`.
        amp: Number format of the networks' forward passes.
        reason: One line for logs: the device, the number format, and why where it was chosen here.
    """

    kind: str
    torch_name: str
    amp: Amp
    reason: str


def check_driver(device: str) -> None:
    """Refuse a GPU on a machine that shows no driver for one; needs no torch, which takes seconds to load.

    Args:
        device: As of `choose_device`.

    Raises:
        MachineError: no such device can be here; id `no-such-device`.
    """
    kind = device.partition(":")[0]
    is_mac, is_linux = sys.platform == "darwin", sys.platform == "linux"
    has_driver = not is_linux or any(next(Path("/dev").glob(name), None) for name in _DRIVER_FILES)
    if (kind == "cuda" and (is_mac or not has_driver)) or (kind == "mps" and not is_mac):
        raise MachineError(
            f"{device!r} was asked for, but this machine has no driver of such a GPU.",
            id="no-such-device",
            hint="Use --device auto or cpu, or repair the installation: dsrface doctor says what is wrong.",
        )


def choose_device(device: str = "auto", *, amp: str = "auto") -> Device:
    """Resolve `"auto"`, check that what was asked for exists, and make a CUDA device the current one.

    From then on fp32 means fp32: cuDNN would compute convolutions in TF32, which keeps 10 of its 23 bits.

    Args:
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:N"` or `"mps"`; auto and cuda give each process that
            torchrun started on this machine a GPU of its own.
        amp: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`; auto is bf16 on CUDA devices that have it, else fp32.

    Raises:
        UsageError: an unknown name.
        MachineError: no such device here, or too few of them, or it lacks the number format.
    """
    import torch

    if amp not in ("auto", "fp32", "bf16", "fp16"):
        raise UsageError(
            f"Unknown number format {amp!r}.", id="bad-amp", hint="Use auto, fp32, bf16 or fp16."
        )
    asked, name, why = device, device, ""
    if device == "auto":
        if torch.cuda.is_available():
            name, why = _own_gpu(), " (auto: CUDA is there)"
        elif torch.backends.mps.is_available():
            name, why = "mps", " (auto: no CUDA, an Apple GPU)"
        else:
            name, why = "cpu", " (auto: no CUDA)"
    elif device == "cuda" and torch.cuda.is_available():
        name = _own_gpu()
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(
            f"Unknown device {asked!r}.", id="bad-device", hint="Use auto, cpu, cuda, cuda:N or mps."
        )
    _check_exists(kind, index, asked)
    chosen = _choose_amp(kind, name, amp)
    if kind == "cuda":
        torch.cuda.set_device(name)
        torch.backends.cudnn.allow_tf32 = False
    return Device(kind, name, chosen, f"{name}, {chosen}{why}")


def autocast(device: Device) -> contextlib.AbstractContextManager[None]:
    """Return a context in which forward passes run in the device's number format; a no-op for fp32."""
    import torch

    if device.amp == "fp32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if device.amp == "bf16" else torch.float16
    return cast("contextlib.AbstractContextManager[None]", torch.autocast(device.kind, dtype=dtype))


def recorded_event(device: str | torch.device) -> torch.cuda.Event:
    """Return an event that comes when a CUDA device has done all that its current stream was given so far.

    Who waits for it sleeps instead of spinning.
    """
    import torch

    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is out-of-memory, of the host or of a device."""
    # torch.OutOfMemoryError is a RuntimeError that says so; cuDNN, cuBLAS and MPS raise plain ones.
    is_said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
    return is_said or isinstance(error, MemoryError)


def out_of_memory(error: BaseException, *, hint: str) -> TrainingError:
    """Return the error that tells people so, with what may help."""
    said = str(error).partition("\n")[0] or type(error).__name__
    hints = filter(None, (address_limit_hint(), hint))
    return TrainingError(f"Out of memory: {said}", id="out-of-memory", hint="\n".join(hints))


def too_few_gpus() -> MachineError:
    """Return the error of a job in which two processes got the same GPU."""
    return MachineError(
        f"torchrun started {_environment_int('LOCAL_WORLD_SIZE', 1)} processes on this machine, which do not "
        "have a GPU each.",
        id="too-few-gpus",
        hint="Give torchrun --nproc-per-node the number of GPUs, and use --device auto.",
    )


def _own_gpu() -> str:
    """Return the GPU of this process among those that torchrun started on this machine.

    Raises:
        MachineError: there are too few.
    """
    import torch

    count = torch.cuda.device_count()
    # Some launchers show each process its own GPU only.
    shows_own = count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
    if count < _environment_int("LOCAL_WORLD_SIZE", 1) and not shows_own:
        raise too_few_gpus()
    return f"cuda:{_environment_int('LOCAL_RANK', 0) % count}"


def _environment_int(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default


def _check_exists(kind: str, index: str, asked: str) -> None:
    import torch

    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            built = torch.version.cuda or "none: a CPU-only build"
            raise MachineError(
                f"{asked!r} was asked for, but torch sees {count} CUDA devices (CUDA of this torch: "
                f"{built}).",
                id="no-such-device",
                hint="Use --device auto or cpu, or repair the installation: dsrface doctor says what is "
                "wrong.",
            )
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise MachineError("No Apple GPU here.", id="no-such-device", hint="Use --device auto or cpu.")


def _choose_amp(kind: str, name: str, amp: str) -> Amp:
    import torch

    has_bf16 = kind == "cpu" or (kind == "cuda" and torch.cuda.get_device_capability(name) >= (8, 0))
    if amp == "auto":
        # On CPU bf16 pays only where the core has it, and results would differ between machines.
        return "bf16" if kind == "cuda" and has_bf16 else "fp32"
    if amp == "bf16" and kind == "cuda" and not has_bf16:
        raise MachineError("This GPU has no bf16.", id="no-such-format", hint="Use --set amp=fp16 or fp32.")
    if amp == "fp16" and kind == "cpu":
        raise MachineError(
            "fp16 training needs a GPU.", id="no-such-format", hint="Use amp auto, fp32 or bf16 on a CPU."
        )
    return cast("Amp", amp)
