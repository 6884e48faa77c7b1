"""State that the main program sets and that a worker which starts fresh does not have."""

from __future__ import annotations

import contextvars
import functools
import io
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import shutil
import tempfile
import weakref

import torch
from declare import ALL, FORK, SENT, fault, healthy
from inputs import Rows, image

REPAIR = "worker_init_fn|__init__|__setstate__|member|__getitem__|fork"
lost = functools.partial(
    fault, "worker.consistency", "worker.spawn", "worker.forkserver", methods=SENT, fix=REPAIR, most_workers=0
)

MEAN = 0.0


class Normalised(Rows):
    def __getitem__(self, index):
        return torch.full((16,), index - MEAN), index


@healthy(methods=FORK)
@lost(where="MEAN", is_silent=True, plain="differs")
def late_global():
    """A module variable set by the main program. pytorch/pytorch#48957"""
    global MEAN
    MEAN = 12.5
    return Normalised()


class Scaled(Rows):
    scale = 1.0

    def __getitem__(self, index):
        return torch.full((16,), self.scale * index), index


@healthy(methods=FORK)
@lost(where=r"scale", is_silent=True, plain="differs")
def late_class_attribute():
    """An attribute of the class set by the main program."""
    Scaled.scale = 2.0
    return Scaled()


REGISTRY = {}


class Registered(Rows):
    def __getitem__(self, index):
        return torch.full((16,), REGISTRY["double"](index)), index


def double(value):
    return 2.0 * value


@healthy(methods=FORK)
@lost(where="REGISTRY", plain="raises")
def registry():
    """Transforms registered by the main program: KeyError in a worker."""
    REGISTRY["double"] = double
    return Registered()


def half_a_jpeg():
    buffer = io.BytesIO()
    image(0, 128).save(buffer, "JPEG")
    return buffer.getvalue()[:-400]


class Truncated(Rows):
    def __init__(self):
        self.jpeg = half_a_jpeg()

    def __getitem__(self, index):
        from PIL import Image

        pixels = Image.open(io.BytesIO(self.jpeg)).convert("L")
        return torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8), index


@healthy(methods=FORK)
@lost(where="LOAD_TRUNCATED_IMAGES|flag|state", plain="raises")
def library_flag():
    """A flag of a library: ImageFile.LOAD_TRUNCATED_IMAGES. lucidrains/stylegan2-pytorch#7"""
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = True
    return Truncated()


class Zeros(Rows):
    def __getitem__(self, index):
        return torch.ones(16) / (index + 3), index


@healthy(methods=FORK)
@lost(where="dtype|float64", is_silent=True, plain="differs")
def default_dtype():
    """torch.set_default_dtype(float64): workers deliver float32."""
    torch.set_default_dtype(torch.float64)
    return Zeros()


class Environment(Rows):
    def __getitem__(self, index):
        return torch.full((16,), index * float(os.environ.get("FACES_SCALE", "1"))), index


@healthy(methods=("fork", "spawn"))
@fault(
    "worker.consistency",
    "worker.forkserver",
    methods=("forkserver",),
    where="FACES_SCALE|environ",
    fix=REPAIR + "|before",
    most_workers=0,
    is_silent=True,
    plain="differs",
)
def late_environment():
    """A variable set after the fork server started, which an earlier loader did."""
    multiprocessing.forkserver.ensure_running()
    os.environ["FACES_SCALE"] = "2"
    return Environment()


class Folder(Rows):
    def __init__(self):
        self.root = pathlib.Path("numbers")
        self.root.mkdir(exist_ok=True)
        for n in range(4):
            (self.root / f"{n}.txt").write_text(str(n))

    def __getitem__(self, index):
        return torch.tensor(int((self.root / f"{index % 4}.txt").read_text())), index


@healthy()
def changed_folder():
    """os.chdir in the main program: multiprocessing takes it along, under each method."""
    os.chdir(tempfile.mkdtemp())
    return Folder()


LEVEL = contextvars.ContextVar("level", default=1)


class Context(Rows):
    def __getitem__(self, index):
        return torch.full((16,), float(index * LEVEL.get())), index


@healthy(methods=FORK)
@lost(where="LEVEL|context", is_silent=True, plain="differs")
def context_variable():
    """A context variable set by the main program."""
    LEVEL.set(3)
    return Context()


class Patched(Rows):
    def __getitem__(self, index):
        return torch.full((16,), float(double(index))), index


@healthy(methods=FORK)
@lost(where="double|patched", is_silent=True, plain="differs")
def patched_function():
    """A function of a module replaced by the main program."""
    global double
    double = functools.partial(pow, exp=2)
    return Patched()


class Names(Rows):
    def __init__(self):
        self.names = {"anna", "ben", "carla", "dora", "emil", "fred", "gert", "hans"}

    def __getitem__(self, index):
        labels = {name: n for n, name in enumerate(self.names)}
        return torch.tensor([labels["anna"], labels["emil"], labels["hans"]]), index


@fault(
    "worker.consistency",
    methods=("spawn",),
    where="hash|set|order",
    fix="sorted",
    most_workers=0,
    is_silent=True,
    plain="differs",
)
def order_of_a_set():
    """Labels from the order of a set of strings, which each interpreter hashes anew."""
    return Names()


class Cleans(Rows):
    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        for n in range(16):
            (self.root / f"{n}.txt").write_text(str(n))

    def __getitem__(self, index):
        return torch.tensor(int((self.root / f"{index % 16}.txt").read_text())), index

    def __del__(self):
        shutil.rmtree(self.root, ignore_errors=True)


@fault(
    "ds.*",
    "worker.*",
    methods=SENT,
    where="__del__",
    fix="__del__|pid|main process|__getstate__",
    plain="raises broken",
    most_workers=0,
)
def destructor_that_deletes():
    """__del__ removes the cache: the copy in a worker does so when the worker ends."""
    return Cleans()


class Finalised(Rows):
    def __init__(self):
        self.folder = tempfile.mkdtemp()
        pathlib.Path(self.folder, "x").write_text("7")
        self.end = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __getitem__(self, index):
        return torch.tensor(int(pathlib.Path(self.folder, "x").read_text())), index

    def __getstate__(self):
        return {"folder": self.folder}


@healthy()
def finalizer_of_the_owner():
    """weakref.finalize that stays with the process that made the folder."""
    return Finalised()


class Dropped(Rows):
    """__getstate__ drops a member and nothing brings it back."""

    def __init__(self):
        self.names, self.lookup = list(range(600)), {n: 2 * n for n in range(600)}

    def __getstate__(self):
        return {key: value for key, value in vars(self).items() if key != "lookup"}

    def __getitem__(self, index):
        return torch.tensor(self.lookup[index]), index


@healthy(methods=FORK)
@lost(where="lookup", plain="raises")
def getstate_that_drops():
    """__getstate__ drops a member without __setstate__."""
    return Dropped()


class Restored(Dropped):
    def __setstate__(self, state):
        vars(self).update(state)
        self.lookup = {n: 2 * n for n in self.names}


@healthy(methods=ALL)
def getstate_that_restores():
    """The repaired one."""
    return Restored()


class SetInInit(Rows):
    def __init__(self):
        self.mean = 12.5

    def __getitem__(self, index):
        return torch.full((16,), index - self.mean), index


@healthy()
def setting_as_member():
    """The setting stands in the data set, and travels."""
    return SetInInit()
