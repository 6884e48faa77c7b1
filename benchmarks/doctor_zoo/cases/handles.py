"""Open files, archives and connections that forked workers share: one offset for all."""

from __future__ import annotations

import functools
import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import torch
from declare import FORK, SENT, fault, healthy
from inputs import RECORD_BYTES, RECORDS, Rows, as_record, pause, read_record, record_array, records, written
from torch.utils.data import IterableDataset

LAZY = "getpid|first use|in each worker|in every worker"
SHARED = ("ds.open_handles",)
shared = functools.partial(fault, *SHARED, methods=FORK, fix=LAZY, most_workers=0, is_silent=True)


class MemberFile(Rows):
    def __init__(self):
        self.file = open(records(), "rb", buffering=0)

    def __getitem__(self, index):
        return read_record(self.file, index), index


@fault(
    "ds.unpicklable",
    where=r"dataset\.file",
    fix=LAZY + "|__getstate__",
    methods=SENT,
    most_workers=0,
    plain="raises",
)
@shared(where=r"dataset\.file", plain="differs equal raises broken")
def member_file():
    """A file opened in __init__. pytorch/pytorch#11887"""
    return MemberFile()


class Decoded(MemberFile):
    def __getitem__(self, index):
        item = read_record(self.file, index).float()
        for _ in range(200):
            item = (item * item + 1e-3).sqrt()
        return item, index


@shared(where=r"dataset\.file", plain="differs equal raises broken")
def member_file_rare():
    """The same with some milliseconds of decoding after a quick read, so that the race is rare."""
    return Decoded()


class Peeked(Rows):
    def __init__(self):
        self.path, self.file = records(), None
        self.shape = self[0][0].shape  # opens the file after all

    def __getitem__(self, index):
        if self.file is None:
            self.file = open(self.path, "rb", buffering=0)
        return read_record(self.file, index), index


@shared(where=r"dataset\.file", plain="differs equal raises broken")
def lazy_but_peeked():
    """Opened at first use, but __init__ reads item 0 for its shape. mehta-lab/VisCy#417"""
    return Peeked()


INDEX_FILE = None


class GlobalFile(Rows):
    def __init__(self):
        self.shape = self[0][0].shape

    def __getitem__(self, index):
        global INDEX_FILE
        if INDEX_FILE is None:
            INDEX_FILE = open(records(), "rb", buffering=0)
        return read_record(INDEX_FILE, index), index


@healthy(methods=SENT)
@shared(where="INDEX_FILE", plain="differs equal raises broken")
def global_file():
    """A module variable holds the open file; apache/mxnet#10628 is of this kind."""
    return GlobalFile()


class ClassFile(Rows):
    opened = None

    def __init__(self):
        type(self).opened = open(records(), "rb", buffering=0)

    def __getitem__(self, index):
        return read_record(self.opened, index), index


@shared(where=r"ClassFile\.opened|dataset\.opened", plain="differs equal raises broken")
def class_file():
    """An attribute of the class holds the open file."""
    return ClassFile()


@functools.lru_cache(maxsize=8)
def opened(path):
    return open(path, "rb", buffering=0)


class CachedOpener(Rows):
    def __init__(self):
        self.shape = self[0][0].shape

    def __getitem__(self, index):
        return read_record(opened(records()), index), index


@healthy(methods=SENT)
@shared(where="opened|records.bin", plain="differs equal raises broken")
def cached_opener():
    """An opener behind lru_cache, called once before the fork."""
    return CachedOpener()


def reader_of(path):
    file = open(path, "rb", buffering=0)

    def read(index):
        return read_record(file, index)

    return read


class Closure(Rows):
    def __init__(self):
        self.read = reader_of(records())

    def __getitem__(self, index):
        return self.read(index), index


@shared(where=r"dataset\.read|records.bin", plain="differs equal raises broken")
def closure_file():
    """The open file is a variable of a closure."""
    return Closure()


class Descriptor(Rows):
    def __init__(self):
        self.descriptor = os.open(records(), os.O_RDONLY)

    def __getitem__(self, index):
        os.lseek(self.descriptor, index * RECORD_BYTES, os.SEEK_SET)
        pause()
        return as_record(os.read(self.descriptor, RECORD_BYTES)), index


@shared(where=r"dataset\.descriptor|records.bin", plain="differs equal raises broken")
def bare_descriptor():
    """A number from os.open."""
    return Descriptor()


class Duplicate(Rows):
    """A repair that is none: a duplicate has the same offset."""

    def __init__(self):
        self.descriptor, self.own = os.open(records(), os.O_RDONLY), {}

    def __getitem__(self, index):
        own = self.own.setdefault(os.getpid(), None) or os.dup(self.descriptor)
        self.own[os.getpid()] = own
        os.lseek(own, index * RECORD_BYTES, os.SEEK_SET)
        pause()
        return as_record(os.read(own, RECORD_BYTES)), index


@shared(where=r"dataset\.descriptor|records.bin", plain="differs equal raises broken")
def duplicated_descriptor():
    """Keyed by the process, but made by os.dup, which shares the offset."""
    return Duplicate()


class Text(Rows):
    def __init__(self):
        def write(path):
            path.write_text("".join(f"{n:07d}\n" * 64 for n in range(RECORDS)))

        self.file = open(written("lines.txt", write), encoding="ascii", newline="\n")

    def __getitem__(self, index):
        self.file.seek(index * 512)
        pause()
        return torch.tensor([int(self.file.readline()) for _ in range(8)]), index


