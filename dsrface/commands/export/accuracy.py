"""What rounding a network to fp16 or int8 costs on the val faces of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dsrface.commands.shared.datasets import whole_persons
from dsrface.config.export import ExportConfig
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceData, open_data
from dsrface.data.native import NativeDataset
from dsrface.engine.inference import Images, read_all
from dsrface.engine.validation_pairs import compare, verification_metrics
from dsrface.errors import DataError
from dsrface.metrics.image_quality import psnr_db
from dsrface.models.loaded import LoadedModel
from dsrface.models.preprocess import network_input
from dsrface.models.resize import resize_bicubic

_BATCH = 32
_MAX_IMAGES = 400  # whole persons; more would hardly move a layer's range
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """A figure of the rounded network and that of the network in fp32, on the same faces.

    Args:
        metric: `eer`, of HR faces against enlarged VLR ones (native faces against one another); or `psnr_db`.
        fp32: Of the network as it was trained.
        rounded: Of the file.
        allowed_loss: How much worse it may be.
        num_images: Val images that both were measured on.
    """

    metric: str
    fp32: float
    rounded: float
    allowed_loss: float
    num_images: int

    @property
    def loss(self) -> float:
        """How much worse the file is, in the unit of the metric; negative when it is better."""
        change = self.rounded - self.fp32
        return change if self.metric == "eer" else -change

    @property
    def is_kept(self) -> bool:
        """Whether the loss is allowed."""
        return self.loss <= self.allowed_loss

    @property
    def text(self) -> str:
        """The comparison in words."""
        if self.metric == "eer":
            return f"EER on val {self.rounded:.2%}, in fp32 {self.fp32:.2%}"
        return f"PSNR on val {self.rounded:.2f} dB, in fp32 {self.fp32:.2f} dB"


class ValFaces:
    """The val faces that calibrate a rounded network and judge it.

    Args:
        config: With the data set.
        loaded: The network; as `config.pixels` has it.

    Raises:
        DataError: the data set has no val split, or no twins where a DSR needs them, or too few persons.
    """

    def __init__(self, config: ExportConfig, loaded: LoadedModel) -> None:
        assert config.data is not None
        self._config, self._loaded = config, loaded
        data = open_data(config.data)
        self._images = _read(data, loaded)
        if loaded.kind == "recogniser":
            counts = torch.bincount(self._images.labels)
            if (counts > 0).sum() < 2 or counts.max() < 2:
                raise DataError(
                    "The val faces give no pairs to verify, so what rounding costs cannot be measured.",
                    id="too-few-persons",
                    where=config.data,
                    hint="Give a data set with two val persons or more and several images each.",
                )

    def batches(self) -> list[Tensor]:
        """Return all faces as the network takes them, in batches."""
        images = [self._images.inputs]
        if self._loaded.kind == "recogniser":
            images.append(self._images.high)
        return [part for image in images for part in self._inputs(image)]

    def compare(self, fp32: Predict, rounded: Predict) -> Accuracy:
        """Measure both networks."""
        is_dsr = self._loaded.kind == "dsr"
        measure = self._psnr if is_dsr else self._eer
        allowed = self._config.max_psnr_loss_db if is_dsr else self._config.max_eer_loss
        metric = "psnr_db" if is_dsr else "eer"
        return Accuracy(metric, measure(fp32), measure(rounded), allowed, len(self._images))

    def _inputs(self, images: Tensor) -> Iterator[Tensor]:
        for part in torch.split(images, _BATCH):
            image = to_image01(part)
            is_dsr = self._loaded.kind == "dsr"
            yield (image if is_dsr else network_input(image, self._loaded.preprocess)).contiguous()

    def _psnr(self, predict: Predict) -> float:
        outputs = torch.cat([to_image_u8(predict(batch)) for batch in self._inputs(self._images.inputs)])
        return float(psnr_db(to_image01(outputs), to_image01(self._images.high)).mean())

    def _eer(self, predict: Predict) -> float:
        gallery, probes = (
            functional.normalize(torch.cat([predict(batch).float() for batch in self._inputs(images)]), dim=1)
            for images in (self._images.high, self._images.inputs)
        )
        return verification_metrics(*compare(gallery, probes, self._images.labels))["eer"]


def _read(data: FaceData, loaded: LoadedModel) -> Images:
    """Return val faces; a recogniser's inputs enlarged to 112x112."""
    val = data.split("val")
    if data.is_native and loaded.kind == "recogniser":
        val = val.subset(whole_persons(val, _MAX_IMAGES, seed=0))
        return read_all(NativeDataset(val))
    data.require_twins()
    size_px = loaded.vlr_size or int(loaded.metadata.get("vlr_size", 0)) or min(val.low_folders, default=0)
    folder = val.low_dir(size_px)
    val = val.subset(whole_persons(val, _MAX_IMAGES, seed=0))
    images = read_all(PairDataset(val, inputs=folder))
    if loaded.kind == "dsr":
        return images
    enlarged = to_image_u8(resize_bicubic(to_image01(images.inputs)))
    return Images(enlarged, images.high, images.labels, images.indices)
