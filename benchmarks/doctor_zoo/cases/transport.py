"""What cannot travel to a worker or back, or arrives as something else."""

from __future__ import annotations

import collections
import functools
import importlib.util
import pathlib
import sys
import tempfile
import threading
import weakref

import numpy as np
import torch
from declare import FORK, SENT, fault, healthy
from inputs import Rows, records

META = {"DSRFACE_DOCTOR_META_AS_CUDA": "1"}
unsent = functools.partial(fault, "ds.unpicklable", methods=SENT, most_workers=0, plain="raises")
returned = functools.partial(fault, "ds.output", "worker.*", "ds.items", most_workers=0)
changed = functools.partial(
    fault,
    "worker.consistency",
    "ds.output",
    fix="dict|tuple|plain|entry of its own",
    most_workers=0,
    is_silent=True,
    plain="differs",
)


def as_list(items):
    return items


class Volume(np.ndarray):
    """An array with a spacing."""

    def __array_finalize__(self, base):
        self.spacing = getattr(base, "spacing", None)


class Volumes(Rows):
    length = 200

    def __getitem__(self, index):
        volume = np.full((8, 8), index, np.float32).view(Volume)
        volume.spacing = (0.5, 0.5, float(index))
        return volume


@changed(where="spacing|Volume|attribute")
def array_subclass():
    """An attribute of an ndarray subclass is lost on the way. pytorch/pytorch#17716, Project-MONAI/MONAI#4708"""
    return Volumes(), {"collate_fn": as_list}


class Tagged(Rows):
    length = 200

    def __getitem__(self, index):
        value = torch.full((8,), float(index))
        value.affine = [index, 0.5]
        return value


@changed(where="affine|attribute")
def tensor_attribute():
    """An attribute of a tensor is lost on the way."""
    return Tagged(), {"collate_fn": as_list}


class Failing(Rows):
    def __getitem__(self, index):
        class Corrupt(Exception):
            pass

        if index == 31:
            raise Corrupt(f"record {index} is corrupt")
        return super().__getitem__(index)


@fault("ds.items", "worker.*", where=r"record 31|dataset\[31\]", fix="sample|item|repair", plain="broken")
def unpicklable_exception():
    """An item raises an exception of a local class: the plain loader hangs in place of telling."""
    failing = Failing()
    failing.length = 32
    return failing


class TwoWords(Exception):
    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")


class FailsTwoWords(Rows):
    length = 32

    def __getitem__(self, index):
        if index == 31:
            raise TwoWords("b.png", "no header")
        return super().__getitem__(index)


@fault("ds.items", where=r"no header", fix="sample|item|repair", plain="broken")
def exception_of_two_arguments():
    """An exception that cannot be built from one text. pytorch/pytorch#13541 is of this kind."""
    return FailsTwoWords()


@fault(
    "ds.unpicklable",
    "worker.*",
    methods=SENT,
    where="x_plugin|dynamic|Plugin",
    fix="import|module|package",
    most_workers=0,
    plain="raises",
)
def dynamic_module():
    """The class comes from a file that was loaded by its path."""
    path = pathlib.Path(tempfile.mkdtemp(), "x_plugin.py")
    path.write_text("from inputs import Rows\nclass Plugin(Rows):\n    pass\n")
    spec = importlib.util.spec_from_file_location("x_plugin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["x_plugin"] = module
    spec.loader.exec_module(module)
    return module.Plugin()


class Wrapper(Rows):
    """Hands on what it does not know, before it knows anything."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


@fault(
    "ds.unpicklable",
    "worker.spawn",
    "worker.forkserver",
    methods=SENT,
    where="RecursionError|__getattr__",
    fix="__getattr__",
    most_workers=0,
    plain="raises",
)
def getattr_recursion():
    """torchmd/torchmd-net#269, pytorch/pytorch#4099"""
    return Wrapper(Rows())


class ProperWrapper(Wrapper):
    def __getattr__(self, name):
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)


@healthy()
def getattr_wrapper():
    """The repaired one."""
    return ProperWrapper(Rows())


class Holder(Rows):
    """Carries something that no item needs."""

    def __init__(self, member):
        self.transform = member


