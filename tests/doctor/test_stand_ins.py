"""Objects that stand in for a missing package raise at every attribute; the doctor goes on."""

from __future__ import annotations

import functools

import torch
from test_faults import Found
from torch.utils.data import Dataset

from dsrface.doctor.survey import survey
from dsrface.doctor.targets import Target
from dsrface.runtime.user_code import is_ordinary


class _Raises(type):
    def __getattribute__(cls, name):
        raise ImportError(f"{name} needs a package that is not installed")


class StandIn(metaclass=_Raises):
    """As transformers makes them."""


class Holds(Dataset):
    """A data set that holds one, in a module that holds another."""

    def __init__(self):
        self.missing = StandIn

    def __len__(self):
        return 32

    def __getitem__(self, index):
        return torch.tensor([index])


def test_the_doctor_goes_on_beside_stand_ins():
    assert not is_ordinary(StandIn)
    assert is_ordinary(functools.cache(len))
    found = Found()
    request = {
        "methods": ["spawn"],
        "num_workers": 2,
        "memory_bytes": 1 << 30,
        "batch_size": 4,
        "allow_cuda": False,
        "load_s": 0.5,
        "measure_s": 0.02,
    }
    survey.survey(request, found, Target(Holds()))
    assert found.checks["ds.items"].status == "pass"
    assert not [check for check in found.checks.values() if check.status == "error"]