@shared(where=r"dataset\.file", plain="differs equal raises broken")
def text_offsets():
    """A text file with a table of offsets, as for JSON lines."""
    return Text()


class Gzip(Rows):
    length = 200

    def __init__(self):
        path = written("records.gz", lambda path: path.write_bytes(gzip.compress(records().read_bytes(), 1)))
        self.file = gzip.open(path)

    def __getitem__(self, index):
        return read_record(self.file, index), index


@shared(where=r"dataset\.file", plain="differs equal raises broken", needs=("zlib",))
def gzip_member():
    """A gzip stream opened in __init__."""
    return Gzip()


class Zip(Rows):
    def __init__(self):
        def write(path):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for n, record in enumerate(record_array()):
                    archive.writestr(f"{n}.raw", record.tobytes())

        self.archive = zipfile.ZipFile(written("records.zip", write))

    def __getitem__(self, index):
        return as_record(self.archive.read(f"{index}.raw")), index


@shared(where=r"dataset\.archive", plain="differs equal raises broken")
def zip_member():
    """zarr-developers/zarr-python#1218"""
    return Zip()


class Tar(Rows):
    def __init__(self):
        def write(path):
            with tarfile.open(path, "w") as archive:
                for n, record in enumerate(record_array()):
                    info = tarfile.TarInfo(f"{n}.raw")
                    info.size = record.nbytes
                    archive.addfile(info, io.BytesIO(record.tobytes()))

        self.archive = tarfile.open(written("records.tar", write))
        self.members = self.archive.getmembers()

    def __getitem__(self, index):
        return as_record(self.archive.extractfile(self.members[index]).read()), index


@shared(where=r"dataset\.archive", plain="differs equal raises broken")
def tar_member():
    """A tar archive opened in __init__."""
    return Tar()


class Npz(Rows):
    length = 120

    def __init__(self):
        def write(path):
            np.savez(path, **{f"r{n}": record for n, record in enumerate(record_array()[:120])})
            os.replace(f"{path}.npz", path)

        self.arrays = np.load(written("records_npz", write))

    def __getitem__(self, index):
        return torch.from_numpy(self.arrays[f"r{index}"]), index


@shared(where=r"dataset\.arrays", plain="differs equal raises broken")
def npz_member():
    """numpy/numpy#18124"""
    return Npz()


class TiffPages(Rows):
    length = 100

    def __init__(self):
        import tifffile

        def write(path):
            tifffile.imwrite(path, np.tile(np.arange(100, dtype=np.uint16)[:, None, None], (1, 64, 64)))

        self.tiff = tifffile.TiffFile(written("pages.tif", write))

    def __getitem__(self, index):
        return torch.from_numpy(self.tiff.asarray(key=index).astype(np.int32)), index


@shared(where=r"dataset\.tiff", plain="differs equal raises broken", needs=("tifffile",))
def tiff_pages():
    """One file of many pages."""
    return TiffPages()


class PillowPages(Rows):
    length = 100

    def __init__(self):
        from PIL import Image

        def write(path):
            pages = [Image.new("L", (64, 64), n) for n in range(100)]
            pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])

        self.pages = Image.open(written("pages.tiff", write))

    def __getitem__(self, index):
        self.pages.seek(index)
        return torch.from_numpy(np.array(self.pages, dtype=np.int32)), index


@shared(where=r"dataset\.pages", plain="differs equal raises broken")
def pillow_pages():
    """The same by Pillow's seek(): the library's own state."""
    return PillowPages()


class H5OfFileObject(Rows):
    def __init__(self):
        import h5py

        def write(path):
            with h5py.File(path, "w") as file:
                file.create_dataset("records", data=record_array(), chunks=(1, 1024))

        self.source = open(written("records.h5", write), "rb", buffering=0)
        self.h5 = h5py.File(self.source, "r")

    def __getitem__(self, index):
        return torch.from_numpy(self.h5["records"][index]), index


@shared(where=r"dataset\.(source|h5)", plain="differs equal raises broken", needs=("h5py",))
def h5_of_file_object():
    """h5py over a Python file: reads through its one offset, unlike h5py over a path."""
    return H5OfFileObject()


class FsspecFile(Rows):
    def __init__(self):
        import fsspec

        self.file = fsspec.open(str(records()), "rb").open()

    def __getitem__(self, index):
        return read_record(self.file, index), index


@shared(where=r"dataset\.file", plain="differs equal raises broken", needs=("fsspec",))
def fsspec_file():
    """A file of fsspec, opened in __init__."""
    return FsspecFile()


class SharedStream(IterableDataset):
    def __init__(self):
        text = "".join(f"{n:07d}\n" for n in range(20000))
        self.lines = open(written("stream.txt", lambda path: path.write_text(text)))

    def __iter__(self):
        self.lines.seek(0)
        for line in self.lines:
            yield torch.tensor(int(line or 0))


@fault(
    "ds.open_handles",
    "ds.iterable_shard",
    where=r"dataset\.lines|every worker reads",
    fix=LAZY + "|get_worker_info",
    methods=FORK,
    most_workers=1,
    is_silent=True,
    plain="differs raises",
)
def stream_of_open_file():
    """An IterableDataset over a file that is open since __init__: lines are lost and torn."""
    return SharedStream()
