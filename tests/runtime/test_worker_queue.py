"""What goes wrong while a worker sends a batch is said at once, and rightly."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dsrface.errors import WorkerError
from dsrface.runtime.worker_death import explain
from dsrface.runtime.worker_queue import telling_context

METHODS = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]


class Locks(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return threading.Lock() if index == 2 else index


class ManyFiles(Dataset):
    """Each tensor that is sent holds a descriptor, and there are hardly any."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        import resource

        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, used + 8))
        return [torch.zeros(1) for _ in range(100)]


def first_error(dataset: Dataset, method: str) -> tuple[WorkerError, float]:
    """Return the explained error and how many seconds it took to come, of the 120 that are waited."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=1,
        timeout=120,
        multiprocessing_context=telling_context(method),
    )
    started = time.monotonic()
    with pytest.raises(Exception) as caught:
        list(loader)
    return explain(caught.value, num_workers=1), time.monotonic() - started


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_that_cannot_be_pickled(method):
    error, seconds = first_error(Locks(), method)
    assert error.id == "worker-batch-unpicklable"
    assert "cannot pickle '_thread.lock' object" in error.message
    assert seconds < 60


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Linux")
def test_too_many_open_files():
    error, seconds = first_error(ManyFiles(), "fork")
    assert error.id == "worker-open-files"
    assert seconds < 60


FULL = """
import torch, time
from torch.utils.data import Dataset
from dsrface.config.engine import LoaderConfig
from dsrface.data.datasets import Sample
from dsrface.data.loaders import make_loader
from dsrface.data.samplers import BatchSampler, EpochOrder
from dsrface.errors import WorkerError

class Faces(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, key):
        face = torch.zeros(112, 112, 3, dtype=torch.uint8)
        return Sample(face, face, 0, key[1])

sampler = BatchSampler(EpochOrder(64, seed=0), batch_size=32)
started = time.monotonic()
try:
    settings = LoaderConfig(start_method="fork", timeout_s=120)
    with make_loader(Faces(), sampler, num_workers=2, settings=settings) as loader:
        list(loader.epoch(0))
except WorkerError as error:
    print(error.id, time.monotonic() - started < 60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux")
@pytest.mark.skipif(torch.__version__ < "2.6", reason="older workers die of it, and cannot always say so")
def test_shared_memory_that_is_full():
    unshare = ["unshare", "-m", "bash", "-c"]
    small = "mount -t tmpfs -o size=256k tmpfs /dev/shm"
    if subprocess.run([*unshare, small], check=False, capture_output=True).returncode:
        pytest.skip("mount is not allowed here")
    done = subprocess.run(
        [*unshare, f'{small} && exec "$0" -c "$1"', sys.executable, FULL],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.split() == ["worker-shared-memory", "True"], done.stderr
