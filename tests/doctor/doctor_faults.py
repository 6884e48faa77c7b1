"""Data sets with one planted fault each, and the same ones repaired as the doctor says."""

from __future__ import annotations

import os
import pathlib
import tempfile
import threading

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

CODES = (
    pathlib.Path(tempfile.gettempdir()) / f"doctor_faults_{os.getuid() if hasattr(os, 'getuid') else 0}.bin"
)


def double(value):
    return 2 * value


class Base(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return torch.tensor([index, index])


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms


class LambdaFault(Base):
    def __init__(self):
        self.transform = Compose([double, lambda value: value])


class LambdaFixed(Base):
    def __init__(self):
        self.transform = Compose([double, double])


class LockFault(Base):
    def __init__(self):
        self.cache = {"lock": threading.Lock()}


class LockFixed(LockFault):
    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.cache = {"lock": threading.Lock()}


class NonLeafFault(Base):
    def __init__(self):
        self.mean = torch.ones(3, requires_grad=True) * 2


class NonLeafFixed(Base):
    def __init__(self):
        self.mean = (torch.ones(3, requires_grad=True) * 2).detach()


class TemporaryFault(Base):
    def __init__(self):
        self.mean = torch.ones(1000)

    def __getstate__(self):
        return {"mean": self.mean.clone()}


class TemporaryFixed(TemporaryFault):
    def __getstate__(self):
        return {"mean": self.mean.numpy()}


class GeneratorFault(Base):
    def __init__(self):
        self.generator = torch.Generator()


class GeneratorFixed(Base):
    def __init__(self):
        self.seed = 0


class HandleFault(Base):
    def __init__(self):
        CODES.write_bytes(np.arange(64, dtype=np.int64).tobytes())
        self.handle = open(CODES, "rb")  # noqa: SIM115 - the fault

    def __getitem__(self, index):
        self.handle.seek(8 * index)
        return torch.frombuffer(bytearray(self.handle.read(8)), dtype=torch.int64)


class HandleFixed(Base):
    def __init__(self):
        CODES.write_bytes(np.arange(64, dtype=np.int64).tobytes())
        self.path = CODES
        self.opened = {}

    def __getitem__(self, index):
        handle = self.opened.get(os.getpid())
        if handle is None:
            handle = self.opened[os.getpid()] = open(self.path, "rb")  # noqa: SIM115
        handle.seek(8 * index)
        return torch.frombuffer(bytearray(handle.read(8)), dtype=torch.int64)


class HiddenHandleFault(HandleFault):
    """Pickles well, for __getstate__ drops the handle; fork does not ask it."""

    def __getstate__(self):
        return {}


class NetworkFault(Base):
    """The classic: a network on the GPU inside the data set; `meta` stands in for CUDA."""

    def __init__(self):
        self.dsr_model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, device="meta"))


class NetworkFixed(Base):
    pass


class RandomFault(Base):
    def __init__(self):
        self.random = np.random.default_rng(0)

    def __getitem__(self, index):
        return torch.tensor(self.random.integers(1 << 30))


class RandomFixed(Base):
    random = None

    def __getitem__(self, index):
        if self.random is None:
            self.random = np.random.default_rng(torch.initial_seed())
        return torch.tensor(self.random.integers(1 << 30))


class SizeFault(Base):
    def __init__(self):
        self.names = [f"person_{n:08d}/image.png" for n in range(20_000)]


class SizeFixed(Base):
    def __init__(self):
        names = [f"person_{n:08d}/image.png" for n in range(20_000)]
        self.names = torch.frombuffer(bytearray("".join(names).encode()), dtype=torch.uint8)


class GrowthFault(Base):
    def __init__(self):
        self.pairs = [(n, n) for n in range(1000, 600_000)]


class GrowthFixed(Base):
    def __init__(self):
        self.pairs = torch.arange(1000, 600_000)


class BatchFault(Base):
    def __getitem__(self, index):
        return {"image": torch.zeros(3), "note": lambda: index}


class BatchFixed(Base):
    def __getitem__(self, index):
        return {"image": torch.zeros(3), "note": index}


def as_list(items):
    return items


class GradFault(Base):
    def __init__(self):
        self.scale = torch.nn.Parameter(torch.ones(3))

    def __getitem__(self, index):
        return self.scale * index


class GradFixed(GradFault):
    def __getitem__(self, index):
        with torch.no_grad():
            return (self.scale * index).detach()


class CudaBatchFault(Base):
    def __getitem__(self, index):
        return torch.zeros(3, device="meta")


class ItemFault(Base):
    def __getitem__(self, index):
        if index == 63:
            raise ValueError("cannot identify image file 'broken.png'")
        return torch.tensor(index)


class RaggedFault(Base):
    def __getitem__(self, index):
        return torch.zeros(index + 1)


class StreamFault(IterableDataset):
    def __iter__(self):
        return iter([torch.tensor(n) for n in range(500)])


class StreamFixed(IterableDataset):
    def __iter__(self):
        import itertools

        info = get_worker_info()
        items = (torch.tensor(n) for n in range(500))
        return items if info is None else itertools.islice(items, info.id, None, info.num_workers)


class ThreadFault(Base):
    def __init__(self):
        self.stop = threading.Event()
        threading.Thread(target=self.stop.wait, args=(60,), daemon=True).start()


class PidFault(Base):
    """Workers deliver something else than the main process."""

    def __getitem__(self, index):
        return torch.tensor(os.getpid() if index == 5 else index)


class HangFault(Base):
    def __init__(self):
        self.lock = threading.Lock()
        self.lock.acquire()
        self.owner = os.getpid()

    def __getitem__(self, index):
        if os.getpid() != self.owner:
            self.lock.acquire()  # held since the fork
        return torch.tensor(index)


class KilledFault(Base):
    def __init__(self):
        self.owner = os.getpid()

    def __getitem__(self, index):
        if os.getpid() != self.owner:
            os.kill(os.getpid(), 9)
        return torch.tensor(index)


class NoisyFault(Base):
    """Prints on every channel there is, while everything else is well."""

    def __init__(self):
        print("building")
        os.system("echo from a child process")

    def __getitem__(self, index):
        print("item", index)
        os.write(1, b'{"schema_version": "fooled"}\n')
        return torch.tensor(index)


class GreedyFault(Base):
    def __getitem__(self, index):
        import time

        self.hoard = bytearray(600 << 20)
        self.hoard[::4096] = b"x" * len(self.hoard[::4096])
        time.sleep(5)
        return torch.tensor(index)


def wants_cuda():
    return torch.zeros(3).cuda()


def raises(code=0):
    raise FileNotFoundError(f"no such folder: photos{code}")


def no_dataset():
    return 3


def with_options():
    return NoisyFault(), {"batch_size": 7, "collate_fn": as_list}
