"""Shards that are mapped one by one, as on Windows: the same bytes, and never deleted under a reader."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from cache_making import Made

from dsrface.data.cache.backends import ShardedColumn
from dsrface.data.cache.column import Column
from dsrface.runtime.files import system_error


def test_a_gather_brings_the_records_of_any_shards(made: Made) -> None:
    column = Column(made.outputs)
    sharded = ShardedColumn(column)
    slots = column.slots(0)[np.random.default_rng(0).permutation(len(column.slots(0)))]
    out = torch.empty((len(slots), *column.manifest.shape), dtype=torch.uint8)
    sharded.gather(slots, out)
    column.check(slots, out.numpy())
    sharded.close()


@pytest.mark.skipif(os.name != "nt", reason="elsewhere a deleted file lives on for who has mapped it")
def test_windows_keeps_a_shard_that_is_mapped_and_says_why(made: Made) -> None:
    sharded = ShardedColumn(Column(made.outputs))
    shard = made.outputs / "shard-00000.u8"
    with pytest.raises(PermissionError) as caught:
        shard.unlink()
    assert "training that reads this cache" in system_error(caught.value).hint
    assert shard.exists()
    sharded.close()