class Steps:
    def __init__(self, *steps):
        self.steps = steps


@unsent(where=r"dataset\.transform\.steps\[1\]", fix="module level|def|partial")
def lambda_in_transform():
    """A lambda in the second step of a transform."""
    return Holder(Steps(abs, lambda value: value))


@unsent(where=r"dataset\.transform", fix="module level")
def local_class():
    """An object of a class that stands inside a function."""

    class Local:
        pass

    return Holder(Local())


@unsent(where=r"dataset\.transform", fix="list|__iter__|first use|in each worker|inside")
def generator_member():
    """A generator expression as a member."""
    return Holder(n for n in range(1000))


@unsent(where=r"dataset\.transform\['lock'\]", fix="__getstate__|__setstate__")
def lock_member():
    """A lock in a dict."""
    return Holder({"lock": threading.Lock()})


@unsent(where=r"dataset\.transform", fix="__getstate__|strong|reference|itself")
def weak_reference():
    """A weak reference to a parent object."""
    rows = Holder(None)
    rows.transform = weakref.ref(rows)
    return rows


@unsent(where=r"dataset\.transform", fix="import|name|__getstate__|first use|inside")
def module_member():
    """A module as a member: self.np = numpy."""
    return Holder(np)


@fault("ds.non_leaf", methods=SENT, where=r"dataset\.transform", fix="detach", most_workers=0, plain="raises")
def non_leaf_tensor():
    """A tensor with a history of gradients."""
    return Holder(torch.ones(3, requires_grad=True) * 2)


class Clones(Rows):
    def __init__(self):
        self.mean = torch.ones(1000)

    def __getstate__(self):
        return {"mean": self.mean.clone()}


@fault(
    "ds.temp_tensor", methods=SENT, where=r"dataset\.mean", fix="numpy|keep", most_workers=0, plain="raises"
)
def tensor_made_while_pickling():
    """__getstate__ returns a fresh tensor. pytorch/pytorch#31571, #146828"""
    return Clones()


def scripted():
    return torch.jit.script(torch.nn.Linear(2, 2))


@unsent(where=r"dataset\.transform", fix="__getstate__|state_dict|first use|each worker|worker")
def scripted_module():
    """A torch.jit.script module."""
    return Holder(scripted())


class LambdaItems(Rows):
    def __getitem__(self, index):
        return {"image": torch.zeros(3), "later": lambda: index}


def dict_of_lists(items):
    return {key: [item[key] for item in items] for key in items[0]}


@returned(where=r"later|lambda", fix="plain|containers|tensor", plain="hangs")
def lambda_in_batch():
    """A batch that cannot be sent back: the plain loader hangs. pytorch/pytorch#142884"""
    return LambdaItems(), {"collate_fn": dict_of_lists}


Point = collections.namedtuple("Pair", "x y")  # the name differs: pickle cannot find it


class Points(Rows):
    def __getitem__(self, index):
        return Point(torch.tensor(index), torch.tensor(2 * index))


@returned(where=r"Pair|namedtuple|batch", fix="name|module level|tuple|dict|plain", plain="hangs")
def misnamed_namedtuple():
    """A namedtuple under another name than its own. kind: pytorch/pytorch#142884"""
    return Points()


class WithGradient(Rows):
    def __init__(self):
        self.scale = torch.nn.Parameter(torch.ones(3))

    def __getitem__(self, index):
        return self.scale * index


@returned(where=r"grad|batch", fix="no_grad|detach", plain="raises")
def gradient_in_batch():
    """An item with a history of gradients."""
    return WithGradient()


@fault(
    "ds.cuda_member",
    methods=FORK,
    where=r"dataset\.transform",
    fix="loop|precompute|batch|CPU",
    most_workers=0,
    plain="equal",
    environment=META,
)
@fault(
    "ds.cuda_member",
    methods=SENT,
    where=r"dataset\.transform",
    fix="loop|precompute|batch|CPU",
    plain="equal",
    environment=META,
)
def cuda_network_member():
    """A network on the GPU as a member; `meta` stands in for CUDA."""
    return Holder(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, device="meta")))


