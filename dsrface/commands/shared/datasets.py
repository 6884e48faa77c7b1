"""The data sets that commands read; each is built here, and `dsrface doctor` examines the same ones."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.augment import geometry_of
from dsrface.data.datasets import ManySizesDataset, PairDataset
from dsrface.data.layout import FaceData, FaceSplit
from dsrface.data.native import NativeDataset
from dsrface.errors import DataError
from dsrface.types import SPLITS


def outputs_of(split: FaceSplit, data: FaceData, folder: Path) -> Path:
    """Return where the DSR outputs of a split are, given the folder that the user named.

    Named may be one split's folder (`DATA/train/dsr_outputs_16x16`, its twin in the other splits is found), a
    folder with one sub-folder a split, or a folder that holds all images.
    """
    for root in {other.root for other in data.splits.values()}:
        with contextlib.suppress(ValueError):
            relative = folder.resolve().relative_to(root.resolve())
            if relative.parts:
                return split.root / relative
    named = folder / split.name
    if folder.parent.name in SPLITS and not named.is_dir():  # of a copy of the data set
        named = folder.parent.parent / split.name / folder.name
    return named if named.is_dir() else folder


def faces_of(config: FinetuneConfig, data: FaceData, name: str) -> FaceSplit:
    """Return the faces of a split that a recogniser is trained on; of native ones those that its mode takes.

    Raises:
        DataError: a native data set, and HR faces are wanted or the DSR's inputs to be drawn.
    """
    split = data.split(name)
    if not data.is_native:
        return split
    if config.hr_only or config.teacher is not None or config.augment.before_dsr:
        data.require_twins()
    return split if config.no_dsr else split.at(config.vlr_size)


def whole_persons(split: FaceSplit, max_images: int, *, seed: int) -> list[int]:
    """Return the images of as many persons, in seeded order, as fit into `max_images`; at least two."""
    counts = np.bincount(split.labels.numpy(), minlength=len(split.persons))
    order = np.random.default_rng(seed).permutation(len(counts))
    num_persons = max(2, int(np.searchsorted(np.cumsum(counts[order]), max_images, side="right")))
    return np.flatnonzero(np.isin(split.labels.numpy(), order[:num_persons])).tolist()


def dsr_pairs(config: TrainDsrConfig, data: FaceData, train: FaceSplit) -> PairDataset:
    """Return the pairs that a super-resolution network is trained on; one for many sizes makes its inputs.

    Both twins are only mirrored, not moved, where it is not recorded how the VLR images were made.
    """
    augment = geometry_of(config.augment) if config.augment.enabled else None
    if DSR_NETWORKS[config.model.arch].takes_any_size:
        return ManySizesDataset(train, size_px=config.vlr_size, augment=augment, seed=config.seed)
    return PairDataset(
        train,
        inputs=train.low_dir(config.vlr_size),
        augment=augment,
        seed=config.seed,
        degradation=data.degradation(config.vlr_size),
    )


def recogniser_pairs(
    config: FinetuneConfig, data: FaceData, split: FaceSplit, *, is_training: bool
) -> PairDataset | NativeDataset:
    """Return the pairs of a mode; live mode can draw its geometry here, before the DSR.

    Raises:
        DataError: `augment.before_dsr` on data whose degradation is unknown.
    """
    if data.is_native:
        folder = None if config.no_dsr else split.low_dir(config.vlr_size)
        if config.dsr_outputs is not None:
            folder = outputs_of(split, data, config.dsr_outputs)
        return NativeDataset(split, folder=folder, is_enlarged=config.live is None)
    if config.dsr_outputs is not None:
        return PairDataset(split, inputs=outputs_of(split, data, config.dsr_outputs))
    inputs = split.high_dir if config.hr_only else split.low_dir(config.vlr_size)
    if not (is_training and config.live is not None and config.augment.before_dsr):
        return PairDataset(split, inputs=inputs)
    degradation = data.degradation(config.vlr_size)
    if degradation is None:
        raise DataError(
            "How the VLR images were made is not recorded, so moved HR images cannot be degraded again.",
            id="unknown-degradation",
            where=data.root,
            hint="Use --set augment.before_dsr=false, or make the data set with `dsrface prepare`.",
        )
    return PairDataset(
        split, inputs=inputs, augment=geometry_of(config.augment), seed=config.seed, degradation=degradation
    )
