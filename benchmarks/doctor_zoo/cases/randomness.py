"""Randomness that repeats: in every worker, in every epoch, or in both; and randomness that is right."""

from __future__ import annotations

import functools
import os
import random
import time

import numpy as np
import torch
from declare import FORK, SENT, fault, healthy
from inputs import Rows
from torch.utils.data import DataLoader, get_worker_info

SEED = "initial_seed|get_worker_info|manual_seed|per item|the index"
repeats = functools.partial(fault, "ds.rng", fix=SEED, is_silent=True, plain="twins")


class Noise(Rows):
    """An item is noise of the global numpy generator, as in most augmentations."""

    def __getitem__(self, index):
        return torch.from_numpy(np.random.rand(16)), index


def constant_seed(worker_id):
    np.random.seed(42)


@repeats(where="worker_init_fn|constant_seed")
def init_fn_constant_seed():
    """worker_init_fn gives every worker one seed. pytorch/pytorch#5059, facebookresearch/fairseq#1383"""
    return Noise(), {"worker_init_fn": constant_seed}


def seed_of_id(worker_id):
    np.random.seed(worker_id)


@repeats(where="worker_init_fn|seed_of_id")
def init_fn_seed_of_id():
    """Workers differ, but every epoch draws what the first drew: the well-known half repair of #5059."""
    return Noise(), {"worker_init_fn": seed_of_id}


def seed_less_id(worker_id):
    np.random.seed((torch.initial_seed() - worker_id) % 2**32)


@repeats(where="worker_init_fn|seed_less_id", plain="random twins")
def init_fn_seed_without_id():
    """Every epoch differs, but all workers draw alike: the worker's number is taken off again."""
    return Noise(), {"worker_init_fn": seed_less_id}


class Shuffler:
    """A generator of one's own: the state is a number."""

    def __init__(self):
        self.state = 12345

    def __call__(self):
        self.state = (1103515245 * self.state + 12345) % 2**31
        return self.state / 2**31


class OwnState(Rows):
    def __init__(self):
        self.transform = Shuffler()

    def __getitem__(self, index):
        return torch.tensor([self.transform() for _ in range(4)]), index


@repeats("ds.state", "worker.consistency", where=r"dataset\.transform\.state")
def own_generator_state():
    """wolny/pytorch-3dunet#32"""
    return OwnState()


class Clock(Rows):
    def __getitem__(self, index):
        random.seed(int(time.time()))
        return torch.tensor([random.random() for _ in range(4)]), index


@fault(
    "ds.rng",
    "worker.consistency",
    where="clock|time",
    fix=SEED,
    is_silent=True,
    plain="random twins equal differs",
)
def clock_seed():
    """Seeded from the clock: all items of one second are drawn alike, in all workers."""
    return Clock()


class Member(Rows):
    def __init__(self, generator):
        self.rng = generator

    def __getitem__(self, index):
        return torch.tensor([float(self.rng.random()) for _ in range(4)]), index


@repeats(where=r"dataset\.rng")
def numpy_generator_member():
    """np.random.default_rng in __init__: the repair of #5059 that the NumPy documentation suggests."""
    return Member(np.random.default_rng(0))


@repeats(where=r"dataset\.rng")
def random_member():
    """random.Random in __init__"""
    return Member(random.Random(0))


class Nested(Rows):
    def __init__(self):
        self.transforms = {"train": [abs, Member(np.random.RandomState(0))]}

    def __getitem__(self, index):
        return self.transforms["train"][1][index]


@repeats(where=r"dataset\.transforms\['train'\]\[1\]\.rng")
def random_state_nested():
    """A RandomState in the second transform of a dict of lists."""
    return Nested()


class Torch(Rows):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __getitem__(self, index):
        return torch.rand(4, generator=self.generator), index


@fault("ds.temp_tensor", where=r"dataset\.generator", fix=SEED, methods=SENT, most_workers=0, plain="raises")
@repeats(where=r"dataset\.generator", methods=FORK)
def torch_generator_member():
    """A torch.Generator: repeats under fork, cannot be sent otherwise."""
    return Torch()


class ClassWide(Rows):
    rng = random.Random(3)

    def __getitem__(self, index):
        return torch.tensor([self.rng.random() for _ in range(4)]), index


@repeats(where=r"(ClassWide|dataset)\.rng")
def class_generator():
    """A generator as an attribute of the class."""
    return ClassWide()


def draw_from(rng):
    def draw():
        return rng.random(4)

    return draw


class Closure(Rows):
    def __init__(self):
        self.draw = draw_from(np.random.default_rng(0))

    def __getitem__(self, index):
        return torch.from_numpy(self.draw()), index


@repeats(where=r"dataset\.draw|rng", methods=FORK)
def closure_generator():
    """A generator as a variable of a closure."""
    return Closure()


class Iterator(Rows):
    """Pre-drawn crops taken in turn: every worker starts at the first."""

    def __init__(self):
        self.crops, self.next = np.random.default_rng(0).random((1000, 4)), 0

    def __getitem__(self, index):
        self.next = (self.next + 1) % 1000
        return torch.from_numpy(self.crops[self.next]), index


@repeats("ds.state", "worker.consistency", where=r"dataset\.next", fix=SEED + "|index")
def drawn_in_turn():
    """A table of random numbers with a position of one's own."""
    return Iterator()


@healthy(plain="random")
def global_generators():
    """The global generators are seeded for each worker by torch itself."""
    return Noise()


def seed_all(worker_id):
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


@healthy(plain="random")
def init_fn_of_documentation():
    """The worker_init_fn that PyTorch's page on reproducibility shows."""
    return Noise(), {"worker_init_fn": seed_all}


@healthy(plain="random")
def init_fn_of_documentation_with_generator():
    """The same as a DataLoader with a seeded generator."""
    return DataLoader(Noise(), 16, worker_init_fn=seed_all, generator=torch.Generator().manual_seed(0))


class FromIndex(Rows):
    def __getitem__(self, index):
        return torch.from_numpy(np.random.default_rng(index).random(16)), index


@healthy()
def seeded_by_index():
    """A generator made for each item from its index: the same in every process."""
    return FromIndex()


class LazyGenerator(Rows):
    rng = None

    def __getitem__(self, index):
        if self.rng is None:
            info = get_worker_info()
            self.rng = np.random.default_rng(info.seed if info else None)
        return torch.from_numpy(self.rng.random(4)), index


@healthy(plain="random")
def generator_at_first_use():
    """Made in the worker from its own seed."""
    return LazyGenerator()


class Entropy(Rows):
    def __getitem__(self, index):
        return torch.frombuffer(bytearray(os.urandom(16)), dtype=torch.uint8), index


@healthy(plain="random")
def system_entropy():
    """os.urandom: random by itself, never wrong."""
    return Entropy()


class RandomPartner(Rows):
    """MixUp within the data set: a random second item."""

    def __getitem__(self, index):
        other = random.randrange(len(self))
        share = float(np.random.beta(0.4, 0.4))
        return torch.full((16,), share * index + (1 - share) * other), index


@healthy(plain="random")
def mixup_partner():
    """A random partner from the same set."""
    return RandomPartner()


class Skips(Rows):
    """Draws another number of times for some items: streams run apart, which is right."""

    def __getitem__(self, index):
        while random.random() < 0.3:
            pass
        return torch.tensor(1 if torch.rand(()) < 0.5 else -1) * torch.full((16,), float(index)), index


@healthy(plain="random")
def rejection_sampling():
    """Rejection sampling and a coin flip."""
    return Skips()
