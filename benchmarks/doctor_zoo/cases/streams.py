"""Iterable data sets: shards, ends and lengths."""

from __future__ import annotations

import io
import itertools
import pathlib
import tarfile
import tempfile
import time

import numpy as np
import torch
from declare import FORK, fault, healthy
from inputs import Rows
from torch.utils.data import ChainDataset, DataLoader, IterableDataset, get_worker_info

SHARD = "get_worker_info|worker_init_fn|split"


def own_share(items):
    info = get_worker_info()
    return items if info is None else itertools.islice(items, info.id, None, info.num_workers)


class Whole(IterableDataset):
    def __iter__(self):
        return (torch.full((8,), float(n)) for n in range(600))


@fault(
    "ds.iterable_shard",
    where="twice|whole data|every worker",
    fix=SHARD,
    most_workers=1,
    is_silent=True,
    plain="differs",
)
def unsharded_stream():
    """Every worker reads the whole data."""
    return Whole()


class ShuffledWhole(IterableDataset):
    def __iter__(self):
        order = torch.randperm(600).tolist()
        return (torch.full((8,), float(n)) for n in order)


@fault(
    "ds.iterable_shard",
    where="twice|whole data|every worker|more than once",
    fix=SHARD,
    most_workers=1,
    is_silent=True,
    plain="random twins",
)
def unsharded_shuffled_stream():
    """The same, but each worker shuffles: what comes twice does not come at once. pytorch/pytorch#30599"""
    return ShuffledWhole()


class Exhausted(IterableDataset):
    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.position >= 600:
            raise StopIteration
        self.position += 1
        return torch.full((8,), float(self.position))


@fault(
    "ds.iterable_shard",
    "ds.state",
    "ds.items",
    where=r"position|second|empty|twice|every worker",
    fix="__iter__|" + SHARD,
    most_workers=1,
    is_silent=True,
    plain="differs random",
)
def stream_that_is_its_own_iterator():
    """__iter__ returns self and never starts again: later epochs are empty, and workers read all. kind: huggingface/datasets#7447"""
    return Exhausted()


