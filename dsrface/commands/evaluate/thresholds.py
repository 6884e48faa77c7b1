"""Thresholds for use: chosen on the validation persons, applied to the split that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsrface.commands.evaluate.figures import cosines
from dsrface.commands.evaluate.images import Measured, Networks, measure
from dsrface.commands.evaluate.result import HR, RAW, HeldThreshold
from dsrface.commands.shared.datasets import outputs_of
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.layout import FaceData, FaceSplit
from dsrface.data.pairs import Pairs, both_ways
from dsrface.engine.thresholds import thresholds_of
from dsrface.events import Emit, Note
from dsrface.metrics.bootstrap import MIN_PERSONS, draw_persons
from dsrface.metrics.thresholds import apply_thresholds
from dsrface.runtime.devices import Device


def hold_thresholds(
    config: EvaluateConfig,
    data: FaceData,
    split: FaceSplit,
    networks: Networks,
    measured: Measured,
    pairs: Pairs,
    *,
    num_workers: int,
    device: Device,
    emit: Emit,
) -> tuple[HeldThreshold, ...]:
    """Choose thresholds on the validation persons and apply them to the split that is measured.

    Args:
        config: Of the command.
        data: The data set.
        split: What was measured.
        networks: With what.
        measured: Embeddings of the split.
        pairs: Of the split, for error rates.
        num_workers: Processes that read images.
        device: Where the networks are.
        emit: Takes notes and progress.
    """
    val = data.splits.get("val")
    if split.name == "val" or val is None:
        return ()
    if len(val.persons) < MIN_PERSONS:
        emit(
            Note(f"no threshold: it takes {MIN_PERSONS} validation persons, and there are {len(val.persons)}")
        )
        return ()
    outputs = None if config.dsr_outputs is None else outputs_of(val, data, config.dsr_outputs)
    emit(Note(f"choosing thresholds on {len(val)} images of {len(val.persons)} validation persons"))
    chosen_on = measure(
        val,
        replace(networks, dsr_outputs=outputs),
        vlr_size=config.vlr_size,
        batch_size=config.batch_size,
        num_workers=num_workers,
        device=device,
        emit=emit,
        flip=config.flip,
    )
    return hold(
        chosen_on,
        measured,
        val_persons=val.labels.numpy(),
        persons=split.labels.numpy(),
        pairs=pairs,
        fars=config.fars,
        counts=draw_persons(len(split.persons), num_draws=config.bootstrap, seed=config.seed),
        seed=config.seed,
    )


def hold(
    chosen_on: Measured,
    measured: Measured,
    *,
    val_persons: NDArray[np.int64],
    persons: NDArray[np.int64],
    pairs: Pairs,
    fars: Sequence[float],
    counts: NDArray[np.uint16],
    seed: int,
) -> tuple[HeldThreshold, ...]:
    """Return the thresholds of HR galleries and VLR probes, chosen on some persons, held against others.

    Args:
        chosen_on: Embeddings of the validation persons.
        measured: Embeddings of the split that is measured.
        val_persons: Person of each validation image.
        persons: Person of each image of the split.
        pairs: Of the split; each is taken both ways.
        fars: False-accept rates that are asked for.
        counts: Bootstrap draws of the split's persons.
        seed: Of the validation pairs.
    """
    held = []
    trials = both_ways(pairs)
    first, second = persons[trials.first], persons[trials.second]
    for kind, recogniser in measured.features:
        if kind == HR or recogniser == RAW:
            continue
        scores = cosines(measured.features[HR, recogniser], measured.features[kind, recogniser], trials)
        chosen = thresholds_of(
            chosen_on.features[HR, recogniser],
            chosen_on.features[kind, recogniser],
            val_persons,
            fars=fars,
            seed=seed,
        )
        values = [item.score.value for item in chosen if item.score.value is not None]
        applied = apply_thresholds(values, scores, trials.is_same, first, second, counts=counts)
        held += [
            HeldThreshold(kind, recogniser, item, found.far, found.tar)
            for item, found in zip(chosen, applied, strict=True)
        ]
    return tuple(held)
