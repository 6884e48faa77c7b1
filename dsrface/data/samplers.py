"""Which images make up which batch: a function of (seed, epoch) alone, cut by rank.

A sampler yields lists of (epoch, index). The epoch travels with every index because persistent workers keep
the data set they were started with and would never hear of a new epoch otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from dsrface.data import draws
from dsrface.errors import DataError, UsageError

Key = tuple[int, int]
_SIZES_A_BATCH = 4  # sixteen learn no faster, and each costs a pass through the network


class EpochOrder:
    """The order of the images in each epoch.

    Args:
        num_samples: Images in the split.
        seed: With the epoch it fixes the order.
        shuffle: False keeps 0, 1, 2, ... in every epoch (validation).
    """

    def __init__(self, num_samples: int, seed: int, *, shuffle: bool = True) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.shuffle = shuffle

    def __len__(self) -> int:
        return self.num_samples

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """Return int64 [num_samples], each index once."""
        if not self.shuffle:
            return np.arange(self.num_samples, dtype=np.int64)
        return draws.generator(self.seed, epoch, 0, "order").permutation(self.num_samples).astype(np.int64)

    def pieces(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the permutation in pieces, for orders that need not hold the whole of it."""
        yield self.permutation(epoch)


class RankedSampler(Sampler[list[Key]]):
    """What all samplers share: global batches, this rank's slice of each, and a position to resume from.

    Args:
        batch_size: Images a step over all ranks; must divide by `world_size`.
        rank: This process, 0-based.
        world_size: Number of processes.
    """

    def __init__(self, *, batch_size: int, rank: int, world_size: int) -> None:
        if batch_size % world_size:
            raise UsageError(
                f"A batch of {batch_size} cannot be shared by {world_size} processes.",
                id="batch-not-divisible",
                hint=f"Choose a multiple of {world_size} as the batch size.",
            )
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self._epoch = 0
        self._start_batch = 0

    @property
    def num_batches(self) -> int:
        """Batches an epoch, the same on every rank."""
        raise NotImplementedError

    def global_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of every batch of an epoch, over all ranks."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield this rank's indices, int64 [batch / world_size], for every batch of an epoch."""
        for batch in self.global_batches(epoch):
            share = len(batch) // self.world_size
            yield batch[self.rank * share : (self.rank + 1) * share]

    def set_position(self, epoch: int, batch: int = 0) -> None:
        """Make the next iteration begin at `batch` of `epoch`."""
        self._epoch = epoch
        self._start_batch = batch

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self._epoch
        for number, batch in enumerate(self.batches(epoch)):
            if number >= self._start_batch:
                yield [(epoch, index) for index in batch.tolist()]

    def __len__(self) -> int:
        return self.num_batches


