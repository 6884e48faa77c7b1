from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsrface.data.names import PackedStrings
from dsrface.data.samplers import BatchSampler, EpochOrder, ManySizesSampler, PersonSampler
from dsrface.errors import DataError, UsageError


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    order = EpochOrder(103, seed=3)
    first, second = order.permutation(0), order.permutation(1)
    assert sorted(first) == sorted(second) == list(range(103))
    assert (first != second).any()
    assert (EpochOrder(103, seed=3).permutation(0) == first).all()
    assert (EpochOrder(103, seed=4).permutation(0) != first).any()
    assert (EpochOrder(9, 0, shuffle=False).permutation(5) == np.arange(9)).all()


@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_share_the_global_batches(drop_last: bool) -> None:
    order = EpochOrder(103, seed=0)
    whole = list(BatchSampler(order, batch_size=12, drop_last=drop_last).batches(2))
    parts = [
        list(BatchSampler(order, batch_size=12, drop_last=drop_last, rank=rank, world_size=3).batches(2))
        for rank in range(3)
    ]
    assert len({len(part) for part in parts}) == 1
    for number, batch in enumerate(whole):
        together = np.concatenate([part[number] for part in parts])
        assert (together[: len(batch)] == batch).all()
        assert len(together) % 3 == 0
    assert len(whole) == (8 if drop_last else 9)


def test_a_batch_has_four_sizes_far_apart_and_a_resumed_epoch_the_same_ones() -> None:
    def batches(start: int, rank: int = 0, world_size: int = 1) -> list[list[tuple[int, int, int]]]:
        order = EpochOrder(103, seed=1)
        place = {"rank": rank, "world_size": world_size}
        sampler = ManySizesSampler(order, sizes_px=range(8, 49), batch_size=6, **place)
        sampler.set_position(2, start)
        return list(sampler)

    whole = batches(0)
    sizes = [{key[2] for key in batch} for batch in whole]
    assert all(len(found) == 4 for found in sizes[:-1])
    assert len(sizes[-1]) == 1  # its last batch is one face
    assert all(max(found) - min(found) >= 30 for found in sizes[:-1])
    assert len(set.union(*sizes)) > 30
    assert set.union(*sizes) <= set(range(8, 49))
    assert batches(5) == whole[5:]
    of_rank = [{key[2] for key in batch} for batch in batches(0, rank=1, world_size=2)]
    assert all(len(found) == 3 and found <= whole for found, whole in zip(of_rank[:-1], sizes, strict=False))
    assert {key[0] for batch in whole for key in batch} == {2}


class _InPieces(EpochOrder):
    """The same permutation, given piece by piece."""

    def __init__(self, cuts: list[int], num_samples: int) -> None:
        super().__init__(num_samples, seed=0)
        self.cuts = cuts

    def pieces(self, epoch: int) -> Iterator[np.ndarray]:
        yield from np.split(self.permutation(epoch), self.cuts)


@given(
    cuts=st.lists(st.integers(0, 47), max_size=8).map(sorted),
    batch=st.integers(1, 5),
    world_size=st.integers(1, 4),
    drop_last=st.booleans(),
)
def test_batches_do_not_depend_on_the_pieces_that_the_order_comes_in(
    cuts: list[int], batch: int, world_size: int, drop_last: bool
) -> None:
    options = {"batch_size": batch * world_size, "world_size": world_size, "drop_last": drop_last}
    whole, pieces = (
        [indices.tolist() for indices in BatchSampler(order, rank=world_size - 1, **options).batches(3)]
        for order in (EpochOrder(47, seed=0), _InPieces(cuts, 47))
    )
    assert pieces == whole
    assert len(whole) == BatchSampler(EpochOrder(47, seed=0), **options).num_batches


def test_a_position_skips_batches_without_changing_them() -> None:
    sampler = BatchSampler(EpochOrder(50, seed=0), batch_size=8)
    sampler.set_position(4)
    whole = list(sampler)
    sampler.set_position(4, 3)
    assert list(sampler) == whole[3:]
    assert all(epoch == 4 for batch in whole for epoch, _ in batch)


def test_a_small_split_shrinks_the_batch_and_an_empty_one_is_refused() -> None:
    assert [len(batch) for batch in BatchSampler(EpochOrder(5, 0), batch_size=32)] == [5]
    with pytest.raises(DataError):
        BatchSampler(EpochOrder(0, 0), batch_size=32)
    with pytest.raises(UsageError):
        BatchSampler(EpochOrder(100, 0), batch_size=10, world_size=3)


def test_person_batches_hold_p_persons_with_k_images_each() -> None:
    labels = torch.tensor(np.repeat(np.arange(11), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 45]))
    sampler = PersonSampler(labels, persons_per_batch=4, images_per_person=3, seed=0)
    seen: list[int] = []
    for epoch in range(3):
        batches = list(sampler.global_batches(epoch))
        assert len(batches) == sampler.num_batches == 8
        for batch in batches:
            persons = labels[batch].reshape(4, 3)
            assert (persons == persons[:, :1]).all()
            assert len(set(persons[:, 0].tolist())) == 4
            seen += persons[:, 0].tolist()
    counts = np.bincount(seen, minlength=11)
    assert counts.min() >= 7
    assert counts.max() <= 10
    again = list(PersonSampler(labels, persons_per_batch=4, images_per_person=3, seed=0).global_batches(2))
    assert all((a == b).all() for a, b in zip(again, batches, strict=True))


def test_a_persons_images_come_round_before_any_is_repeated() -> None:
    labels = torch.tensor([0] * 6 + [1] * 6)
    sampler = PersonSampler(labels, persons_per_batch=2, images_per_person=3, seed=5)
    assert sorted(np.concatenate(list(sampler.global_batches(0)))) == list(range(12))


def test_packed_strings_keep_any_name() -> None:
    names = ["", "anna/a.png", "имя_名前_é_😀", "new\nline", "raw\udcff"]
    packed = PackedStrings.from_list(names)
    assert list(packed) == [packed[i] for i in range(5)] == names
    assert packed[-1] == names[-1]
    assert list(packed[1:3]) == names[1:3]
    assert packed == PackedStrings.from_list(names)
    assert len(PackedStrings.from_list([])) == 0
    with pytest.raises(IndexError):
        packed[5]
