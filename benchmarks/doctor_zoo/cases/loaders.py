"""DataLoaders as people make them: samplers of every kind, wrapped sets, loaders in dicts and lists."""

from __future__ import annotations

import itertools

import torch
from declare import FORK, fault, healthy
from inputs import Rows
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Part(Rows):
    """Only 100 to 199 exist: the rest is another split's."""

    def __getitem__(self, index):
        if not 100 <= index < 200:
            raise FileNotFoundError(f"item {index} is not part of this split")
        return torch.full((64,), float(index)), index


@healthy(plain="random")
def sampler_of_a_part():
    """A SubsetRandomSampler: the other items are never loaded."""
    return DataLoader(Part(), 16, sampler=SubsetRandomSampler(range(100, 200)))


@healthy(plain="equal")
def sampler_as_range():
    """sampler=range(100, 200)"""
    return DataLoader(Part(), 16, sampler=range(100, 200))


@healthy(plain="random")
def weighted_sampler():
    """A WeightedRandomSampler with zero weight for what does not exist."""
    weights = torch.zeros(600)
    weights[100:200] = 1
    return DataLoader(
        Part(), 16, sampler=WeightedRandomSampler(weights, 400, generator=torch.Generator().manual_seed(0))
    )


class Keyed(Rows):
    def __getitem__(self, key):
        index, side = key
        return torch.full((3, side, side), float(index)), index


class Scales:
    """Batches of (index, side): several sizes, one a batch."""

    def __iter__(self):
        for start in range(0, 600, 10):
            yield [(index, 16 if start % 20 else 24) for index in range(start, start + 10)]

    def __len__(self):
        return 60


@healthy()
def batch_sampler_of_pairs():
    """A batch sampler hands over (index, size), as for training at several scales."""
    return DataLoader(Keyed(), batch_sampler=Scales())


class Words(Rows):
    def __init__(self):
        self.items = {f"person_{n}": float(n) for n in range(600)}

    def __getitem__(self, key):
        return torch.tensor(self.items[key])


class Keys:
    def __init__(self, keys):
        self.keys = list(keys)

    def __iter__(self):
        return iter(self.keys)

    def __len__(self):
        return len(self.keys)


@healthy()
def sampler_of_names():
    """Keys are names."""
    words = Words()
    return DataLoader(words, 16, sampler=Keys(words.items))


class Lists(Dataset):
    def __init__(self):
        self.rows = torch.arange(6000.0).reshape(600, 10)

    def __len__(self):
        return 600

    def __getitem__(self, indices):
        assert isinstance(indices, list), f"wants a list of indices, got {indices!r}"
        return self.rows[indices]


@healthy(plain="random")
def whole_batches():
    """batch_size=None and a sampler of whole batches: __getitem__ takes a list."""
    return DataLoader(
        Lists(), batch_size=None, sampler=BatchSampler(RandomSampler(range(600)), 32, drop_last=False)
    )


class Fetches(Rows):
    def __getitems__(self, indices):
        return [(torch.full((64,), float(index)), index) for index in indices]

    def __getitem__(self, index):
        raise AssertionError("items are fetched many at a time")


@healthy(allowed=())
def getitems():
    """__getitems__ fetches a whole batch."""
    return DataLoader(Fetches(), 16)


class Forever:
    def __iter__(self):
        return itertools.cycle(range(600))


@healthy()
def endless_sampler():
    """A sampler without end or length."""
    return DataLoader(Rows(), 16, sampler=Forever())


class Used:
    """A sampler that may be read once."""

    def __init__(self):
        self.indices = iter(range(600))

    def __iter__(self):
        return self.indices


@healthy(plain="equal random broken differs")
def loader_with_worker_options():
    """A loader that already has workers, prefetch_factor and persistent_workers."""
    return DataLoader(Rows(), 16, num_workers=2, prefetch_factor=4, persistent_workers=True, shuffle=True)


@healthy()
def drop_last_and_pin():
    """drop_last and pin_memory without an accelerator."""
    return DataLoader(Rows(), 64, drop_last=True, pin_memory=True)


@healthy()
def unbatched():
    """batch_size=None: items as they are."""
    return DataLoader(Rows(), batch_size=None)


@healthy(plain="equal random")
def wrapped_sets():
    """Subset, ConcatDataset, random_split and StackDataset in each other."""
    rows = TensorDataset(torch.arange(400.0), torch.arange(400))
    both = ConcatDataset([Subset(rows, range(0, 400, 2)), rows])
    part, _ = random_split(both, [500, 100], torch.Generator().manual_seed(1))
    return StackDataset(first=part, second=part)


@healthy()
def list_as_set():
    """A plain list of pairs."""
    return DataLoader([(torch.full((8,), float(n)), n) for n in range(200)], 16)


@healthy()
def dict_of_loaders():
    """{"train": ..., "val": ...}"""
    return {"train": DataLoader(Rows(), 16), "val": DataLoader(Rows(), 32)}


@healthy()
def list_of_loaders():
    """A list of two loaders."""
    return [DataLoader(Rows(), 16), DataLoader(Rows(), 8)]


class Module:
    """A data module in the manner of Lightning."""

    def setup(self, stage=None):
        self.rows = Rows()

    def train_dataloader(self):
        return DataLoader(self.rows, 16)

    def val_dataloader(self):
        return DataLoader(self.rows, 32)


@healthy(methods=FORK)
def data_module():
    """A data module: its training loader is examined."""
    return Module()


@healthy(methods=FORK)
def loader_of_data_module():
    """Its loader is examined."""
    module = Module()
    module.setup()
    return module.train_dataloader()


class Beyond:
    def __iter__(self):
        return iter(range(590, 605))

    def __len__(self):
        return 15


class Strict(Rows):
    def __getitem__(self, index):
        if index >= 600:
            raise IndexError(f"there is no item {index}")
        return super().__getitem__(index)


@fault("ds.items", where=r"60\d", fix="sampler|sample|item|index", plain="broken", methods=FORK)
def sampler_beyond_the_end():
    """A sampler made for a longer set: the error stands in the sampler's keys."""
    return DataLoader(Strict(), 4, sampler=Beyond())


class PairFault(Keyed):
    def __init__(self):
        from inputs import records

        self.file = open(records(), "rb", buffering=0)

    def __getitem__(self, key):
        from inputs import read_record

        index, _ = key
        return read_record(self.file, index), index


@fault(
    "ds.open_handles",
    where=r"dataset\.file",
    fix="getpid|first use|in each worker",
    methods=FORK,
    most_workers=0,
    is_silent=True,
    plain="differs equal",
)
def shared_file_behind_a_sampler():
    """A shared file offset behind a batch sampler of pairs."""
    return DataLoader(PairFault(), batch_sampler=Scales())
