"""Fine-tuning a recogniser: margin head, anchor to a frozen teacher, judged by verification.

Letters: B batch, N images, D embedding, C persons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from dsrface.config.finetune import FinetuneConfig
from dsrface.data import draws
from dsrface.data.augment import Colour, augment_pair, geometry_of, to_image01, to_image_u8
from dsrface.engine.collapse import CollapseGuard, effective_rank
from dsrface.engine.inference import Images, embed, run_batched, super_resolve
from dsrface.engine.samples import write_strips
from dsrface.engine.task import ParamGroup, Task, Validation
from dsrface.engine.teacher import Teacher
from dsrface.engine.thresholds import thresholds_of
from dsrface.engine.validation_pairs import RecognitionImages, compare, moved_copies, verification_metrics
from dsrface.metrics.thresholds import StoredThresholds
from dsrface.metrics.verification import auc
from dsrface.models.adapters import adapter_parameters
from dsrface.models.heads import MarginHead
from dsrface.models.preprocess import network_input
from dsrface.models.resize import resize_bicubic
from dsrface.models.weights import recogniser_config, save_model
from dsrface.runtime.devices import Device
from dsrface.types import HIGH_SIZE_PX, Batch, Preprocess, to_device

_NUM_FIRST = 8
InputMaker = Callable[[Tensor, Tensor], Tensor]


def input_maker(mode: str, dsr: nn.Module | None, device: Device) -> InputMaker:
    """Return what turns a batch's (inputs, high) into the uint8 faces that the recogniser is to learn from.

    Inputs that are 112x112 already, such as cached outputs, pass through.

    Args:
        mode: cached, live, bicubic or hr.
        dsr: Frozen network of live mode, on the device.
        device: For its number format.
    """

    def make(inputs: Tensor, high: Tensor) -> Tensor:
        if mode == "hr":
            return high
        if inputs.shape[1] == HIGH_SIZE_PX:
            return inputs
        if dsr is not None:
            # A clone is a plain tensor again, not an inference one.
            return super_resolve(dsr, inputs, device=device).clone()
        return to_image_u8(resize_bicubic(to_image01(inputs)))

    return make


class RecognitionTask(Task):
    """A backbone, its head, and the images that judge it.

    Args:
        backbone: The recogniser, on the device.
        head: Margin head, on the device.
        config: The command's configuration.
        preprocess: How the backbone wants its images.
        make_inputs: See `input_maker`.
        teacher: What the embeddings are held to; None without anchor.
        images: For validation.
        device: Where it runs.
        is_from_scratch: The backbone has nothing to be gentle with: one phase, one learning rate.
        extra: More facts for the weight file's metadata.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: MarginHead,
        *,
        config: FinetuneConfig,
        preprocess: Preprocess,
        make_inputs: InputMaker,
        teacher: Teacher | None,
        images: RecognitionImages,
        device: Device,
        is_from_scratch: bool,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._extra = extra or {}
        self.backbone, self.head = backbone, head
        self._adapters = adapter_parameters(backbone)
        self._config, self._preprocess, self._device = config, preprocess, device
        self._make_inputs = make_inputs
        self.teacher = teacher
        self._images, self._is_from_scratch = images, is_from_scratch
        self._thresholds: dict[str, str] = {}  # of the weights that were validated last
        self._phase = 0
        self._guard = CollapseGuard()
        is_moved_already = config.live is not None and config.augment.before_dsr
        self._geometry = None if is_moved_already else geometry_of(config.augment)
        self._colour = Colour(config.augment.brightness, config.augment.contrast)
        self._val_inputs: Tensor | None = None
        self._holdout_inputs: Tensor | None = None

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the classification loss plus the anchor's, and each alone."""
        inputs, high = self._pixels(batch)
        images = network_input(inputs, self._preprocess)
        with torch.set_grad_enabled(self._trains_backbone):
            embeddings = self.backbone(images).float()
        classes = self.head.draw_classes(batch.labels)
        labels = batch.labels if classes is None else torch.searchsorted(classes, batch.labels)
        cosines = self.head.cosines(embeddings, classes)
        logits = self.head.logits(cosines, embeddings, labels)
        total = classification = functional.cross_entropy(logits, labels)
        metrics = {"loss/class": classification.detach()}
        if self.teacher is not None and self._trains_backbone:
            anchor = self.teacher(embeddings, high)
            total = total + self._config.anchor.weight * anchor
            metrics["loss/anchor"] = anchor.detach()
        cosines = cosines.detach()
        metrics["train_accuracy"] = (cosines.argmax(dim=1) == labels).float().mean()
        metrics["cosine_true"] = cosines.gather(1, labels[:, None]).mean()
        return total, {"loss/total": total.detach(), **metrics}

    def param_groups(self) -> list[ParamGroup]:
        """Backbone and head; stage 1 moves the head alone, stage 2 the backbone at a lower rate too."""
        fraction = 1.0 if self._is_from_scratch else self._config.backbone_options.lr_fraction
        learnt = [] if self.teacher is None else list(self.teacher.parameters())
        backbone = ParamGroup("backbone", list(self.backbone.parameters()), (0.0, fraction))
        if self._adapters:  # they are new, as the head is
            backbone = ParamGroup("adapters", self._adapters, (0.0, 1.0))
        return [
            backbone,
            ParamGroup("head", [*self.head.parameters(), *learnt], (1.0, 1.0)),
        ]

    def unaveraged(self) -> frozenset[str]:
        """The class weights of a sampled head: most of them stand still in a step."""
        return frozenset({"head.weight"} if self.head.sample_fraction < 1 else ())

    def set_phase(self, phase: int) -> None:
        """Freeze the backbone in stage 1."""
        self._phase = phase
        for parameter in self._adapters or self.backbone.parameters():
            parameter.requires_grad_(self._trains_backbone)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Switch to training; a frozen backbone stays in evaluation, so BatchNorm keeps its statistics."""
        super().train(mode)
        if self._adapters or not self._trains_backbone:
            self.backbone.eval()
        return self

    def compile_networks(self) -> None:
        """Compile the backbone in place."""
        self.backbone.compile()

    def validate(self, *, step: int, samples_dir: Path, is_last: bool) -> Validation:
        """Verify validation persons, HR faces against probes where there are any; watch for collapse.

        Raises:
            TrainingError: id `collapse`.
        """
        del samples_dir
        val = self._images.val
        if self._val_inputs is None:
            self._val_inputs = self.inputs_of(val)
        probes, gallery = self._probes_and_gallery(self._val_inputs, val.high)
        if not (torch.isfinite(probes).all() and torch.isfinite(gallery).all()):
            return Validation({}, score=math.nan)  # the loop says what that means
        are_alone = self._images.are_alone
        metrics = verification_metrics(*compare(gallery, probes, val.labels, with_own_photo=are_alone))
        if not are_alone:  # else everybody would be accepted too easily
            self._thresholds = self._choose_thresholds(gallery, probes)
            if self._images.has_twins:
                metrics["hr_auc"] = float(auc(*compare(gallery, gallery, val.labels)))
        metrics["effective_rank"] = effective_rank(probes)
        strangers = val.labels[:, None] != val.labels[None, :]
        metrics["impostor_mean"] = float((probes @ probes.T)[strangers].mean())
        if self._images.holdout is not None:
            metrics["holdout_accuracy"] = self._holdout_accuracy(self._images.holdout)
        self._guard.check(metrics, step=step, is_last=is_last)
        by = self._config.eval.select_by
        return Validation(
            metrics,
            score=metrics["auc"] if by == "auc" else -metrics["eer"],
            tie=metrics["d_prime"],
            is_eligible=step > 0 or not self._is_from_scratch,
        )

    def save_model(self, path: Path, *, step: int) -> None:
        """Write the backbone; the head belongs to the training persons and stays in the trainer's state."""
        save_model(
            path,
            self.backbone,
            kind="recogniser",
            config=recogniser_config(self._config.backbone, self._config.backbone_options.adapter_rank),
            preprocess=self._preprocess,
            extra={
                **self._extra,
                **self._thresholds,
                "step": str(step),
                "mode": self._config.mode,
                "vlr_size": str(self._config.vlr_size),
            },
        )
        self._thresholds = {}

    def memory(self) -> dict[str, bool]:
        """Return whether the embedding was healthy once, for the guard."""
        return {"was_healthy": self._guard.was_healthy}

    def recall(self, memory: dict[str, bool]) -> None:
        """Restore what `memory` gave."""
        self._guard.was_healthy = memory["was_healthy"]

    def save_first_batch(self, batch: Batch, path: Path) -> None:
        """Write input | HR twin, augmented, as the network sees them; rows whose input is the twin say so."""
        few = slice(_NUM_FIRST)
        first = Batch(batch.inputs[few], batch.high[few], batch.labels[few], batch.indices[few], batch.epoch)
        inputs, high = self._pixels(first.to(self._device.torch_name))
        columns = {"input": to_image_u8(inputs).cpu(), "HR": to_image_u8(high).cpu()}
        is_high = (columns["input"] == columns["HR"]).flatten(1).all(dim=1).tolist()
        marks = [" (HR as input)" * (high and self._has_hr_rows) for high in is_high]
        names = self.describe(first.indices.tolist())
        write_strips(path, columns, [name + mark for name, mark in zip(names, marks, strict=True)])

    def describe(self, indices: list[int]) -> list[str]:
        """Return the relative file names."""
        return [self._images.names[index] for index in indices]

    def inputs_of(self, images: Images) -> Tensor:
        """Return the recogniser's uint8 inputs of images in memory; computed once, as no DSR changes here."""
        size = self._config.eval.batch_size
        parts = []
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            inputs = images.inputs[part].to(self._device.torch_name)
            high = images.high[part].to(self._device.torch_name)
            parts.append(self._make_inputs(inputs, high).cpu())
        return torch.cat(parts)

    def embed(self, images: Tensor, *, is_high: bool = False) -> Tensor:
        """Return float32 [N, D] L2-normalised embeddings of uint8 images, of HR faces without adapters."""

        def function(batch: Tensor) -> Tensor:
            image = to_image01(batch)
            return embed(self.backbone, image, self._preprocess, device=self._device, is_high=is_high)

        return run_batched(function, images, batch_size=self._config.eval.batch_size, device=self._device)

    def _probes_and_gallery(self, inputs: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings that are compared, float32 [N, D] each."""
        gallery = self.embed(high, is_high=True) if self._images.has_twins else self.embed(inputs)
        if self._images.are_alone:
            inputs = moved_copies(inputs, self._config.augment, seed=self._config.seed)
        elif not self._images.has_twins:
            return gallery, gallery
        return self.embed(inputs), gallery

    def _choose_thresholds(self, gallery: Tensor, probes: Tensor) -> dict[str, str]:
        """Return the thresholds that the validation persons can support, as metadata of the weight file."""
        images = self._images
        chosen = thresholds_of(
            gallery.numpy(), probes.numpy(), images.val.labels.numpy(), seed=self._config.seed
        )
        return {"thresholds": StoredThresholds(images.conditions, chosen).to_json()} if chosen else {}

    @property
    def _has_hr_rows(self) -> bool:
        """Whether a drawn share of the inputs is the HR twin itself."""
        has_both = self._config.mode != "hr" and self._images.has_twins
        return self._config.anchor.hr_fraction > 0 and has_both and not self._adapters

    @property
    def _trains_backbone(self) -> bool:
        return self._phase > 0

    def _pixels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return augmented (inputs, high) as Image01; a drawn share of the inputs is the HR twin itself."""
        config = self._config
        indices = batch.indices.cpu().numpy()
        inputs, high = augment_pair(
            self._make_inputs(batch.inputs, batch.high),
            batch.high,
            geometry=self._geometry,
            colour=self._colour,
            seed=config.seed,
            epoch=batch.epoch,
            indices=indices,
        )
        if self._has_hr_rows:
            draw = draws.uniform(config.seed, batch.epoch, indices, num=1, stream="hr_fraction")[:, 0]
            is_high = to_device(torch.from_numpy(draw < config.anchor.hr_fraction), inputs.device)
            inputs = torch.where(is_high[:, None, None, None], high, inputs)
        return inputs, high

    def _holdout_accuracy(self, images: Images) -> float:
        """Return the share of kept-out images whose nearest class is right: cosines, no margin."""
        if self._holdout_inputs is None:
            self._holdout_inputs = self.inputs_of(images)
        embeddings = self.embed(self._holdout_inputs).to(self._device.torch_name)
        parts = torch.split(embeddings, self._config.eval.batch_size)
        found = torch.cat([self.head.cosines(part).argmax(dim=1) for part in parts])
        return float((found.cpu() == images.labels).float().mean())
