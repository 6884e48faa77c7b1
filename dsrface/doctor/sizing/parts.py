"""Where an item's time goes: reading, decoding, each transform by name, and the lines of the user's own code.

Items are loaded with the functions that read and decode, and the classes of the transforms, replaced by ones
that note their time; lines of the user's files, and of the data set's own methods, are timed by a trace
function. Every second counts once: for the innermost of what runs. Items loaded in turn without all that say
what the whole takes.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import linecache
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from dsrface.doctor.sizing.account import UNEXPLAINED
from dsrface.runtime.user_code import is_users, short_path

READ, DECODE, NETWORK = "open and read", "decode", "network"
_LOAD = "ImageFile.load"
# Module and name there -> what it does. A module that is not loaded is not used.
_KNOWN = (
    ("PIL.Image", "open", READ),
    ("PIL.ImageFile", _LOAD, DECODE),
    ("cv2", "imread", DECODE),
    ("cv2", "imdecode", DECODE),
    ("torchvision.io.image", "read_file", READ),
    ("torchvision.io.image", "decode_image", DECODE),
    ("torchvision.io.image", "decode_jpeg", DECODE),
    ("torchvision.io.image", "decode_png", DECODE),
    ("torchaudio", "load", DECODE),
    ("soundfile", "read", DECODE),
    ("imageio.v3", "imread", DECODE),
    ("tifffile", "imread", DECODE),
    ("pydicom", "dcmread", DECODE),
    ("nibabel", "load", READ),
    ("numpy", "load", READ),
    ("numpy", "fromfile", READ),
    ("torch", "load", READ),
    ("h5py._hl.dataset", "Dataset.__getitem__", READ),
    ("socket", "socket.recv", NETWORK),
    ("socket", "socket.recv_into", NETWORK),
)
_DEEPEST = 6
_MOST_MEMBERS = 200
_CODE_COLUMNS = 44
_FEWEST_ITEMS = 3
_MOST_WRAPPED = 20
_INSTALLED_IN = re.compile(r".*[\\/](?:site|dist)-packages[\\/]")


@dataclass(frozen=True)
class Parts:
    """What an item consists of.

    Args:
        seconds: By name, the longest first, with what is unexplained at the end; they add up to what an item
            takes when nothing is noted.
        decoded_pixels: Pixels that Pillow decodes for an item.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    decoded_pixels: float = 0.0


