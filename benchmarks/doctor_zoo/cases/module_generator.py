"""A generator as a module variable: in a file of its own, for it concerns all data sets of its file."""

from __future__ import annotations

import numpy as np
import torch
from declare import fault
from inputs import Rows

JITTER = np.random.default_rng(7)


class Jittered(Rows):
    def __getitem__(self, index):
        return torch.from_numpy(JITTER.random(4)), index


@fault(
    "ds.rng",
    where="JITTER",
    fix="initial_seed|get_worker_info|manual_seed|per item|the index",
    is_silent=True,
    plain="twins",
)
def module_generator():
    """A generator as a module variable."""
    return Jittered()
