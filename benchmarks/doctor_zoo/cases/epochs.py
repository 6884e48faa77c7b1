"""State that the main process changes from epoch to epoch and that items read."""

from __future__ import annotations

import functools
import multiprocessing
import random
import time

import torch
from declare import FORK, SENT, fault, healthy
from inputs import Rows
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, default_collate, get_worker_info

stale = functools.partial(
    fault,
    "ds.epoch",
    "ds.state",
    "worker.*",
    fix="persistent_workers|share|Value",
    persistent=False,
    is_silent=True,
)


class Waiting(Rows):
    """Rows slow enough for workers to be worth while."""

    length = 2000

    def __getitem__(self, index):
        time.sleep(0.005)
        return super().__getitem__(index)


class Epoch(Waiting):
    """Draws that the epoch and the index decide."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        _, index = super().__getitem__(index)
        return torch.tensor(random.Random(1000 * self.epoch + index).random()), index


@stale(where=r"epoch", plain="equal")
def set_epoch():
    """huggingface/datasets#6673, pytorch/pytorch#97326"""
    return Epoch()


class Curriculum(Waiting):
    def __init__(self):
        self.difficulty = 0.1

    def harder(self, difficulty):
        self.difficulty = difficulty

    def __getitem__(self, index):
        return self.difficulty * super().__getitem__(index)[0], index


@stale(where=r"difficulty", plain="equal")
def curriculum():
    """The same by another name: a method sets what items read."""
    return Curriculum()


class Resize:
    def __init__(self):
        self.size = 16

    def set_size(self, size):
        self.size = size

    def __call__(self, value):
        return torch.full((self.size, self.size), float(value))


class Progressive(Waiting):
    def __init__(self):
        self.transform = Resize()

    def __getitem__(self, index):
        return self.transform(super().__getitem__(index)[1]), index


@stale(where=r"transform\.size|set_size", plain="equal")
def progressive_resizing():
    """A transform that the training loop sets larger. Kind: progressive resizing, Megvii YOLOX's random sizes"""
    return Progressive()


class Modes(Waiting):
    def __init__(self):
        self.offset = 0.0

    def train(self):
        self.offset = 0.0

    def val(self):
        self.offset = 1000.0

    def __getitem__(self, index):
        return self.offset + super().__getitem__(index)[0], index


@stale(where=r"offset|val|train", plain="equal")
def mode_switch():
    """One data set that train() and val() switch. pytorch/pytorch#12536"""
    return Modes()


class Announces:
    """A sampler that tells the data set of a new epoch, which its workers do not hear."""

    def __init__(self, dataset):
        self.dataset, self.epoch = dataset, 0

    def __iter__(self):
        self.epoch += 1
        self.dataset.set_epoch(self.epoch)
        return iter(range(len(self.dataset)))

    def __len__(self):
        return len(self.dataset)


@stale(where=r"epoch", plain="equal random differs")
def epoch_told_by_sampler():
    """The sampler sets the epoch when workers have started. NVIDIA-NeMo/Megatron-Bridge#5762"""
    rows = Epoch()
    return DataLoader(rows, 16, sampler=Announces(rows))


class Buffer(IterableDataset):
    """A stream that is shuffled by its epoch."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        info = get_worker_info()
        order = random.Random(self.epoch).sample(range(600), 600)
        for number in order[info.id :: info.num_workers] if info else order:
            time.sleep(0.005)
            yield torch.tensor(number)


@stale(where=r"epoch", plain="differs equal")
def set_epoch_of_stream():
    """An IterableDataset that shuffles by set_epoch, as most of them do."""
    return Buffer()


class Mix:
    def __init__(self):
        self.share = 0.0

    def set_share(self, share):
        self.share = share

    def __call__(self, items):
        values, labels = default_collate(items)
        return (1 - self.share) * values + self.share * values.flip(0), labels


@stale(where=r"collate_fn|share", plain="equal")
def collate_with_state():
    """A collate function whose share of mixing the loop raises; it runs in the workers."""
    return Waiting(), {"collate_fn": Mix()}


class Shared(Rows):
    """The repaired one: the number stands in shared memory."""

    def __init__(self):
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __getitem__(self, index):
        return torch.tensor(random.Random(1000 * int(self.epoch) + index).random()), index


@healthy()
def epoch_in_shared_tensor():
    """set_epoch through a shared tensor reaches persistent workers."""
    return Shared()


class Value(Rows):
    def __init__(self, method):
        self.epoch = multiprocessing.get_context(method).Value("i", 0)

    def set_epoch(self, epoch):
        self.epoch.value = epoch

    def __getitem__(self, index):
        return torch.tensor(random.Random(1000 * self.epoch.value + index).random()), index


@fault(
    "ds.unpicklable",
    where=r"dataset\.epoch",
    fix="get_context|context",
    methods=SENT,
    most_workers=0,
    plain="raises",
)
@healthy(methods=FORK, allowed=("ds.unpicklable",))
def epoch_in_value():
    """multiprocessing.Value of the fork context: right under fork, an error elsewhere. pytorch/pytorch#97326"""
    return Value("fork")


@healthy(methods=SENT)
def epoch_in_spawn_value():
    """multiprocessing.Value of the spawn context."""
    return Value("spawn")


@healthy()
def epoch_in_sampler():
    """set_epoch of a sampler: it stays in the main process, workers need not know."""
    rows = Rows()
    return DataLoader(rows, 16, sampler=DistributedSampler(rows, num_replicas=2, rank=0))


class Names(Rows):
    """A setter that is called while building only."""

    def __init__(self):
        self.scale = 1.0
        self.set_scale(2.0)

    def set_scale(self, scale):
        self.scale = scale

    def __getitem__(self, index):
        return torch.full((16,), self.scale * index), index


@healthy(allowed=("ds.epoch", "ds.state"))
def setter_while_building():
    """A setter that __init__ itself calls; nobody need call it again, so at most a remark."""
    return Names()
