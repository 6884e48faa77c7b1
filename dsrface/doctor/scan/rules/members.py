"""Rules about what a Dataset holds: it is what travels to every worker."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dsrface.doctor.scan.rule import Hit, Rule
from dsrface.doctor.scan.source import (
    DatasetClass,
    Function,
    Source,
    has_workers,
    is_self_attribute,
    self_assignments,
)

_OPENERS = {
    "open": "a file",
    "io.open": "a file",
    "gzip.open": "a file",
    "bz2.open": "a file",
    "lzma.open": "a file",
    "h5py.File": "an HDF5 file",
    "zipfile.ZipFile": "a zip archive",
    "tarfile.open": "a tar archive",
    "tarfile.TarFile": "a tar archive",
    "lmdb.open": "an LMDB environment",
    "lmdb.Environment": "an LMDB environment",
    "sqlite3.connect": "a database connection",
    "cv2.VideoCapture": "a video stream",
    "netCDF4.Dataset": "a NetCDF file",
    "rasterio.open": "a raster file",
    "tables.open_file": "an HDF5 file",
    "socket.socket": "a socket",
}
_LOCKS = {
    "threading.Lock": "a lock",
    "threading.RLock": "a lock",
    "threading.Condition": "a condition",
    "threading.Event": "an event",
    "threading.local": "thread-local storage",
    "queue.Queue": "a queue",
    "concurrent.futures.ThreadPoolExecutor": "a thread pool",
    "concurrent.futures.ProcessPoolExecutor": "a process pool",
    "multiprocessing.Pool": "a process pool",
    "multiprocessing.pool.ThreadPool": "a thread pool",
}
_GENERATORS = {
    "numpy.random.default_rng",
    "numpy.random.RandomState",
    "numpy.random.Generator",
    "random.Random",
    "torch.Generator",
}
_LISTINGS = {"glob.glob", "os.listdir", "os.scandir", "os.walk"}
_LISTING_METHODS = {"glob", "rglob", "iterdir", "readlines"}
_FEW = ("class", "categor", "label", "split", "fold")
# A class that mentions one of these knows of workers, or says how it is pickled.
_OWN_PICKLING = {"__getstate__", "__reduce__", "__reduce_ex__"}
_KNOWS_WORKERS = {"getpid", "get_worker_info", "register_at_fork"}
_SEEDS_WORKERS = {*_KNOWS_WORKERS, "initial_seed", "manual_seed", "worker_init_fn", "set_epoch"}


def _kept(source: Source) -> Iterator[tuple[DatasetClass, Function, str, ast.expr]]:
    """Yield what `__init__` of each data set keeps: attribute and value."""
    for dataset in source.datasets:
        init = dataset.method("__init__")
        if init is not None:
            for name, value in self_assignments(init):
                yield dataset, init, name, value


def _handles(source: Source) -> Iterator[Hit]:
    for dataset, init, name, value in _kept(source):
        called = source.name_of(value.func) if isinstance(value, ast.Call) else ""
        if called not in _OPENERS or dataset.names() & _KNOWS_WORKERS or _is_released(init, name):
            continue
        yield value, f"{dataset.node.name}.{name} is {_OPENERS[called]} opened in __init__"


def _is_released(init: Function, name: str) -> bool:
    """Return whether `__init__` closes, deletes or resets an attribute before it ends."""
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "close" and _is_attribute(node.func.value, name):
                return True
        elif isinstance(node, ast.Delete) and any(_is_attribute(target, name) for target in node.targets):
            return True
    values = [value for kept, value in self_assignments(init) if kept == name]
    return isinstance(values[-1], ast.Constant) and values[-1].value is None


def _is_attribute(node: ast.expr, name: str) -> bool:
    return is_self_attribute(node) and node.attr == name


def _lambdas(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        if dataset.names() & _OWN_PICKLING:
            continue
        for method in dataset.methods():
            if method.name != "__init__":
                continue
            local = {
                node.name
                for node in ast.walk(method)
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node is not method
            }
            for name, value in self_assignments(method):
                held = held_function(value, local)
                if held is not None:
                    yield held, f"{dataset.node.name}.{name} holds {described(held)}"


def held_function(value: ast.expr, local: set[str]) -> ast.expr | None:
    """Return the lambda or local function that a value keeps, or None.

    A lambda that a function call uses up, as `sorted(..., key=lambda ...)` does, is not kept; one that a
    constructor, `partial` or `defaultdict` is given is.
    """
    if isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in local):
        return value
    parts: list[ast.expr] = []
    if isinstance(value, ast.Call):
        called = value.func
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        if isinstance(called, ast.Name) and name in local:
            return called
        if name[:1].isupper() or name in ("partial", "defaultdict"):
            parts = [*value.args, *(part.value for part in value.keywords)]
    elif isinstance(value, (ast.List, ast.Tuple)):
        parts = value.elts
    elif isinstance(value, ast.Dict):
        parts = value.values
    elif isinstance(value, ast.IfExp):
        parts = [value.body, value.orelse]
    elif isinstance(value, ast.BoolOp):
        parts = value.values
    return next((held for part in parts if (held := held_function(part, local)) is not None), None)


def described(held: ast.expr) -> str:
    """Return what a held function is, in words."""
    return f"the local {held.id!r}" if isinstance(held, ast.Name) else "a lambda"


def _local_classes(source: Source) -> Iterator[Hit]:
    for dataset in source.datasets:
        function = source.function_around(dataset.node)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            loaders = list(source.loaders(function))
            if loaders and not any(has_workers(loader) for loader in loaders):
                continue
            yield dataset.node, f"the data set class {dataset.node.name} is defined in {function.name}()"


def _cell_classes(source: Source) -> Iterator[Hit]:
    if source.is_notebook and any(has_workers(loader) for loader in source.loaders()):
        for dataset in source.datasets:
            if source.function_around(dataset.node) is None:
                yield dataset.node, f"the data set class {dataset.node.name} is defined in a cell"


def _locks(source: Source) -> Iterator[Hit]:
    for dataset, init, name, value in _kept(source):
        called = source.name_of(value.func) if isinstance(value, ast.Call) else ""
        known = dataset.names() & (_OWN_PICKLING | _KNOWS_WORKERS)
        if called in _LOCKS and not known and not _is_released(init, name):
            yield value, f"{dataset.node.name}.{name} is {_LOCKS[called]} made in __init__"


def _generators(source: Source) -> Iterator[Hit]:
    for dataset, _, name, value in _kept(source):
        called = source.name_of(value.func) if isinstance(value, ast.Call) else ""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and not called:
            inner = value.func.value  # torch.Generator().manual_seed(0)
            called = source.name_of(inner.func) if isinstance(inner, ast.Call) else ""
        if called not in _GENERATORS or dataset.names() & (_SEEDS_WORKERS - {"manual_seed"}):
            continue
        uses = [
            node
            for method in dataset.item_methods()
            for node in ast.walk(method)
            if isinstance(node, ast.Attribute) and _is_attribute(node, name)
        ]
        if uses and not any(isinstance(use.ctx, ast.Store) for use in uses):  # else it is made in the worker
            yield value, f"{dataset.node.name}.{name} is a random generator that every worker gets a copy of"


def _path_lists(source: Source) -> Iterator[Hit]:
    for dataset, _, name, value in _kept(source):
        if any(word in name.lower() for word in _FEW):
            continue
        for call, called in source.calls(value):
            method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if called in _LISTINGS or method in _LISTING_METHODS:
                yield value, f"{dataset.node.name}.{name} is a Python list as long as the data set"
                break


HANDLE = Rule(
    "scan.open-handle",
    "error",
    "a file or connection is opened in __init__ of a Dataset",
    "Forked workers share its position, so that seek and read of two workers mix: wrong items, without any "
    "error. Spawned workers cannot be sent it at all.",
    "Keep the path, and open it at first use in __getitem__, keyed by os.getpid().",
    "class Records(Dataset):\n    def __init__(self, path):\n        self.file = open(path, 'rb')",
    _handles,
)
LAMBDA = Rule(
    "scan.lambda",
    "warning",
    "a Dataset holds a lambda or a local function",
    "It cannot be pickled, so workers do not start on Windows, on macOS, and on Linux from Python 3.14 on.",
    "Use a function at the top of a module, a class with __call__, or functools.partial of one.",
    "self.transform = transforms.Lambda(lambda image: image / 255)",
    _lambdas,
)
LOCAL_CLASS = Rule(
    "scan.local-class",
    "warning",
    "a Dataset class is defined inside a function",
    "Its objects cannot be pickled, so workers do not start on Windows, on macOS, and on Linux from Python "
    "3.14 on.",
    "Move the class to the top of its module and pass it what it needs.",
    "def main():\n    class Data(Dataset): ...",
    _local_classes,
)
CELL_CLASS = Rule(
    "scan.cell-class",
    "warning",
    "a notebook with workers defines its Dataset class in a cell",
    "Spawned workers (Windows, macOS) and those of a fork server (Linux from Python 3.14 on) cannot import "
    'it: they end or hang with "Can\'t get attribute".',
    "Write the class to a file, `%%writefile photos.py` at the top of its cell, and import it from there.",
    "class Photos(Dataset): ...\nloader = DataLoader(Photos(), num_workers=2)",
    _cell_classes,
)
LOCK = Rule(
    "scan.lock",
    "warning",
    "a Dataset makes a lock or a pool in __init__",
    "It cannot be pickled. Under fork the threads of a pool are gone in the worker, and a lock that was held "
    "stays held: a silent hang.",
    "Make it at first use in the worker, or drop it in __getstate__ and make it in __setstate__.",
    "self.pool = ThreadPoolExecutor(4)",
    _locks,
)
GENERATOR = Rule(
    "scan.generator",
    "warning",
    "a Dataset draws from a random generator made in __init__",
    "Every worker gets a copy in the same state, and without persistent workers each epoch begins with it "
    "again: the same augmentations many times.",
    "Make it in the worker from torch.initial_seed(), or draw from (seed, epoch, index).",
    "self.rng = np.random.default_rng(0)",
    _generators,
)
PATH_LIST = Rule(
    "scan.path-list",
    "note",
    "a Dataset keeps a Python list of all its files",
    "Above a million entries each worker copies the list as it counts references: memory grows during the "
    "epoch. Spawned workers are sent it whole.",
    "From about a million entries on, hold the names in one NumPy array.",
    "self.paths = sorted(glob.glob(root + '/*.jpg'))",
    _path_lists,
)