@fault(
    "ds.cuda_member",
    methods=FORK,
    where=r"dataset\.transform",
    fix="loop|batch|CPU",
    most_workers=0,
    plain="equal",
    environment=META,
)
def cuda_tensor_member():
    """A mean on the GPU as a member; `meta` stands in for CUDA."""
    return Holder({"mean": torch.zeros(3, device="meta")})


class CudaItems(Rows):
    def __getitem__(self, index):
        return torch.zeros(3, device="meta")


@returned(
    where=r"cuda",
    fix="loop|CPU|pin_memory",
    plain="broken",
    methods=FORK,
    environment=META,
)
def cuda_item():
    """Items on the GPU; `meta` stands in for CUDA."""
    return CudaItems()


class Names(Rows):
    def __init__(self):
        self.names = [f"person_{n:08d}/image.png" for n in range(40_000)]

    def __getitem__(self, index):
        return torch.tensor(len(self.names[index])), index


@healthy(methods=FORK)
@fault("ds.pickle_size", methods=SENT, where=r"dataset\.names", fix="array|tensor", plain="equal")
def long_list_of_names():
    """A list that is pickled for every worker. pytorch/pytorch#87802"""
    return Names()


class Pairs(Rows):
    def __init__(self):
        self.pairs = [(n, -n) for n in range(1000, 800_000)]

    def __getitem__(self, index):
        return torch.tensor(self.pairs[index]), index


@fault("ds.refcount_growth", methods=FORK, where=r"dataset\.pairs", fix="array", plain="equal")
def many_small_objects():
    """Reading a list copies its pages: memory grows by worker. pytorch/pytorch#13246"""
    return Pairs()


class Mapped(Rows):
    def __init__(self):
        self.records = np.memmap(records(), dtype=np.int32, mode="r", shape=(600, 1024))

    def __getitem__(self, index):
        return torch.from_numpy(np.array(self.records[index])), index


@healthy(methods=FORK)
@fault(
    "ds.pickle_size", methods=SENT, where=r"dataset\.records", fix="reopen|open|__setstate__", plain="equal"
)
def memmap_by_value():
    """A memory map is pickled by value: a copy of the whole file for each worker. numpy/numpy#26049 is of this kind."""
    return Mapped()


class Tokens(Rows):
    """Items of every plain type there is."""

    def __getitem__(self, index):
        return {
            "text": f"word {index}",
            "ids": [index, index + 1],
            "score": 0.5 * index,
            "flag": index % 2 == 0,
            "array": np.arange(4) + index,
            "pair": (index, "b"),
            "nested": {"mask": torch.ones(2, dtype=torch.bool)},
        }


@healthy()
def items_of_all_types():
    """dict, list, tuple, text, numbers, arrays and tensors."""
    return Tokens()


Size = collections.namedtuple("Size", "width height")


class Sizes(Rows):
    def __getitem__(self, index):
        return Size(index, torch.tensor(2.0 * index))


@healthy()
def namedtuple_items():
    """A namedtuple at module level."""
    return Sizes()


class Sparse(Rows):
    def __getitem__(self, index):
        return torch.sparse_coo_tensor([[0], [index % 5]], [float(index + 1)], (2, 5))


@healthy(methods=FORK)
def sparse_items():
    """Sparse tensors through a collate function of one's own."""
    return Sparse(), {"collate_fn": as_list}


class Masked(Rows):
    def __getitem__(self, index):
        return np.ma.masked_less(np.arange(6) + index, index + 2)


@healthy()
def masked_arrays():
    """Masked arrays travel whole."""
    return Masked(), {"collate_fn": as_list}


def bucketed(items):
    longest = max(len(item) for item in items)
    return torch.stack([torch.nn.functional.pad(item, (0, longest - len(item))) for item in items])


class Ragged(Rows):
    def __getitem__(self, index):
        return torch.arange(1 + index % 37)


@healthy()
def padded_by_collate():
    """Items of all lengths, padded by a collate function of one's own."""
    return Ragged(), {"collate_fn": bucketed}


@fault("ds.output", where="batch|stack|size|shape", fix="collate|pad|same", plain="broken")
def ragged_without_collate():
    """The same without one: no batch can be made."""
    return Ragged()