class Meter:
    """Adds up seconds by name, of one thread; inner names are not part of the outer ones.

    Args:
        codes: Of a library, whose lines are separated as those of the user's files are.
    """

    def __init__(self, codes: Collection[CodeType] = ()) -> None:
        self.codes = codes
        self.seconds: dict[str, float] = {}
        self.pixels = 0
        self._stack: list[str] = []
        self._last = 0.0
        self._thread = threading.get_ident()
        self._named = 0  # timed functions that run now: their lines are no longer separated

    def total(self, load: Callable[[], Any]) -> None:
        """Load an item under the meter; what nothing else takes is unexplained."""
        self._last = time.perf_counter()
        self._push(UNEXPLAINED)
        before = sys.gettrace()
        if before is None:  # a debugger, or a measurement of coverage, needs it
            sys.settrace(self._trace)
        try:
            load()
        finally:
            if before is None:
                sys.settrace(None)
            while self._stack:
                self._pop()

    def timed(self, function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
        """Return a function that notes its time, under its first argument's class where it has no name."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self._stack or threading.get_ident() != self._thread:
                return function(*args, **kwargs)
            self._push(name or type(args[0]).__name__)
            self._named += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._named -= 1
                self._pop()

        return timed

    def _push(self, name: str) -> None:
        self._spent()
        self._stack.append(name)

    def _pop(self) -> None:
        self._spent()
        self._stack.pop()

    def _spent(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] = self.seconds.get(self._stack[-1], 0.0) + now - self._last
        self._last = now

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        if self._named or not (is_users(frame.f_code.co_filename) or frame.f_code in self.codes):
            return None
        self._push(_line(frame.f_code.co_filename, frame.f_lineno))
        return self._trace_lines

    def _trace_lines(self, frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        if event == "line":
            self._pop()
            self._push(_line(frame.f_code.co_filename, frame.f_lineno))
        elif event == "return":
            self._pop()
        return self._trace_lines


def parts_of(fetch: Callable[[Any], Any], keys: Iterable[Any], dataset: Any, *, budget_s: float) -> Parts:
    """Load items, and return where their time goes.

    Args:
        fetch: Loads one item.
        keys: What to fetch, in order; every second one is loaded without the meter.
        dataset: Whose transforms are separated.
        budget_s: Seconds to spend.
    """
    meter = Meter(_codes(dataset))
    replacements = list(_replacements(meter, dataset))
    plain: list[float] = []
    noted = 0
    begin = time.perf_counter()
    for number, key in enumerate(keys):
        if number % 2:
            before = time.perf_counter()
            fetch(key)
            plain.append(time.perf_counter() - before)
        else:
            with _replaced(replacements):
                meter.total(functools.partial(fetch, key))
            noted += 1
        spent = time.perf_counter() - begin
        if (spent > budget_s and len(plain) >= _FEWEST_ITEMS) or spent > 4 * budget_s:
            break
    if not plain:
        return Parts()
    named = {name: seconds / noted for name, seconds in meter.seconds.items() if name != UNEXPLAINED}
    total, known = sum(plain) / len(plain), sum(named.values())
    scale = min(1.0, total / known) if known else 1.0  # noting takes time itself, above all for lines
    found = {name: scale * named[name] for name in sorted(named, key=lambda name: -named[name])}
    return Parts({**found, UNEXPLAINED: max(0.0, total - known)}, meter.pixels / noted)


def _codes(dataset: Any) -> set[CodeType]:
    """Return the code of the methods of a data set, and of those that it wraps, as Subset does."""
    found: set[CodeType] = set()
    wrapped = [dataset]
    for each in wrapped:  # grows while it is walked
        several = getattr(each, "datasets", None)
        parts = [getattr(each, "dataset", None), *(several if isinstance(several, (list, tuple)) else ())]
        new = [part for part in parts if part is not None and all(part is not known for known in wrapped)]
        wrapped += new[: max(0, _MOST_WRAPPED - len(wrapped))]
        methods = [value for cls in type(each).__mro__[:-1] for value in vars(cls).values()]
        found |= {method.__code__ for method in methods if isinstance(method, FunctionType)}
    return found


def _replacements(meter: Meter, dataset: Any) -> Iterator[tuple[Any, str, Any]]:
    opened = functools.partial(_open, meter, builtins.open)
    yield builtins, "open", opened
    yield io, "open", opened
    for module_name, path, what in _KNOWN:
        owner: Any = sys.modules.get(module_name)
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part, None)
        function = getattr(owner, name, None)
        if function is None:
            continue
        timed = meter.timed(_counted(meter, function) if path == _LOAD else function, what)
        owners = [owner] if classes else _holders(name, function)
        for holder in owners:
            yield holder, name, timed
    for kind in _transforms(dataset):
        yield kind, "__call__", meter.timed(kind.__call__)


def _counted(meter: Meter, load: Callable[..., Any]) -> Callable[..., Any]:
    """Return Pillow's load, counting the pixels of images that it decodes."""

    @functools.wraps(load)
    def counted(image: Any, *args: Any, **kwargs: Any) -> Any:
        is_decoded = not image.tile
        found = load(image, *args, **kwargs)
        meter.pixels += 0 if is_decoded else image.width * image.height
        return found

    return counted


@contextlib.contextmanager
def _replaced(replacements: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Replace attributes of modules and classes, and put them back."""
    inherited = object()
    before = [(owner, name, vars(owner).get(name, inherited)) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is not inherited:
                setattr(owner, name, value)
            elif name in vars(owner):
                delattr(owner, name)


def _holders(name: str, function: Any) -> list[ModuleType]:
    """Return the modules that hold a function under its name: `from cv2 import imread`."""
    modules = [module for module in list(sys.modules.values()) if type(module) is ModuleType]
    return [module for module in modules if vars(module).get(name) is function]


def _transforms(dataset: Any) -> list[Any]:
    """Return the classes of the callable members of a data set, and of what those hold."""
    found: dict[type, None] = {}
    seen: set[int] = set()

    def walk(value: Any, depth: int) -> None:
        if id(value) in seen or depth > _DEEPEST:
            return
        seen.add(id(value))
        if isinstance(value, (list, tuple)):
            parts: Iterable[Any] = value[:_MOST_MEMBERS]
        elif isinstance(value, dict):
            parts = list(value.values())[:_MOST_MEMBERS]
        elif value is dataset or hasattr(type(value), "__getitem__") or _is_called(type(value)):
            parts = list(getattr(value, "__dict__", {}).values())
            if value is not dataset and _is_called(type(value)):
                found[type(value)] = None
        else:
            return
        for part in parts:
            walk(part, depth + 1)

    walk(dataset, 0)
    return list(found)


def _is_called(kind: type) -> bool:
    """Return whether instances of a class of Python code are called."""
    calls = [vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)]
    return bool(calls) and isinstance(calls[0], FunctionType) and not issubclass(kind, type)


class _Reader(io.BufferedReader):
    """A file that notes the time of reading."""

    def __init__(self, meter: Meter, raw: Any) -> None:
        super().__init__(raw)
        for name in ("read", "read1", "readinto", "readline", "readlines"):
            setattr(self, name, meter.timed(getattr(super(), name), READ))


def _open(
    meter: Meter, original: Callable[..., Any], file: Any, mode: str = "r", *args: Any, **kw: Any
) -> Any:
    """Open a file; one that is read as bytes notes its time."""
    is_default = set(args) <= {-1, None} and not kw
    is_bytes = mode in ("rb", "br") and is_default and isinstance(file, (str, bytes, os.PathLike))
    if is_bytes:
        return meter.timed(lambda: _Reader(meter, io.FileIO(os.fspath(file))), READ)()
    return meter.timed(original, READ)(file, mode, *args, **kw)


@functools.lru_cache(maxsize=4096)
def _line(file: str, number: int) -> str:
    code = linecache.getline(file, number).strip()
    shown = code if len(code) <= _CODE_COLUMNS else f"{code[: _CODE_COLUMNS - 3]}..."
    return f"{_INSTALLED_IN.sub('', short_path(file))}:{number} {shown}".strip()
