"""Objects that stand in for a missing package raise at every attribute; the doctor goes on."""

from __future__ import annotations

import functools

from dsrface.doctor.observe import _has_cache


class _Raises(type):
    def __getattribute__(cls, name):
        raise ImportError(f"{name} needs a package that is not installed")


class StandIn(metaclass=_Raises):
    """As transformers makes them."""


def test_a_stand_in_is_no_cached_function():
    assert not _has_cache(StandIn)
    assert _has_cache(functools.cache(len))
