"""Rules about what a Dataset does for an item: that code runs in the workers."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dsrface.doctor.scan.rule import Hit, Rule
from dsrface.doctor.scan.source import DatasetClass, Source, is_self_attribute, keyword

_SEEDS = {
    "numpy.random.seed",
    "random.seed",
    "torch.manual_seed",
    "torch.random.manual_seed",
    "numpy.random.default_rng",
    "numpy.random.RandomState",
    "random.Random",
}
_CUDA_QUERIES = {"is_available", "device_count", "is_initialized"}
_SHARDS = ("worker", "shard", "rank", "split", "replica", "distribut")
_SOURCES = ("path", "file", "url", "shard", "record", "line", "sample", "item", "example", "row")


def _cuda(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        init = dataset.method("__init__")
        for method in [*([init] if init is not None else []), *dataset.item_methods()]:
            for call, name in source.calls(method):
                if _uses_cuda(call, name):
                    yield call, f"{dataset.node.name}.{method.name} uses CUDA"


def _uses_cuda(call: ast.Call, name: str) -> bool:
    if isinstance(call.func, ast.Attribute) and call.func.attr == "cuda":
        return True
    if name.startswith("torch.cuda."):
        return name.rpartition(".")[2] not in _CUDA_QUERIES
    device = keyword(call, "device")
    values = [device] if device is not None else []
    if isinstance(call.func, ast.Attribute) and call.func.attr == "to":
        values += call.args
    return any(
        isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.startswith("cuda")
        for value in values
    )


def _fixed_seeds(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        if dataset.is_iterable:
            continue  # a stream that seeds itself once is the same stream each time, which is often meant
        for method in dataset.item_methods():
            for call, name in source.calls(method):
                if name in _SEEDS and call.args and isinstance(call.args[0], ast.Constant):
                    yield call, f"{dataset.node.name}.{method.name} seeds with the same number for every item"


def _nested_loaders(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        for method in dataset.item_methods():
            for call in source.loaders(method):
                yield call, f"{dataset.node.name}.{method.name} makes a DataLoader"


def _unsharded(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        iterate = dataset.method("__iter__")
        if not dataset.is_iterable or iterate is None:
            continue
        if any(word in name.lower() for name in dataset.names() for word in _SHARDS):
            continue
        if _reads_everything(dataset, source):
            yield iterate, f"{dataset.node.name}.__iter__ reads the whole data in every worker"


def _reads_everything(dataset: DatasetClass, source: Source) -> bool:
    """Return whether an iterator opens a file, or loops over what `self` lists."""
    return any(
        (isinstance(node, ast.Call) and source.name_of(node.func) == "open")
        or (isinstance(node, ast.For) and any(_is_listing(part) for part in ast.walk(node.iter)))
        for method in dataset.item_methods()
        for node in ast.walk(method)
    )


def _is_listing(node: ast.AST) -> bool:
    return is_self_attribute(node) and node.attr.lower().rstrip("s").endswith(_SOURCES)


CUDA = Rule(
    "scan.cuda",
    "error",
    "a Dataset uses CUDA",
    "A forked worker raises 'Cannot re-initialize CUDA in forked subprocess'; a spawned one opens a CUDA "
    "context of its own, hundreds of megabytes each.",
    "Return CPU tensors, and move the batch in the training loop.",
    "def __getitem__(self, index):\n    return self.images[index].cuda()",
    _cuda,
)
FIXED_SEED = Rule(
    "scan.fixed-seed",
    "warning",
    "__getitem__ seeds a random generator with a constant",
    "Every item gets the same draws, in every worker and every epoch: the augmentation is a constant. "
    "Seeding a global generator also changes what comes after it.",
    "Seed from (seed, epoch, index), or leave the seeding to the loader.",
    "def __getitem__(self, index):\n    rng = np.random.default_rng(0)",
    _fixed_seeds,
)
NESTED_LOADER = Rule(
    "scan.nested-loader",
    "error",
    "__getitem__ makes a DataLoader",
    "Workers are daemons, which may not start processes: 'daemonic processes are not allowed to have "
    "children'. Without workers of its own it is made for every item.",
    "Read the item directly, or make the inner loader once, outside of the Dataset.",
    "def __getitem__(self, index):\n    return next(iter(DataLoader(self.parts[index])))",
    _nested_loaders,
)
UNSHARDED = Rule(
    "scan.unsharded",
    "error",
    "an IterableDataset does not divide its data among workers",
    "Every worker reads all of it: with N workers each item comes N times in an epoch, without any error.",
    "In __iter__ take every n-th: info = get_worker_info(); "
    "itertools.islice(items, info.id, None, info.num_workers) when info is not None.",
    "class Lines(IterableDataset):\n    def __iter__(self):\n        yield from open(self.path)",
    _unsharded,
)
