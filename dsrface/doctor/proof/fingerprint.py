"""What an item is, as a hash: types, values and attributes; and whether two items are equal but for rounding.

A worker hashes an item before it is sent, this process hashes what arrives, so the two can be compared where
they are made.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import struct
import weakref
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import torch

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")
_DEEPEST = 40
_OPAQUE = "opaque:"
_LAST_BITS = {torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float32: 1e-5, torch.float64: 1e-9}


def fingerprint(value: Any) -> str:
    """Return a hash of a value with its type and attributes; never raises."""
    total = hashlib.blake2b(digest_size=16)
    try:
        _feed(total, value, {}, 0)
    except Exception as error:  # noqa: BLE001 - foreign classes may raise anything when they are looked at
        return f"{_OPAQUE}{_type_name(value)}:{type(error).__name__}"
    return total.hexdigest()


def is_opaque(digest: str) -> bool:
    """Return whether a fingerprint only says that its value cannot be looked into."""
    return digest.startswith(_OPAQUE)


def copied(value: Any) -> Any:
    """Return a value whose tensors are out of shared memory, so that keeping it holds no descriptors."""
    if type(value) is torch.Tensor:
        return value.detach().clone()
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    return value


def almost_equal(one: Any, other: Any, depth: int = 0) -> bool:
    """Return whether two values differ by no more than the last bits of floating-point sums.

    Tolerance: relative to the largest magnitude of the tensor, by dtype.
    """
    if depth > _DEEPEST or type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return _tensors_close(one, other)
    if hasattr(one, "__array_interface__") and hasattr(one, "dtype"):
        return _arrays_close(one, other)
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(almost_equal(one[key], other[key], depth + 1) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(almost_equal(a, b, depth + 1) for a, b in zip(one, other))
    if hasattr(one, "__dict__") and vars(one):
        return almost_equal(dict(vars(one)), dict(vars(other)), depth + 1)
    return fingerprint(one) == fingerprint(other)


def _tensors_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.dtype not in _LAST_BITS or one.layout != torch.strided:
        return fingerprint(one) == fingerprint(other)
    a, b = one.detach().as_subclass(torch.Tensor).double(), other.detach().as_subclass(torch.Tensor).double()
    largest = float(a.abs().nan_to_num(0.0, 0.0, 0.0).max()) if a.numel() else 0.0
    return bool(
        torch.allclose(a, b, rtol=0.0, atol=_LAST_BITS[one.dtype] * max(largest, 1e-30), equal_nan=True)
    )


def _arrays_close(one: Any, other: Any) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind != "f" or one.dtype.itemsize not in (2, 4, 8):
        return fingerprint(one) == fingerprint(other)
    return _tensors_close(torch.from_numpy(_plain(one).copy()), torch.from_numpy(_plain(other).copy()))


def _feed(total: Any, value: Any, seen: dict[int, Any], depth: int) -> None:
    total.update(_type_name(value).encode() + b";")
    if value is None or isinstance(value, (bool, int, complex, str, bytes, bytearray)):
        total.update(
            bytes(value) if isinstance(value, (bytes, bytearray)) else repr(value).encode("utf-8", "replace")
        )
        return
    if isinstance(value, float):
        total.update(struct.pack("<d", value))
        return
    if depth > _DEEPEST or id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, torch.Tensor):
        _feed_tensor(total, value)
        _feed_attributes(total, value, seen, depth)
    elif hasattr(value, "__array_interface__") and hasattr(value, "tobytes"):
        _feed_array(total, value, seen, depth)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _feed(total, key, seen, depth + 1)
            _feed(total, part, seen, depth + 1)
        _feed_attributes(total, value, seen, depth)
    elif isinstance(value, (list, tuple)):
        total.update(struct.pack("<q", len(value)))
        for part in value:
            _feed(total, part, seen, depth + 1)
        _feed_attributes(total, value, seen, depth)
    elif isinstance(value, AbstractSet):
        for part in sorted(fingerprint(part) for part in value):
            total.update(part.encode())
    else:
        _feed_object(total, value, seen, depth)


def _feed_tensor(total: Any, tensor: torch.Tensor) -> None:
    plain = tensor.detach().as_subclass(torch.Tensor)
    total.update(f"{plain.dtype}{tuple(plain.shape)}{plain.layout}".encode())
    if plain.layout != torch.strided:
        plain = plain.coalesce() if plain.layout == torch.sparse_coo else plain
        parts = (plain.indices(), plain.values()) if plain.layout == torch.sparse_coo else (plain.to_dense(),)
        for part in parts:
            _feed_tensor(total, part)
        return
    if plain.is_quantized:
        plain = plain.int_repr()
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
    if plain.numel():
        total.update(plain.reshape(-1).view(torch.uint8).numpy().data)


def _feed_array(total: Any, array: Any, seen: dict[int, Any], depth: int) -> None:
    total.update(f"{array.dtype.str}{array.dtype.names}{array.shape}".encode())
    mask = getattr(array, "mask", None)
    if array.dtype.hasobject:
        for part in _plain(array).ravel().tolist():
            _feed(total, part, seen, depth + 1)
    elif mask is not None and hasattr(array, "filled"):  # what is under the mask is no data
        total.update(_plain(array.filled()).tobytes())
        total.update(_plain(mask + _zeros_like(array)).tobytes())
    else:
        total.update(_plain(array).tobytes())
    if mask is None:
        _feed_attributes(total, array, seen, depth)


def _plain(array: Any) -> Any:
    """Return an array as numpy's own class, in C order."""
    import numpy as np

    return np.ascontiguousarray(np.asarray(array))


def _zeros_like(array: Any) -> Any:
    import numpy as np

    return np.zeros(array.shape, bool)


def _feed_attributes(total: Any, value: Any, seen: dict[int, Any], depth: int) -> None:
    for name, part in sorted(getattr(value, "__dict__", {}).items()):
        total.update(name.encode())
        _feed(total, part, seen, depth + 1)


def _feed_object(total: Any, value: Any, seen: dict[int, Any], depth: int) -> None:
    if isinstance(value, (weakref.ref, type)) or callable(value):
        total.update(getattr(value, "__qualname__", "").encode())
    elif all(hasattr(value, name) for name in ("tobytes", "mode", "size")):  # a Pillow image
        total.update(f"{value.mode}{value.size}".encode() + value.tobytes())
    elif getattr(value, "__dict__", None) or getattr(type(value), "__slots__", ()):
        _feed_attributes(total, value, seen, depth)
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    _feed(total, getattr(value, name), seen, depth + 1)
    else:
        total.update(_bytes_of(value))


def _bytes_of(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 4)
    except Exception:  # noqa: BLE001 - what cannot be pickled is distinguished by its text
        return _ADDRESS.sub("", repr(value)).encode("utf-8", "replace")


def _type_name(value: Any) -> str:
    """Return the type's full name; a spawned worker knows the script under another name."""
    module = "__main__" if type(value).__module__ == "__mp_main__" else type(value).__module__
    return f"{module}.{type(value).__qualname__}"
