"""Training a super-resolution network, judged by PSNR against bicubic on the same images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dsrface.config.dsr_model import DsrConfig
from dsrface.config.train_dsr import DsrLossConfig
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.names import PackedStrings
from dsrface.engine.inference import Images, run_batched, super_resolve
from dsrface.engine.samples import write_strips
from dsrface.engine.task import Task, Validation
from dsrface.metrics.image_quality import psnr_db, ssim
from dsrface.models.losses import IdentityLoss, VggLoss, charbonnier, l1
from dsrface.models.resize import resize_bicubic
from dsrface.models.weights import save_model
from dsrface.runtime.devices import Device
from dsrface.types import Batch, Preprocess

_NUM_FIRST = 8
_QUALITY_BATCH = 64


class DsrTask(Task):
    """A DSR, its losses, and the validation images.

    Args:
        model: On the device.
        config: Its shape; saved with the weights.
        losses: Weights of the terms.
        identity: Identity loss on the device, or None.
        vgg: Perceptual loss on the device, or None.
        images: Validation pairs, on the CPU.
        names: Names of the training samples.
        device: Where it runs.
        eval_batch_size: Images per forward pass of a validation.
        num_strips: Rows of the sample image.
        extra: More facts for the weight file's metadata.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        config: DsrConfig,
        losses: DsrLossConfig,
        identity: IdentityLoss | None,
        vgg: VggLoss | None,
        images: Images,
        names: PackedStrings,
        device: Device,
        eval_batch_size: int = 64,
        num_strips: int = 8,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._config, self._losses, self._names, self._device = config, losses, names, device
        self._pixel = charbonnier if losses.pixel == "charbonnier" else l1
        # In a tuple, so that torch does not take them for parts of what is trained and saved.
        self._frozen = (identity, vgg)
        self._images, self._eval_batch_size, self._num_strips = images, eval_batch_size, num_strips
        self._extra = extra or {}
        self._bicubic: tuple[Tensor, dict[str, float]] | None = None

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss and each unweighted term."""
        high = to_image01(batch.high)
        output = self._enlarged(batch).float()
        identity, vgg = self._frozen
        pixel = self._pixel(output, high)
        total = self._losses.pixel_weight * pixel
        metrics = {"loss/pixel": pixel.detach()}
        if identity is not None and self._losses.identity_weight > 0:
            term = identity(output, high)
            total = total + self._losses.identity_weight * term
            metrics["loss/identity"] = term.detach()
        if vgg is not None and self._losses.vgg_weight > 0:
            term = vgg(output, high)
            total = total + self._losses.vgg_weight * term
            metrics["loss/vgg"] = term.detach()
        return total, {"loss/total": total.detach(), **metrics}

    def _enlarged(self, batch: Batch) -> Tensor:
        """Return the network's outputs, each run of faces of one size in a pass of its own."""
        low = to_image01(batch.inputs)
        if batch.sizes_px is None:
            return self.model(low)  # type: ignore[no-any-return]
        sizes_px, counts = torch.unique_consecutive(batch.sizes_px, return_counts=True)
        parts = zip(torch.split(low, counts.tolist()), sizes_px.tolist(), strict=True)
        return torch.cat([self.model(part[:, :, :size_px, :size_px]) for part, size_px in parts])

    def compile_networks(self) -> None:
        """Compile the DSR in place; its parameter names stay."""
        self.model.compile()

    def validate(self, *, step: int, samples_dir: Path, is_last: bool) -> Validation:
        """Measure PSNR and SSIM per image, on rounded uint8 outputs, and bicubic's on the same images."""
        del is_last
        output = run_batched(
            lambda low: super_resolve(self.model, low, device=self._device),
            self._images.inputs,
            batch_size=self._eval_batch_size,
            device=self._device,
        )
        bicubic, baseline = self._baseline()
        found = _quality(output, self._images.high)
        if self._num_strips:
            shown = slice(0, self._num_strips)
            high = self._images.high[shown]
            columns = {
                "VLR": self._images.inputs[shown],
                "bicubic": bicubic[shown],
                "DSR": output[shown],
                "HR": high,
            }
            gains = zip(_psnr(bicubic[shown], high), _psnr(output[shown], high), strict=True)
            captions = [f"{before:.2f} -> {after:.2f} dB" for before, after in gains]
            write_strips(samples_dir / f"step_{step:06d}.png", columns, captions)
        gain = found["psnr_db"] - baseline["psnr_db"]
        metrics = {
            **found,
            "psnr_gain_db": gain,
            **{f"bicubic_{key}": value for key, value in baseline.items()},
        }
        return Validation(metrics, score=found["psnr_db"])

    def save_model(self, path: Path, *, step: int) -> None:
        """Write the DSR with all that is needed to rebuild it."""
        size = self._config.vlr_size
        save_model(
            path,
            self.model,
            kind="dsr",
            config=self._config.model_dump(mode="json"),
            preprocess=Preprocess(size),
            extra={**self._extra, "step": str(step)},
        )

    def save_first_batch(self, batch: Batch, path: Path) -> None:
        """Write VLR | HR of the batch as the network sees it."""
        low = list(batch.inputs[:_NUM_FIRST].cpu())
        if batch.sizes_px is not None:
            low = [image[:size, :size] for image, size in zip(low, batch.sizes_px.tolist(), strict=False)]
        columns = {"VLR": low, "HR": list(batch.high[:_NUM_FIRST].cpu())}
        write_strips(path, columns, self.describe(batch.indices[:_NUM_FIRST].tolist()))

    def describe(self, indices: list[int]) -> list[str]:
        """Return the relative file names."""
        return [self._names[index] for index in indices]

    def _baseline(self) -> tuple[Tensor, dict[str, float]]:
        if self._bicubic is None:
            output = run_batched(
                lambda low: to_image_u8(resize_bicubic(to_image01(low), size_px=self._config.high_size)),
                self._images.inputs,
                batch_size=self._eval_batch_size,
                device=self._device,
            )
            self._bicubic = output, _quality(output, self._images.high)
        return self._bicubic


def _psnr(output: Tensor, high: Tensor) -> list[float]:
    """Return the PSNR of each of uint8 [N, H, H, 3] pairs, in dB."""
    found: list[float] = psnr_db(to_image01(output), to_image01(high)).tolist()
    return found


def _quality(output: Tensor, high: Tensor) -> dict[str, float]:
    """Return mean PSNR and SSIM of uint8 [N, H, H, 3] pairs, measured image by image."""
    pairs = zip(torch.split(output, _QUALITY_BATCH), torch.split(high, _QUALITY_BATCH), strict=True)
    found = [(psnr_db(*both), ssim(*both)) for both in ((to_image01(a), to_image01(b)) for a, b in pairs)]
    psnr, similarity = (torch.cat(column).double().mean() for column in zip(*found, strict=True))
    return {"psnr_db": float(psnr), "ssim": float(similarity)}
