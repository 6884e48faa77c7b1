"""Data sets of the libraries people use, as their pages show them; and what is wrong with some by fork."""

from __future__ import annotations

import functools

import numpy as np
import torch
from declare import FORK, SENT, fault, healthy
from inputs import Rows, image, written
from torch.utils.data import DataLoader


@healthy(needs=("datasets",), plain="equal")
def hf_map():
    """datasets.Dataset in torch format"""
    import datasets

    rows = datasets.Dataset.from_dict({"x": [[float(n)] * 16 for n in range(500)], "y": list(range(500))})
    return rows.with_format("torch")


def double(row):
    return {"x": [2 * value for value in row["x"]], "y": row["y"]}


@healthy(needs=("datasets",), plain="equal differs")
def hf_iterable():
    """datasets.IterableDataset of four shards, mapped"""
    import datasets

    rows = datasets.Dataset.from_dict({"x": [[float(n)] * 16 for n in range(500)], "y": list(range(500))})
    return rows.to_iterable_dataset(num_shards=4).map(double).with_format("torch")


def flip(rows):
    rows["x"] = [
        torch.tensor(value).flip(0) if torch.rand(()) < 0.5 else torch.tensor(value) for value in rows["x"]
    ]
    return rows


@healthy(needs=("datasets",), plain="random")
def hf_transform():
    """datasets.Dataset.with_transform with a coin flip"""
    import datasets

    rows = datasets.Dataset.from_dict({"x": [[float(n), 0.0] for n in range(500)]})
    return rows.with_transform(flip)


@healthy(needs=("torch_geometric",))
def geometric():
    """torch_geometric's DataLoader over a list of graphs"""
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader as GraphLoader

    graphs = [
        Data(
            x=torch.full((3 + n % 4, 2), float(n)),
            edge_index=torch.tensor([[0, 1], [1, 2]]),
            y=torch.tensor([n % 2]),
        )
        for n in range(64)  # three tensors each; a worker by forkserver takes some 250
    ]
    return GraphLoader(graphs, batch_size=16)


@healthy(needs=("monai",), plain="random")
def monai_random():
    """monai's Dataset with RandFlipd and RandGaussianNoised, which hold a RandomState each"""
    from monai.data import DataLoader as MonaiLoader
    from monai.data import Dataset as MonaiSet
    from monai.transforms import Compose, RandFlipd, RandGaussianNoised

    files = [{"image": np.full((1, 16, 16), n, np.float32), "label": n % 2} for n in range(100)]
    steps = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=0.5)])
    return MonaiLoader(MonaiSet(files, steps), batch_size=8)


@healthy(needs=("monai",))
def monai_cached():
    """monai's CacheDataset"""
    from monai.data import CacheDataset
    from monai.transforms import Compose, ScaleIntensityd

    files = [{"image": np.random.default_rng(n).random((1, 16, 16)).astype(np.float32)} for n in range(60)]
    return CacheDataset(files, Compose([ScaleIntensityd("image")]), progress=False)


class Frame(Rows):
    length = 500

    def __init__(self, frame):
        self.frame = frame


class Pandas(Frame):
    def __getitem__(self, index):
        row = self.frame.iloc[index]
        return torch.tensor([row["a"], row["b"]]), index


@healthy(needs=("pandas",))
def pandas_rows():
    """Rows of a pandas frame"""
    import pandas

    return Pandas(pandas.DataFrame({"a": np.arange(500.0), "b": np.arange(500.0)[::-1]}))


class Polars(Frame):
    def __getitem__(self, index):
        import polars

        part = self.frame.filter(polars.col("a") == index).select(polars.col("b").sum())
        return torch.tensor(part.item()), index


@healthy(needs=("polars",), methods=SENT)
@fault(
    "worker.fork",
    "mp.threads",
    methods=FORK,
    where="polars|threads|hangs|libraries.py",
    fix="forkserver|spawn",
    most_workers=0,
    needs=("polars",),
    plain="hangs equal",
)
def polars_query():
    """polars' thread pool does not survive a fork. pola-rs/polars#17526, Lightning-AI/litData#823"""
    import polars

    frame = polars.DataFrame({"a": np.arange(500), "b": np.arange(500.0)})
    frame.filter(polars.col("a") == 3).select(polars.col("b").sum())
    return Polars(frame)


class Arrow(Frame):
    def __getitem__(self, index):
        return torch.tensor(self.frame.column("a")[index].as_py()), index


@healthy(needs=("pyarrow",))
def arrow_table():
    """Rows of a pyarrow table"""
    import pyarrow

    return Arrow(pyarrow.table({"a": np.arange(500.0)}))


class Memory(Rows):
    """Reads by an async file system, as for object stores."""

    def __init__(self):
        import fsspec.asyn

        class Store(fsspec.asyn.AsyncFileSystem):
            async def _cat_file(self, path, start=None, end=None, **options):
                return b"%08d" % int(path)

        self.store = Store(skip_instance_cache=True)
        self.first = self[0]

    def __getitem__(self, index):
        return torch.tensor(int(self.store.cat_file(str(index)))), index


@fault(
    "worker.fork",
    "worker.consistency",
    "ds.open_handles",
    methods=FORK,
    where=r"fork-safe|dataset\.store",
    fix="forkserver|spawn|first use|in each worker",
    most_workers=0,
    needs=("fsspec",),
    plain="raises hangs",
)
def async_filesystem():
    """An async file system used before the fork. datachain-ai/datachain#691, huggingface/datasets#4375"""
    return Memory()


class LocalFsspec(Rows):
    def __init__(self):
        import fsspec

        self.store = fsspec.filesystem("file")
        self.path = str(written("value.txt", lambda path: path.write_text("7")))

    def __getitem__(self, index):
        return torch.tensor(int(self.store.cat_file(self.path))), index


@healthy(needs=("fsspec",))
def fsspec_local():
    """fsspec's local files, opened for each item"""
    return LocalFsspec()


class Scikit(Rows):
    length = 200

    def __getitem__(self, index):
        from skimage import filters

        pixels = np.asarray(image(index, 32)).mean(2)
        return torch.from_numpy(filters.gaussian(pixels, 1.0)), index


@healthy(needs=("skimage",))
def scikit_image():
    """Filters of scikit-image"""
    return Scikit()


@healthy()
def torchvision_fake():
    """torchvision's FakeData"""
    from torchvision import datasets, transforms

    return datasets.FakeData(300, (3, 32, 32), transform=transforms.ToTensor())


class Net(Rows):
    """A small network on the CPU extracts features, without gradients."""

    def __init__(self):
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU()).eval()

    @torch.no_grad()
    def __getitem__(self, index):
        return self.net(torch.full((64,), float(index))), index


@healthy()
def network_on_cpu():
    """A small network that is meant for the CPU"""
    return Net()


@healthy(needs=("cv2",), methods=FORK)
def opencv_resize():
    """OpenCV with its threads switched off"""
    import cv2

    cv2.setNumThreads(0)
    return Resized()


class Resized(Rows):
    length = 300

    def __getitem__(self, index):
        import cv2

        return torch.from_numpy(cv2.resize(np.asarray(image(index)), (32, 32))), index


@healthy()
def loader_with_functools():
    """functools.partial of a module's function as collate and init"""
    return DataLoader(
        Rows(), 16, collate_fn=functools.partial(stacked, dim=0), worker_init_fn=functools.partial(nothing, 3)
    )


def stacked(items, dim):
    return torch.stack([value for value, _ in items], dim)


def nothing(number, worker_id):
    pass
