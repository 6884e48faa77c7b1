"""Files and databases held in ways that are right."""

from __future__ import annotations

import mmap
import multiprocessing
import os

import numpy as np
import torch
from declare import FORK, SENT, fault, healthy
from inputs import RECORD_BYTES, RECORDS, Rows, as_record, read_record, record_array, records, written


class Lazy(Rows):
    file = None

    def __getitem__(self, index):
        if self.file is None:
            self.file = open(records(), "rb")
        return read_record(self.file, index), index


@healthy()
def opened_at_first_use():
    """Opened at the first item, in the worker."""
    return Lazy()


class ByPid(Rows):
    def __init__(self):
        self.files = {}
        self.shape = self[0][0].shape

    def __getitem__(self, index):
        if os.getpid() not in self.files:
            self.files[os.getpid()] = open(records(), "rb")
        return read_record(self.files[os.getpid()], index), index

    def __getstate__(self):
        return {"files": {}}


@healthy()
def keyed_by_process():
    """A file for each process; the parent's is never used by a worker."""
    return ByPid()


class Reopened(Rows):
    def __init__(self):
        self.descriptor = os.open(records(), os.O_RDONLY)

    def __getitem__(self, index):
        with open(f"/proc/self/fd/{self.descriptor}", "rb") as file:
            return read_record(file, index), index


@healthy(methods=FORK)
def reopened_by_proc():
    """Opened again through /proc/self/fd: an offset of its own."""
    return Reopened()


class Pread(Rows):
    def __init__(self):
        self.descriptor = os.open(records(), os.O_RDONLY)

    def __getitem__(self, index):
        return as_record(os.pread(self.descriptor, RECORD_BYTES, index * RECORD_BYTES)), index


@healthy(methods=FORK)
def pread():
    """os.pread has no offset to share."""
    return Pread()


class FilePread(Rows):
    def __init__(self):
        self.file = open(records(), "rb")

    def __getitem__(self, index):
        return as_record(os.pread(self.file.fileno(), RECORD_BYTES, index * RECORD_BYTES)), index


@healthy(methods=FORK, allowed=("ds.unpicklable",))
def pread_of_file():
    """os.pread on a file object's descriptor; only the other start methods cannot send the object."""
    return FilePread()


class Slices(Rows):
    def __init__(self):
        self.file = open(records(), "rb")
        self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, index):
        return as_record(self.map[index * RECORD_BYTES : (index + 1) * RECORD_BYTES]), index


@healthy(methods=FORK, allowed=("ds.unpicklable",))
def mmap_slices():
    """Slices of a memory map."""
    return Slices()


class Array(Rows):
    def __init__(self):
        def write(path):
            with open(path, "wb") as file:
                np.save(file, record_array())

        self.array = np.load(written("records.npy", write), mmap_mode="r")

    def __getitem__(self, index):
        return torch.from_numpy(self.array[index].copy()), index


@healthy(methods=FORK)
def array_memory_mapped():
    """np.load(mmap_mode="r")"""
    return Array()


class TorchMap(Rows):
    def __init__(self):
        self.rows = torch.from_file(str(records()), shared=True, size=RECORDS * 1024, dtype=torch.int32).view(
            RECORDS, 1024
        )

    def __getitem__(self, index):
        return self.rows[index].clone(), index


@healthy(methods=FORK)
def tensor_memory_mapped():
    """torch.from_file(shared=True), which torch cannot send to a spawned worker."""
    return TorchMap()


