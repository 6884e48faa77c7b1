"""insightface's verification sets (`lfw.bin`, `cfp_fp.bin`, ...), read without running their pickle.

Such a file is a pickle of (images, whether each pair shows one person), with two images a pair. A pickle
can name any function to be called; this reader builds lists, tuples, bytes, numbers and numpy arrays, and
refuses everything else.
"""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsrface.errors import DataError

BIN_SUFFIX = ".bin"
_FIRST_BYTES = (pickle.PROTO, pickle.MARK, pickle.EMPTY_LIST)  # of a list or tuple, by protocol
NUM_FOLDS = 10
_NEEDS_NOTHING_ELSE = "A verification set needs nothing but lists, bytes and arrays: do not use this file."


@dataclass(frozen=True)
class ValidationSet:
    """Images in pairs: pair i is images 2 i and 2 i + 1.

    Args:
        images: Encoded images (JPEG).
        is_same: Whether each pair shows one person.
    """

    images: tuple[bytes, ...]
    is_same: tuple[bool, ...]


def read_validation_set(path: Path) -> ValidationSet:
    """Read a `.bin` file.

    Raises:
        DataError: unreadable or of another content (`bad-validation-set`), or a pickle that would call
            something (`unsafe-pickle`).
    """
    try:
        with path.open("rb") as handle:
            content = _Restricted(handle, encoding="bytes").load()
    except DataError as error:
        raise DataError(error.message, id=error.id, where=path, hint=error.hint) from None
    except OSError as error:
        raise DataError(f"Cannot read the file: {error}.", id="bad-validation-set", where=path) from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises almost anything
        raise _unfit(f"it is no whole pickle ({type(error).__name__}: {error})", path) from None
    if not (isinstance(content, tuple | list) and len(content) == 2):
        raise _unfit("it does not hold two lists", path)
    images, is_same = (item.value if isinstance(item, _Array) else item for item in content)
    if not (isinstance(images, list | tuple) and isinstance(is_same, list | tuple | np.ndarray)):
        raise _unfit("it does not hold a list of images and a list of answers", path)
    if not len(is_same) or len(images) != 2 * len(is_same):
        raise _unfit(f"it holds {len(images)} images for {len(is_same)} pairs", path)
    return ValidationSet(tuple(_encoded(item, path) for item in images), _flags(is_same, path))


def check_is_pickle(path: Path) -> None:
    """Make sure that a `.bin` file begins and ends as a pickle does.

    Raises:
        DataError: it is something else, or was cut short (`bad-validation-set`).
    """
    with path.open("rb") as handle:
        start = handle.read(1)
        handle.seek(max(0, path.stat().st_size - 1))
        end = handle.read(1)
    if start not in _FIRST_BYTES:
        raise _unfit("it is no pickle" if start else "it is empty", path)
    if end != pickle.STOP:
        raise _unfit("its end is missing", path)


def _encoded(item: object, path: Path) -> bytes:
    if isinstance(item, _Array):
        item = item.value
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 1:
        return item.tobytes()
    raise _unfit(f"an image is of type {type(item).__name__}, not JPEG bytes", path)


def _flags(values: Sequence[Any] | NDArray[Any], path: Path) -> tuple[bool, ...]:
    if not all(
        isinstance(item, bool | np.bool_ | int | np.integer | float | np.floating) and item in (0, 1)
        for item in values
    ):
        raise _unfit("an answer is not true or false", path)
    return tuple(bool(item) for item in values)


def _unfit(what: str, path: Path) -> DataError:
    return DataError(
        f"This is not a verification set of insightface: {what}.",
        id="bad-validation-set",
        where=path,
        hint="Such a file is a pickle of (list of JPEG bytes, list of booleans), two images a pair.",
    )


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, which old protocols build bytes with."""
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"The pickle asks for the codec {encoding!r}.", id="unsafe-pickle")
    return codecs.latin_1_encode(text)[0]


class _Dtype:
    """Stands in for `numpy.dtype`: plain numbers only, and nothing that a pickle can change afterwards."""

    def __init__(self, code: object, *_: object) -> None:
        text = code.decode() if isinstance(code, bytes) else str(code)
        if text not in _NUMBERS:
            raise DataError(
                f"The pickle holds an array of {text!r}.", id="unsafe-pickle", hint=_NEEDS_NOTHING_ELSE
            )
        self.numpy = np.dtype(_NUMBERS[text])

    def __setstate__(self, state: object) -> None:
        """Take no state: it holds byte order and fields, and plain numbers have none that matter here."""


class _Array:
    """Stands in for an array that a pickle fills in a second step."""

    value: NDArray[Any] = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, data = state
        self.value = np.frombuffer(data, dtype.numpy).reshape(shape)


def _not_called(*_: object) -> None:
    """Stand in for `numpy.ndarray`, which is only ever named."""
    raise DataError("The pickle would make an array of its own.", id="unsafe-pickle")


def _empty_array(*_: object) -> _Array:
    """Stand in for `numpy.core.multiarray._reconstruct`."""
    return _Array()


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: str) -> NDArray[Any]:
    """Stand in for `numpy.core.numeric._frombuffer`."""
    del order  # images and answers have one dimension
    return np.frombuffer(data, dtype.numpy).reshape(shape)


def _scalar(dtype: _Dtype, data: Any) -> Any:
    """Stand in for `numpy.core.multiarray.scalar`."""
    return np.frombuffer(data, dtype.numpy)[0]


_NUMBERS = {name: name for name in ("u1", "b1", "i1", "i2", "i4", "i8", "f4", "f8")}
_CORES = ("numpy.core", "numpy._core")
_PERMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): _not_called,
    ("numpy", "dtype"): _Dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}


class _Restricted(pickle.Unpickler):
    """An unpickler that can name nothing but the builders of arrays."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found = _PERMITTED.get((module, name))
        if found is None:
            raise DataError(
                f"The file is a pickle that would call {module}.{name}; it was not run.",
                id="unsafe-pickle",
                hint=_NEEDS_NOTHING_ELSE,
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise DataError(f"The pickle refers to something outside itself ({pid!r}).", id="unsafe-pickle")
