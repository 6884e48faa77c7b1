"""Where a threshold comes from: the user, the recogniser's file, or the validation persons of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dsrface.commands.shared.early import no_size_to_calibrate, no_threshold, val_too_small
from dsrface.config.people import EnrolConfig, VerifyConfig
from dsrface.data.augment import to_image01
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import open_data
from dsrface.engine.inference import embed, read_all, run_batched
from dsrface.engine.recognition_task import input_maker
from dsrface.engine.thresholds import thresholds_of
from dsrface.errors import WeightsError
from dsrface.events import Emit, Note
from dsrface.metrics.thresholds import StoredThresholds, Threshold
from dsrface.models.loaded import LoadedModel
from dsrface.runtime.devices import Device
from dsrface.runtime.text import count_text


@dataclass(frozen=True)
class Decision:
    """From which cosine on two images show one person.

    Args:
        score: The threshold.
        far: Share of strangers that it accepts; None when the user gave the threshold.
        text: Where it comes from, in words.
    """

    score: float
    far: float | None
    text: str


def decide(
    config: EnrolConfig | VerifyConfig,
    recogniser: LoadedModel,
    dsr: LoadedModel | None,
    device: Device,
    emit: Emit,
) -> Decision:
    """Return the threshold that a command asks for.

    Raises:
        UsageError: there is none (`no-threshold`), or the validation persons are too few for it
            (`val-too-small`).
    """
    if config.threshold is not None:
        return Decision(config.threshold, None, f"threshold {config.threshold:.3f}, as given")
    if config.calibrate is not None:
        found = _calibrated(config, recogniser, dsr, device, emit)
        return _decision(found, f"chosen on validation persons of {config.calibrate}")
    stored = stored_thresholds(recogniser)
    threshold = stored.at(config.far) if stored else None
    if stored is None or threshold is None:
        have = [item.far for item in stored.chosen] if stored else []
        raise no_threshold(recogniser.name, recogniser.path, config.far, have, config.command)
    images, size = stored.conditions.get("images"), stored.conditions.get("vlr_size")
    if dsr is None and images == "DSR":
        emit(Note("the threshold was chosen on super-resolved faces, and no --dsr is given", is_warning=True))
    of_size = "" if images == "HR" else f" of {size} px"
    if dsr is not None and (images != "DSR" or dsr.vlr_size not in (None, size)):
        doubt = f"the threshold was chosen on {images} faces{of_size}, not on what this DSR makes"
        emit(Note(f"{doubt}; --calibrate DATA chooses one for that", is_warning=True))
    return _decision(threshold, f"from its file, for {images} faces{of_size}")


def stored_thresholds(recogniser: LoadedModel) -> StoredThresholds | None:
    """Return the thresholds in a recogniser's file, or None.

    Raises:
        WeightsError: they cannot be read.
    """
    if "thresholds" not in recogniser.metadata:
        return None
    try:
        return StoredThresholds.from_json(recogniser.metadata["thresholds"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"The thresholds in the file cannot be read: {error!r}.",
            id="weights-metadata",
            where=recogniser.path,
        ) from None


def _calibrated(
    config: EnrolConfig | VerifyConfig,
    recogniser: LoadedModel,
    dsr: LoadedModel | None,
    device: Device,
    emit: Emit,
) -> Threshold:
    assert config.calibrate is not None
    vlr_size = config.vlr_size or (dsr.vlr_size if dsr else None)
    if vlr_size is None:
        raise no_size_to_calibrate(config)
    data = open_data(config.calibrate)
    data.require_twins()
    split = data.split("val")
    images = read_all(PairDataset(split, inputs=split.low_dir(vlr_size)))
    emit(Note(f"choosing the threshold on {len(split)} images of {len(split.persons)} validation persons"))
    make_inputs = input_maker("bicubic" if dsr is None else "live", dsr.model if dsr else None, device)

    def embedded(faces: Tensor, *, is_small: bool) -> NDArray[np.float32]:
        def function(batch: Tensor) -> Tensor:
            pixels = to_image01(make_inputs(batch, batch) if is_small else batch)
            return embed(recogniser.model, pixels, recogniser.preprocess, device=device, is_high=not is_small)

        return run_batched(function, faces, batch_size=config.batch_size, device=device).numpy()

    gallery, probes = embedded(images.high, is_small=False), embedded(images.inputs, is_small=True)
    chosen = thresholds_of(gallery, probes, images.labels.numpy(), fars=(config.far,), seed=0)
    if not chosen:
        raise val_too_small(config, len(split.persons))
    return chosen[0]


def _decision(found: Threshold, origin: str) -> Decision:
    score = found.score
    assert score.value is not None
    interval = "" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]"
    return Decision(
        score.value,
        found.far,
        f"threshold {score.value:.3f}{interval}, {origin}: accepts {found.far:.2%} of strangers and "
        f"{found.tar:.1%} of genuine pairs there ({count_text(found.num_persons, 'person')})",
    )
