"""What items may hold: values that compare badly, and values that workers change."""

from __future__ import annotations

import dataclasses
import functools
import os
import time

import numpy as np
import torch
from declare import FORK, fault, healthy
from inputs import Rows, read_record, records


def as_list(items):
    return items


class Missing(Rows):
    def __getitem__(self, index):
        values = torch.full((8,), float(index))
        values[index % 8] = float("nan")
        return values, float("nan"), torch.tensor(-0.0)


@healthy()
def items_with_nan():
    """NaN is no other NaN by ==, and still the same data."""
    return Missing()


class Types(Rows):
    def __getitem__(self, index):
        names = ("bfloat16", "float16", "complex64", "bool", "uint8", "float64", "int16")
        return {name: torch.full((4,), index % 2).to(getattr(torch, name)) for name in names}


@healthy()
def items_of_all_dtypes():
    """bfloat16, complex, bool and others; numpy knows not all of them."""
    return Types()


class Views(Rows):
    def __getitem__(self, index):
        return torch.full((1, 6), float(index)).expand(4, 6).T, torch.arange(12).reshape(3, 4)[:, ::2] + index


@healthy()
def views_in_items():
    """Expanded, transposed and strided views."""
    return Views()


class Sets(Rows):
    def __getitem__(self, index):
        return {"tags": {f"tag{n}" for n in range(index % 9)}, "frozen": frozenset(["a", "b", index])}


@healthy()
def sets_in_items():
    """Sets of text: equal, though each interpreter orders them in its own way."""
    return Sets(), {"collate_fn": as_list}


@dataclasses.dataclass
class Face:
    index: int
    pixels: torch.Tensor


class Thing:
    def __init__(self, index):
        self.index = index


class Objects(Rows):
    def __getitem__(self, index):
        return Face(index, torch.full((3, 4), float(index))), Thing(index)


@healthy()
def objects_in_items():
    """Objects without __eq__, whose repr is an address."""
    return Objects(), {"collate_fn": as_list}


class Timed(Rows):
    def __getitem__(self, index):
        start = time.perf_counter()
        value, _ = super().__getitem__(index)
        return {"value": value, "load_s": time.perf_counter() - start}


@healthy(plain="random")
def load_time_in_items():
    """Items carry the time that loading took: another value each time, never wrong."""
    return Timed()


class Nested(Rows):
    def __getitem__(self, index):
        return [
            torch.arange(index % 5),
            [None, b"raw", {"a": (1, [index])}],
            np.datetime64("2020-01-01") + index,
        ]


@healthy()
def nested_items():
    """None, bytes, dates and empty tensors, nested."""
    return Nested(), {"collate_fn": as_list}


class ProcessNumber(Rows):
    def __getitem__(self, index):
        values = np.full(5000, index)
        values[2500] = os.getpid()
        return values


@fault(
    "worker.consistency",
    where=r"dataset|items|process",
    fix="pid|process|index|worker",
    is_silent=True,
    most_workers=0,
    plain="differs",
)
def process_number_in_array():
    """One value of 5000 depends on the process: repr of a large array leaves it out."""
    return ProcessNumber(), {"collate_fn": as_list}


class SubclassByFile(Rows):
    def __init__(self):
        self.file = open(records(), "rb", buffering=0)

    def __getitem__(self, index):
        return np.ma.masked_less(read_record(self.file, index).numpy(), 0), index


@fault(
    "ds.open_handles",
    methods=FORK,
    where=r"dataset\.file",
    fix="getpid|first use|in each worker",
    most_workers=0,
    is_silent=True,
    plain="differs raises equal broken",
)
def masked_arrays_by_shared_file():
    """Masked arrays of 1024 values read through a shared offset."""
    return SubclassByFile(), {"collate_fn": as_list}


class Masked(Rows):
    """The mask, not the data, depends on the process."""

    def __getitem__(self, index):
        return np.ma.masked_less(np.arange(2000), 1 + os.getpid() % 97)


@fault(
    "worker.consistency",
    where=r"dataset|items|process",
    fix="pid|process|index|worker",
    is_silent=True,
    most_workers=0,
    plain="differs",
)
def mask_by_process():
    """Only the mask of a masked array differs."""
    return Masked(), {"collate_fn": as_list}


def scaled(items, scale):
    return torch.stack([value * scale for value, _ in items])


@fault(
    "ds.unpicklable",
    methods=("spawn", "forkserver"),
    where="collate_fn",
    fix="module level|def|partial",
    most_workers=0,
    plain="raises",
)
def lambda_as_collate():
    """A lambda as collate_fn."""
    return Rows(), {"collate_fn": lambda items: scaled(items, 2)}


@fault(
    "worker.forkserver",
    methods=("forkserver",),
    where="250 open files",
    fix="few large tensors|file_system",
    most_workers=0,
    plain="raises",
)
def many_tensors():
    """A list of 400 tensors: each is a file descriptor, and forkserver hands over at most some 250."""
    return [torch.full((8,), float(index)) for index in range(400)]


@fault(
    "ds.unpicklable",
    methods=("spawn", "forkserver"),
    where="worker_init_fn",
    fix="module level|def|partial",
    most_workers=0,
    plain="raises",
)
def lambda_as_init_fn():
    """A lambda as worker_init_fn, as in many answers on the subject."""
    return Rows(), {"worker_init_fn": lambda worker_id: np.random.seed(torch.initial_seed() % 2**32)}


@healthy()
def partial_as_collate():
    """functools.partial of a function in place of the lambda."""
    return Rows(), {"collate_fn": functools.partial(scaled, scale=2)}
