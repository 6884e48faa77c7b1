"""What `finetune` reads: the training batches of its mode, and the small sets it holds in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dsrface.commands.shared.datasets import faces_of, outputs_of, recogniser_pairs, whole_persons
from dsrface.commands.shared.workers import choose_workers
from dsrface.config.finetune import FinetuneConfig
from dsrface.data import draws
from dsrface.data.layout import FaceData, FaceSplit
from dsrface.data.loaders import make_loader
from dsrface.data.outputs.given import is_cache
from dsrface.data.outputs.opening import check_outputs, make_order, open_outputs
from dsrface.data.samplers import BatchSampler, EpochOrder, PersonSampler, RankedSampler, in_order
from dsrface.engine.context import BatchSource, RunContext
from dsrface.engine.inference import Images, gather
from dsrface.errors import DataError
from dsrface.events import Note
from dsrface.runtime.files import write_json
from dsrface.runtime.text import count_text

_FEW_GENUINE_PAIRS = 30  # each error is then 3 % or less
_MIN_LEFT = 2  # images that a person keeps for training
_NATIVE = (
    "native faces, without HR twins: no anchor and no HR rows; validated by pairs of the faces that are there"
)
_ALONE = (
    "no person in validation has two images: checkpoints are chosen by how a mirrored and moved copy of each "
    "image finds that image among the others, which says little of other photos; no thresholds are chosen"
)
_PART = 4096  # images held in memory at once while the head's first weights are computed


def hold_out(split: FaceSplit, *, fraction: float, max_images: int, seed: int) -> tuple[list[int], list[int]]:
    """Choose images of training persons to keep out, for closed-set accuracy; by seed, image by image.

    Args:
        split: The training split.
        fraction: Share of the images, in [0, 1); every person keeps at least two.
        max_images: Images kept out at most.
        seed: Seed of the run.

    Returns:
        Indices to train on, indices kept out; both ascending.
    """
    draw = draws.uniform(seed, 0, np.arange(len(split), dtype=np.int64), num=1, stream="holdout")[:, 0]
    labels = split.labels.numpy()
    is_out = draw < fraction
    kept = np.bincount(labels[~is_out], minlength=len(split.persons))
    is_out &= kept[labels] >= _MIN_LEFT
    if is_out.sum() > max_images:
        is_out &= draw < np.partition(draw[is_out], max_images)[max_images]
    return np.flatnonzero(~is_out).tolist(), np.flatnonzero(is_out).tolist()


def first_per_person(split: FaceSplit, num: int) -> list[int]:
    """Return the indices of at most `num` images of every person."""
    labels = split.labels.numpy()
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order], side="left")
    return sorted(order[np.arange(len(labels)) - starts < num].tolist())


@dataclass
class RecogniserData:
    """The opened data of one run.

    Args:
        config: The command's configuration.
        data: The data set.
        train: Training images, without those kept out.
        holdout: Kept-out images of the same persons; may be empty.
        val: Validation persons.
        are_alone: No validation person has two images.
        num_workers: Worker processes that feed the training.
        context: Device, ranks, events.
        stack: Closes what was opened.
    """

    config: FinetuneConfig
    data: FaceData
    train: FaceSplit
    holdout: FaceSplit
    val: FaceSplit
    are_alone: bool
    num_workers: int
    context: RunContext
    stack: contextlib.ExitStack

    def source(self) -> BatchSource:
        """Open the training batches."""
        config, context = self.config, self.context
        ranks = context.ranks
        if config.images_per_person:
            sampler: RankedSampler = PersonSampler(
                self.train.labels,
                persons_per_batch=config.batch_size // config.images_per_person,
                images_per_person=config.images_per_person,
                seed=config.seed,
                rank=ranks.rank,
                world_size=ranks.world_size,
            )
        else:
            sampler = BatchSampler(
                self._order(),
                batch_size=config.batch_size,
                drop_last=False,
                rank=ranks.rank,
                world_size=ranks.world_size,
            )
        return self._open(self.train, sampler, num_workers=self.num_workers, is_training=True)

    def val_images(self) -> Images:
        """Read the validation images, inputs and HR, into memory."""
        return self._read(self.val)

    def holdout_images(self) -> Images | None:
        """Read the kept-out images into memory."""
        return self._read(self.holdout) if len(self.holdout) else None

    def some_images(self, num_per_person: int) -> Iterator[Images]:
        """Read a few training images of every person, a part at a time; all at once may fill the memory."""
        chosen = first_per_person(self.train, num_per_person)
        for start in range(0, len(chosen), _PART):
            yield self._read(self.train.subset(chosen[start : start + _PART]))

    def _order(self) -> EpochOrder:
        if self.config.dsr_outputs is None:
            return EpochOrder(len(self.train), self.config.seed)
        folder = outputs_of(self.train, self.data, self.config.dsr_outputs)
        return make_order(self.train, folder, seed=self.config.seed)

    def _read(self, split: FaceSplit) -> Images:
        sampler = in_order(len(split), batch_size=64)
        with contextlib.ExitStack() as stack:
            source = self._open(split, sampler, num_workers=0, is_training=False, stack=stack)
            return gather(source.epoch(0))

    def _open(
        self,
        split: FaceSplit,
        sampler: RankedSampler,
        *,
        num_workers: int,
        is_training: bool,
        stack: contextlib.ExitStack | None = None,
    ) -> BatchSource:
        config = self.config
        stack = stack if stack is not None else self.stack
        if config.dsr_outputs is not None:
            emit = self.context.emit
            outputs = open_outputs(
                split,
                outputs_of(split, self.data, config.dsr_outputs),
                sampler=sampler,
                size_px=config.vlr_size,
                has_twins=not self.data.is_native,
                device=self.context.device.torch_name if is_training else "cpu",
                resident=config.resident if is_training else "never",
                num_workers=num_workers,
                settings=config.loader,
                note=(lambda text: emit(Note(text))) if is_training else None,
            )
            return stack.enter_context(contextlib.closing(outputs))
        loader = make_loader(
            recogniser_pairs(config, self.data, split, is_training=is_training),
            sampler,
            num_workers=num_workers,
            pin_memory=is_training and self.context.device.kind == "cuda",
            settings=config.loader,
        )
        return stack.enter_context(loader)


@contextlib.contextmanager
def open_recogniser_data(
    config: FinetuneConfig, data: FaceData, context: RunContext
) -> Iterator[RecogniserData]:
    """Choose what is trained on, kept out and validated; check that it can be; record it in the run folder.

    Raises:
        DataError: a twin is missing, or there are no two validation persons.
    """
    train, val = faces_of(config, data, "train"), faces_of(config, data, "val")
    if data.is_native:
        context.emit(Note(_NATIVE))
    elif config.mode in ("live", "bicubic"):
        for doubt in data.check_twins(config.vlr_size, "train", "val"):
            context.emit(Note(doubt, is_warning=True))
    if config.dsr_outputs is not None:
        folders = [outputs_of(split, data, config.dsr_outputs) for split in (train, val)]
        for split, folder in zip((train, val), folders, strict=True):
            check_outputs(split, folder)
        context.emit(Note(f"DSR outputs: {folders[0]} to train on, {folders[1]} to validate"))
    val = val.subset(whole_persons(val, config.eval.max_images, seed=config.seed))
    _check_val(val, data)
    num_genuine = _num_genuine(val)
    if doubt := _doubt(num_genuine):
        context.emit(Note(doubt, is_warning=True))
    kept, out = hold_out(
        train, fraction=config.eval.holdout_fraction, max_images=config.eval.max_images, seed=config.seed
    )
    holdout, train = train.subset(out), train.subset(kept)
    if context.ranks.is_main:
        record = {"seed": config.seed, "fraction": config.eval.holdout_fraction, "names": list(holdout.names)}
        write_json(context.folder.path / "holdout.json", record)
    context.emit(
        Note(
            f"mode {config.mode}: {count_text(len(train), 'image')} of "
            f"{count_text(len(train.persons), 'person')}, {len(holdout)} kept out for closed-set accuracy, "
            f"{count_text(len(val), 'image')} of validation persons"
        )
    )
    num_workers = _num_workers(config, data, train, context)
    with contextlib.ExitStack() as stack:
        are_alone = not num_genuine
        yield RecogniserData(config, data, train, holdout, val, are_alone, num_workers, context, stack)


def _num_workers(config: FinetuneConfig, data: FaceData, train: FaceSplit, context: RunContext) -> int:
    if config.dsr_outputs is not None and is_cache(outputs_of(train, data, config.dsr_outputs)):
        context.emit(Note("workers: 0 (a packed cache is read by a thread; it needs none)"))
        return 0
    pairs = recogniser_pairs(config, data, train, is_training=True)
    return choose_workers(config.workers, pairs, batch_size=config.batch_size, context=context)


def _doubt(num_genuine: int) -> str:
    """Return what too few pairs of one person mean for validation; empty where there are enough."""
    if not num_genuine:
        return _ALONE
    if num_genuine >= _FEW_GENUINE_PAIRS:
        return ""
    return (
        f"validation has {count_text(num_genuine, 'pair')} of one person: checkpoints are chosen by luck; "
        f"{_FEW_GENUINE_PAIRS} or more are better"
    )


def _num_genuine(val: FaceSplit) -> int:
    counts = np.bincount(val.labels.numpy())
    return int((counts * (counts - 1) // 2).sum())


def _check_val(val: FaceSplit, data: FaceData) -> None:
    num_persons = (np.bincount(val.labels.numpy()) > 0).sum()
    if num_persons < 2:
        raise DataError(
            f"The validation split ({len(val)} images of {num_persons} person) gives no pairs to verify: it "
            "needs two persons.",
            id="no-genuine-pairs",
            where=data.root,
            hint="Prepare the data with more validation persons, e.g. --split 0.7,0.15,0.15.",
        )
