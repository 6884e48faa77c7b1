"""Small files that the cases read, written once per temporary folder, and the plainest data set."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

RECORDS, RECORD_BYTES = 600, 4096
# `--plain` widens the races by this pause between seek and read, so that what can happen does.
PAUSE_S = float(os.environ.get("ZOO_PAUSE_S", "0"))


def written(name: str, write: Callable[[Path], None]) -> Path:
    """Return a file in the temporary folder, written by `write` unless it is there."""
    path = Path(tempfile.gettempdir()) / "zoo" / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        half = path.with_name(f"{os.getpid()}-{name}")
        write(half)
        os.replace(half, path)
    return path


def record_array() -> np.ndarray:
    """Return int32 (600, 1024): every record is filled with its number."""
    return np.repeat(np.arange(RECORDS, dtype=np.int32), RECORD_BYTES // 4).reshape(RECORDS, -1)


def records() -> Path:
    """Return a file of 600 records of 4096 bytes."""
    return written("records.bin", lambda path: path.write_bytes(record_array().tobytes()))


def read_record(file, index: int) -> torch.Tensor:
    """Return int32 (1024,): one record of an open file of records."""
    file.seek(index * RECORD_BYTES)
    pause()
    return as_record(file.read(RECORD_BYTES))


def pause() -> None:
    """Give another worker the time to move a shared offset, when the races are to be seen."""
    if PAUSE_S:
        time.sleep(PAUSE_S)


def as_record(data: bytes) -> torch.Tensor:
    """Return int32 (1024,) from the bytes of one record."""
    return torch.frombuffer(bytearray(data), dtype=torch.int32)


def image(index: int, size: int = 64) -> Image.Image:
    """Return an RGB image of noise that the index decides."""
    return Image.fromarray(np.random.default_rng(index).integers(0, 255, (size, size, 3), dtype=np.uint8))


class Rows(Dataset):
    """Items of 64 floats that the index decides; the base of most cases."""

    length = 600

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.full((64,), float(index)), index
