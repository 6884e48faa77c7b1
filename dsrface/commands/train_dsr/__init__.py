"""`dsrface train-dsr`: train a super-resolution network on a data set's pairs."""

from __future__ import annotations

import numpy as np

from dsrface.commands.shared.datasets import dsr_pairs
from dsrface.commands.shared.training_result import TrainingResult, interrupted
from dsrface.commands.shared.workers import choose_workers
from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.datasets import PairDataset
from dsrface.data.layout import FaceData, FaceSplit, open_data
from dsrface.data.loaders import make_loader
from dsrface.data.samplers import BatchSampler, EpochOrder, ManySizesSampler
from dsrface.data.training_record import write_training_record
from dsrface.engine.context import Outcome, RunContext
from dsrface.engine.dsr_task import DsrTask
from dsrface.engine.inference import Images, read_all
from dsrface.engine.loop import fit
from dsrface.engine.run_claim import INTERRUPTED
from dsrface.engine.session import training_session
from dsrface.events import Emit, Note
from dsrface.models.dsr import build_dsr, count_parameters
from dsrface.models.losses import IdentityLoss, VggLoss
from dsrface.models.weights import load_recogniser
from dsrface.runtime.command_line import quoted
from dsrface.runtime.text import count_text
from dsrface.runtime.threads import limit_torch_threads
from dsrface.types import ANY_SIZES_PX, HIGH_SIZE_PX, HIGH_SIZES_PX


def run(config: TrainDsrConfig, *, emit: Emit) -> TrainingResult:
    """Train, or resume.

    Args:
        config: Complete configuration.
        emit: Takes the events.

    Raises:
        DsrfaceError: whatever goes wrong, by family.
    """
    data = open_data(config.data, high_sizes=HIGH_SIZES_PX)
    data.require_twins()
    train, val = data.split("train"), data.split("val")
    doubts = data.check_twins(config.vlr_size, "train", "val")
    degradation = data.degradation(config.vlr_size)
    with training_session(
        config, emit=emit, data_sha256=data.source_digest, degradation=degradation
    ) as context:
        if context.ranks.is_main:
            write_training_record(context.folder.path, train)
        for note in data.notes:
            context.emit(Note(note))
        for doubt in doubts:
            context.emit(Note(doubt, is_warning=True))
        outcome = _train(config, data, train, val, context)
    return _result(config, context, outcome, data.high_px)


def _train(
    config: TrainDsrConfig, data: FaceData, train: FaceSplit, val: FaceSplit, context: RunContext
) -> Outcome:
    takes_any_size = DSR_NETWORKS[config.model.arch].takes_any_size
    if config.augment.enabled and not takes_any_size and data.degradation(config.vlr_size) is None:
        note = "How the VLR images were made is not recorded, so both twins are only mirrored, not moved."
        context.emit(Note(note))
    dataset = dsr_pairs(config, data, train)
    order = EpochOrder(len(train), config.seed)
    place = {"rank": context.ranks.rank, "world_size": context.ranks.world_size}
    sampler = (
        ManySizesSampler(order, sizes_px=ANY_SIZES_PX, batch_size=config.batch_size, **place)
        if takes_any_size
        else BatchSampler(order, batch_size=config.batch_size, drop_last=False, **place)
    )
    task = _task(config, train, val, context)  # first: weights that do not fit are found at once
    num_workers = choose_workers(config.workers, dataset, batch_size=sampler.batch_size, context=context)
    limit_torch_threads(num_workers)
    with make_loader(
        dataset,
        sampler,
        num_workers=num_workers,
        pin_memory=context.device.kind == "cuda",
        settings=config.loader,
    ) as loader:
        return fit(
            task,
            loader,
            phase_epochs=(config.num_epochs(sampler.num_batches),),
            optim=config.optim,
            engine=config.engine,
            context=context,
        )


def _task(config: TrainDsrConfig, train: FaceSplit, val: FaceSplit, context: RunContext) -> DsrTask:
    device = context.device.torch_name
    shape = DsrConfig(network=config.model, vlr_size=config.vlr_size, high_size=train.high_px)
    model = build_dsr(shape).to(device)
    identity = None
    if config.identity_weights is not None:
        loaded = load_recogniser(config.identity_weights, device=device)
        loaded.require_gradient("what the identity loss learns from")
        context.folder.pin("identity_weights", loaded.sha256)
        identity = IdentityLoss(loaded.model, loaded.preprocess).to(device)
    vgg = (
        VggLoss(config.loss.vgg_weights).to(device)
        if config.loss.vgg_weight and config.loss.vgg_weights
        else None
    )
    million = count_parameters(model) / 1e6
    terms = [config.loss.pixel, *(["identity"] if identity else []), *(["VGG"] if vgg else [])]
    context.emit(
        Note(
            f"{config.model.arch} DSR, {million:.2f} M parameters; losses: {', '.join(terms)}; "
            f"{count_text(len(train), 'image')}"
        )
    )
    return DsrTask(
        model,
        config=shape,
        losses=config.loss,
        identity=identity,
        vgg=vgg,
        images=_validation_images(config, val),
        names=train.names,
        device=context.device,
        eval_batch_size=config.eval.batch_size,
        num_strips=config.eval.num_strips,
        extra=context.folder.origin,
    )


def _validation_images(config: TrainDsrConfig, val: FaceSplit) -> Images:
    """Read the validation pairs, or a seeded share of them, into memory."""
    if len(val) > config.eval.max_images:
        chosen = np.random.default_rng(config.seed).permutation(len(val))[: config.eval.max_images]
        val = val.subset(sorted(chosen.tolist()))
    return read_all(PairDataset(val, inputs=val.low_dir(config.vlr_size)))


def _result(config: TrainDsrConfig, context: RunContext, outcome: Outcome, high_px: int) -> TrainingResult:
    run_dir = str(context.folder.path)
    if outcome.status == INTERRUPTED:
        return interrupted(config, context, outcome)
    best = outcome.best_metrics
    verdict = f"best at step {outcome.best_step} of {outcome.step}"
    if outcome.best_step == 0:
        verdict = f"no step of {outcome.step} was better than bicubic, which is what best.json names"
    return TrainingResult(
        f"DSR {best['psnr_db']:.2f} dB, bicubic {best['bicubic_psnr_db']:.2f} dB on the same validation "
        f"images (gain {best['psnr_gain_db']:+.2f} dB; {verdict}).",
        run_dir,
        _next_command(config, run_dir, high_px),
        outcome,
    )


def _next_command(config: TrainDsrConfig, run_dir: str, high_px: int) -> str:
    data, run = quoted(config.data), quoted(run_dir)
    if high_px != HIGH_SIZE_PX:
        return f"dsrface evaluate {data} --vlr-size {config.vlr_size} --dsr {run}"
    takes_any_size = DSR_NETWORKS[config.model.arch].takes_any_size
    size = f" --vlr-size {config.vlr_size}" if takes_any_size else ""
    return f"dsrface precompute {data} --weights {run}{size}"