def h5_path():
    import h5py

    def write(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("records", data=record_array(), chunks=(1, 1024), compression="gzip")

    return written("chunks.h5", write)


class H5(Rows):
    def __init__(self):
        import h5py

        self.h5 = h5py.File(h5_path(), "r")

    def __getitem__(self, index):
        return torch.from_numpy(self.h5["records"][index]), index


@fault(
    "ds.unpicklable",
    where=r"dataset\.h5",
    fix="first use|getpid|__getstate__",
    methods=SENT,
    most_workers=0,
    plain="raises",
    needs=("h5py",),
)
@healthy(methods=FORK, needs=("h5py",), allowed=("ds.open_handles", "ds.unpicklable"))
def h5_in_init():
    """h5py over a path reads by pread: right under fork with today's library. pytorch/pytorch#11929"""
    return H5()


class LazyH5(Rows):
    h5 = None

    def __init__(self):
        self.path = h5_path()

    def __getitem__(self, index):
        import h5py

        if self.h5 is None:
            self.h5 = h5py.File(self.path, "r")
        return torch.from_numpy(self.h5["records"][index]), index


@healthy(needs=("h5py",))
def h5_at_first_use():
    """h5py opened in the worker."""
    return LazyH5()


class LazyZip(Rows):
    archive = None

    def __init__(self):
        import zipfile

        def write(path):
            with zipfile.ZipFile(path, "w") as archive:
                for n, record in enumerate(record_array()):
                    archive.writestr(f"{n}.raw", record.tobytes())

        self.path = written("stored.zip", write)

    def __getitem__(self, index):
        import zipfile

        if self.archive is None:
            self.archive = zipfile.ZipFile(self.path)
        return as_record(self.archive.read(f"{index}.raw")), index


@healthy()
def zip_at_first_use():
    """A zip archive opened in the worker."""
    return LazyZip()


def lmdb_path():
    import lmdb

    def write(path):
        with lmdb.open(str(path), map_size=1 << 26) as base, base.begin(write=True) as change:
            for n, record in enumerate(record_array()):
                change.put(b"%d" % n, record.tobytes())

    return str(written("records.lmdb", write))


class Lmdb(Rows):
    def __init__(self):
        import lmdb

        self.base = lmdb.open(lmdb_path(), readonly=True, lock=False, readahead=False)

    def __getitem__(self, index):
        with self.base.begin() as read:
            return as_record(read.get(b"%d" % index)), index


@fault(
    "ds.unpicklable",
    where=r"dataset\.base",
    fix="first use|getpid|__getstate__",
    methods=SENT,
    most_workers=0,
    plain="raises",
    needs=("lmdb",),
)
@healthy(methods=FORK, needs=("lmdb",), allowed=("ds.open_handles", "ds.unpicklable"))
def lmdb_in_init():
    """lmdb reads a memory map: right under fork as read here."""
    return Lmdb()


class LazyLmdb(Rows):
    base = None

    def __init__(self):
        self.path = lmdb_path()

    def __getitem__(self, index):
        import lmdb

        if self.base is None:
            self.base = lmdb.open(self.path, readonly=True, lock=False)
        with self.base.begin() as read:
            return as_record(read.get(b"%d" % index)), index


@healthy(needs=("lmdb",))
def lmdb_at_first_use():
    """lmdb opened in the worker."""
    return LazyLmdb()


class Logged(Rows):
    """Holds a log file that items never read."""

    def __init__(self):
        self.log = open(os.devnull, "a")


@healthy(methods=FORK, allowed=("ds.unpicklable", "ds.open_handles"))
def file_that_items_never_read():
    """An open log: no item reads it."""
    return Logged()


class Managed(Rows):
    def __init__(self):
        self.manager = None
        self.cache = multiprocessing.Manager().dict()

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = 2 * index
        return torch.tensor(self.cache[index]), index


def manager():
    import gc

    rows = Managed.__new__(Managed)
    rows.manager = multiprocessing.get_context("spawn").Manager()
    rows.cache = rows.manager.dict()
    gc.collect()
    return rows


@healthy(methods=FORK, allowed=("ds.unpicklable", "mp.threads"))
def manager_dict():
    """A Manager().dict() as a cache for all. szymonmaszke/torchdatasets#17"""
    return manager()


class SharedRows(Rows):
    def __init__(self):
        self.rows = torch.from_numpy(record_array().copy()).share_memory_()

    def __getitem__(self, index):
        return self.rows[index].clone(), index


@healthy()
def shared_tensor():
    """All data in one shared tensor."""
    return SharedRows()