class Lossy(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        items = (torch.full((8,), float(n)) for n in range(600))
        return items if info is None else itertools.islice(items, info.id, None, info.num_workers + 1)


@fault(
    "ds.iterable_shard",
    where="missing|lost|never|only",
    fix=SHARD + "|num_workers",
    most_workers=0,
    is_silent=True,
    plain="differs",
)
def lossy_shards():
    """A wrong step: a third of the items is never read."""
    return Lossy()


class Overlapping(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        first, last = (
            (0, 600)
            if info is None
            else (info.id * 600 // info.num_workers, (info.id + 1) * 600 // info.num_workers + 60)
        )
        return (torch.full((8,), float(n)) for n in range(first, last))


@fault(
    "ds.iterable_shard",
    where="twice|more than once|overlap|60",
    fix=SHARD + "|overlap",
    most_workers=1,
    is_silent=True,
    plain="differs",
)
def overlapping_shards():
    """Neighbouring ranges overlap: one item in ten comes twice."""
    return Overlapping()


class TwoShards(IterableDataset):
    shards = (range(1000), range(1000, 2000))

    def __iter__(self):
        info = get_worker_info()
        for shard in self.shards[info.id :: info.num_workers] if info else self.shards:
            for n in shard:
                time.sleep(0.01)
                yield torch.full((8,), float(n))


@healthy(most_workers=2, least_workers=1, plain="differs equal", methods=FORK)
def two_shards():
    """Two shards feed two workers, whatever their number. huggingface/datasets#7999, hiyouga/LLaMA-Factory#9590"""
    return TwoShards()


def one_shard(count=1):
    folder = pathlib.Path(tempfile.mkdtemp())
    for shard in range(count):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as archive:
            for n in range(200):
                data = np.full(64, shard * 200 + n, np.int32).tobytes()
                info = tarfile.TarInfo(f"{shard * 200 + n:06d}.bin")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def as_tensor(sample):
    return torch.frombuffer(bytearray(sample["bin"]), dtype=torch.int32)


@fault(
    "worker.*",
    "ds.iterable_shard",
    where="shard",
    fix="shard|1 worker|num_workers",
    most_workers=1,
    plain="raises",
    needs=("webdataset",),
)
def webdataset_of_one_shard():
    """webdataset refuses fewer shards than workers."""
    import webdataset

    return webdataset.WebDataset(one_shard(), shardshuffle=False).map(as_tensor)


@healthy(needs=("webdataset",), plain="equal differs random", most_workers=4)
def webdataset_of_four_shards():
    """Four shards, split by worker."""
    import webdataset

    return webdataset.WebDataset(one_shard(4), shardshuffle=False).map(as_tensor)


class Stops(Rows):
    def __init__(self):
        self.lines = iter(range(150))

    def __getitem__(self, index):
        if index >= 150:
            next(iter(()))
        return torch.full((8,), float(index)), index


@fault(
    "ds.items",
    where=r"dataset\[\d+\]|StopIteration",
    fix="StopIteration|IndexError|raise",
    is_silent=True,
    plain="equal differs",
)
def stop_iteration_in_getitem():
    """StopIteration from an item ends the epoch in silence, without workers too. vllm-project/guidellm#468, pytorch/pytorch#82732"""
    return Stops()


class TooLong(Rows):
    def __init__(self):
        self.items = list(range(597))

    def __getitem__(self, index):
        return torch.tensor(self.items[index]), index


@fault("ds.items", where=r"dataset\[59\d\]|IndexError", fix="sample|item|__len__|length", plain="broken")
def length_beyond_the_end():
    """__len__ says more than there is."""
    return TooLong()


class WrongLength(IterableDataset):
    def __len__(self):
        return 100

    def __iter__(self):
        return own_share(torch.tensor(n) for n in range(600))


@fault(
    "ds.iterable_shard",
    "ds.items",
    "ds.build",
    where="length|__len__|100",
    fix="__len__|length",
    plain="equal differs",
    methods=FORK,
)
def stream_of_wrong_length():
    """An IterableDataset whose __len__ is too small: torch warns, the schedulers count wrong. pytorch/pytorch#33413"""
    return WrongLength()


class Sharded(IterableDataset):
    def __iter__(self):
        return own_share(torch.full((8,), float(n)) for n in range(600))


@healthy(plain="differs equal")
def sharded_stream():
    """Every n-th item is one's own."""
    return Sharded()


class Endless(IterableDataset):
    def __iter__(self):
        return own_share(torch.full((64,), float(n)) for n in itertools.count())


@healthy(plain="differs equal")
def endless_stream():
    """A stream that never ends."""
    return Endless()


class Synthetic(IterableDataset):
    """Draws without end from the global generator: nothing to shard."""

    def __iter__(self):
        while True:
            yield torch.randn(64)


@healthy(plain="random")
def endless_noise():
    """An endless generator of samples: workers draw apart, there is nothing to shard."""
    return Synthetic()


class Range(IterableDataset):
    def __init__(self):
        self.start, self.end = 0, 600

    def __iter__(self):
        return (torch.full((8,), float(n)) for n in range(self.start, self.end))


def own_range(worker_id):
    info = get_worker_info()
    step = -(-info.dataset.end // info.num_workers)
    info.dataset.start, info.dataset.end = step * info.id, min(step * (info.id + 1), info.dataset.end)


@healthy(plain="differs equal")
def sharded_by_init_fn():
    """The pattern of torch's own documentation: worker_init_fn sets the range."""
    return Range(), {"worker_init_fn": own_range}


@healthy(plain="differs equal")
def chain_of_streams():
    """A ChainDataset of two streams that each know their share."""
    return ChainDataset([Sharded(), Endless10()])


class Endless10(IterableDataset):
    def __iter__(self):
        return own_share(torch.full((8,), float(1000 + n)) for n in range(10))


class Shuffled(IterableDataset):
    """A shuffle buffer over one's share."""

    def __iter__(self):
        buffer = []
        for item in own_share(torch.full((8,), float(n)) for n in range(600)):
            buffer.append(item)
            if len(buffer) > 50:
                yield buffer.pop(int(torch.randint(len(buffer), ())))
        yield from buffer


@healthy(plain="random")
def shuffle_buffer():
    """A shuffle buffer, as streaming libraries have."""
    return Shuffled()


class Repeats(IterableDataset):
    """Equal items by nature: labels of few classes."""

    def __iter__(self):
        return own_share(torch.tensor(n % 3) for n in range(900))


@healthy(plain="differs equal")
def stream_of_equal_items():
    """Many equal items are no missing shards."""
    return Repeats()


class Batches(IterableDataset):
    def __iter__(self):
        return own_share(torch.full((16, 8), float(n)) for n in range(200))


@healthy(plain="equal differs")
def stream_of_batches():
    """A stream that makes its own batches, batch_size=None."""
    return DataLoader(Batches(), batch_size=None)