class BatchSampler(RankedSampler):
    """Batches cut from an `EpochOrder`.

    Args:
        order: The order of each epoch.
        batch_size: Images a step over all ranks; shrunk when the split is smaller.
        drop_last: Leave out the last, incomplete batch. When kept, it is filled up from the epoch's beginning
            until it divides by `world_size`, so that every rank makes the same number of steps.
        rank: This process, 0-based.
        world_size: Number of processes.
    """

    def __init__(
        self,
        order: EpochOrder,
        *,
        batch_size: int,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(order) == 0:
            raise DataError("The split holds no image.", id="empty-split")
        fitting = min(batch_size, len(order) // world_size * world_size) or batch_size
        super().__init__(batch_size=fitting, rank=rank, world_size=world_size)
        self.order = order
        self.drop_last = drop_last

    @property
    def num_batches(self) -> int:
        """Batches an epoch, the same on every rank."""
        if self.drop_last:
            return len(self.order) // self.batch_size
        return -(-len(self.order) // self.batch_size)

    def global_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of every batch of an epoch, over all ranks."""
        first = rest = np.empty(0, np.int64)
        for piece in self.order.pieces(epoch):
            rest = np.concatenate([rest, piece]) if len(rest) else piece
            if len(first) < self.world_size:
                first = np.concatenate([first, piece])[: self.world_size]
            num_whole = len(rest) // self.batch_size
            yield from rest[: num_whole * self.batch_size].reshape(num_whole, self.batch_size)
            rest = rest[num_whole * self.batch_size :]
        if len(rest) and not self.drop_last:
            yield np.concatenate([rest, np.resize(first, -len(rest) % self.world_size)])


class ManySizesSampler(BatchSampler):
    """Batches whose keys name a size as well: (epoch, index, size in pixels).

    Every batch holds four sizes, evenly apart in what there is to draw from. What a step gains at one size
    it loses at others: with one size a batch, steps undo one another and hardly anything is learned.

    Args:
        order: The order of each epoch.
        sizes_px: Sizes to draw from.
        batch_size: Images a step over all ranks.
        rank: This process, 0-based.
        world_size: Number of processes.
    """

    def __init__(
        self,
        order: EpochOrder,
        *,
        sizes_px: Sequence[int],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(order, batch_size=batch_size, drop_last=False, rank=rank, world_size=world_size)
        self.sizes_px = tuple(sizes_px)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:  # type: ignore[override]
        numbers = np.arange(self.num_batches, dtype=np.int64)
        drawn = draws.uniform(self.order.seed, self._epoch, numbers, num=1, stream="sizes")[:, 0]
        for keys, offset in zip(super().__iter__(), drawn[self._start_batch :].tolist(), strict=True):
            yield [(*key, self._size(offset, place / len(keys))) for place, key in enumerate(keys)]

    def _size(self, offset: float, place: float) -> int:
        """Return the size of the key at a place, in [0, 1), of a batch with this draw."""
        where = (offset + int(place * _SIZES_A_BATCH) / _SIZES_A_BATCH) % 1
        return self.sizes_px[int(where * len(self.sizes_px))]


def in_order(num_samples: int, *, batch_size: int) -> BatchSampler:
    """Return a sampler that gives every image once, in the order of the split, whole on one rank."""
    return BatchSampler(EpochOrder(num_samples, 0, shuffle=False), batch_size=batch_size, drop_last=False)


class PersonSampler(RankedSampler):
    """P persons x K images a batch, persons in equal shares, no person twice in a batch.

    Args:
        labels: int64 [N], person of each image, 0-based without gaps.
        persons_per_batch: P; shrunk when there are fewer persons.
        images_per_person: K; a person with fewer images has some repeated.
        seed: With the epoch it fixes the order.
        rank: This process, 0-based.
        world_size: Number of processes; P must divide by it.
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        persons_per_batch: int,
        images_per_person: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        counts = np.bincount(labels.numpy())
        if len(counts) == 0:
            raise DataError("The split holds no image.", id="empty-split")
        fitting = min(persons_per_batch, len(counts) // world_size * world_size) or persons_per_batch
        if fitting % world_size:
            raise UsageError(
                f"{fitting} persons a batch cannot be shared by {world_size} processes.",
                id="batch-not-divisible",
            )
        super().__init__(batch_size=fitting * images_per_person, rank=rank, world_size=world_size)
        self.persons_per_batch = fitting
        self.images_per_person = images_per_person
        self.seed = seed
        self._members = np.argsort(labels.numpy(), kind="stable").astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def num_batches(self) -> int:
        """Batches an epoch: as many as show each image once on average, at least one."""
        return max(1, len(self._members) // self.batch_size)

    def global_batches(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of every batch of an epoch, over all ranks; a person's images stay together."""
        rng = draws.generator(self.seed, epoch, 0, "persons")
        # Sorting by person, then by a random number, shuffles every person's images in one call.
        persons = np.repeat(np.arange(len(self._starts) - 1), np.diff(self._starts))
        shuffled = self._members[np.lexsort((rng.random(len(persons)), persons))]
        used = np.zeros(len(self._starts) - 1, np.int64)
        queue = np.empty(0, np.int64)
        for _ in range(self.num_batches):
            if len(queue) < self.persons_per_batch:
                fresh = rng.permutation(len(used)).astype(np.int64)
                waiting = np.isin(fresh, queue)
                queue = np.concatenate([queue, fresh[~waiting], fresh[waiting]])
            chosen, queue = queue[: self.persons_per_batch], queue[self.persons_per_batch :]
            start, count = self._starts[chosen], np.diff(self._starts)[chosen]
            turn = used[chosen][:, None] + np.arange(self.images_per_person)[None, :]
            used[chosen] += self.images_per_person
            yield shuffled[(start[:, None] + turn % count[:, None]).reshape(-1)]
