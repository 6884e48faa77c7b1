"""`dsrface finetune`: fine-tune a recogniser on cached, live, bicubic or HR faces."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dsrface.commands.finetune.data import RecogniserData, open_recogniser_data
from dsrface.commands.finetune.thresholds import thresholds_text
from dsrface.commands.finetune.write_through import OutputSpool, WriteThroughSource, remembering
from dsrface.commands.shared.datasets import faces_of, outputs_of
from dsrface.commands.shared.training_result import TrainingResult, interrupted
from dsrface.config.finetune import FinetuneConfig
from dsrface.data.layout import FaceData, open_data
from dsrface.data.training_record import write_training_record
from dsrface.engine.checkpoint import find_last
from dsrface.engine.context import Outcome, RunContext
from dsrface.engine.loop import fit
from dsrface.engine.recognition_task import RecognitionTask, input_maker
from dsrface.engine.run_claim import INTERRUPTED
from dsrface.engine.session import training_session
from dsrface.engine.teacher import Teacher
from dsrface.engine.validation_pairs import RecognitionImages
from dsrface.errors import UsageError
from dsrface.events import Emit, Note
from dsrface.models.adapters import adapter_parameters, add_adapters
from dsrface.models.heads import MarginHead, build_head, reachable_probability
from dsrface.models.loaded import LoadedModel
from dsrface.models.recognisers import build_recogniser, embedding_dim_of, input_of
from dsrface.models.sources import JUDGE, wrong_backbone
from dsrface.models.weights import load_dsr, load_recogniser
from dsrface.runtime.command_line import quoted
from dsrface.runtime.threads import limit_torch_threads
from dsrface.types import Preprocess

_MIN_SCALE = 32.0
_WANTED_PROBABILITY = 0.95
_MOSTLY_ANCHOR = 1000.0  # weight at which the anchor outweighs the classification by far (docs/results.md)


@dataclass(frozen=True)
class _Start:
    """The starting backbone.

    Args:
        backbone: On the device.
        preprocess: How it wants its images.
        is_from_scratch: No weights were given.
    """

    backbone: nn.Module
    preprocess: Preprocess
    is_from_scratch: bool


def run(config: FinetuneConfig, *, emit: Emit) -> TrainingResult:
    """Fine-tune, or resume.

    Args:
        config: Complete configuration.
        emit: Takes the events.

    Raises:
        DsrfaceError: whatever goes wrong, by family.
    """
    data = open_data(config.data)
    degradation = None if config.hr_only else data.degradation(config.vlr_size)
    with training_session(
        config, emit=emit, data_sha256=data.source_digest, degradation=degradation
    ) as context:
        if context.ranks.is_main:
            write_training_record(context.folder.path, faces_of(config, data, "train"))
        for note in data.notes:
            context.emit(Note(note))
        # Before anything is measured or read: weights that do not fit are found at once.
        start = _start(config, context)
        dsr = _load_dsr(config.live, config, context) if config.live is not None else None
        with open_recogniser_data(config, data, context) as faces:
            outcome = _train(config, faces, start, dsr, context)
        if outcome.first_metrics.get("auc", 0.0) >= 1:
            doubt = "validation was perfect before the first step: it cannot tell checkpoints apart"
            context.emit(Note(f"{doubt}; prepare the data with more validation persons", is_warning=True))
        if outcome.status != INTERRUPTED and context.ranks.is_main:
            context.emit(Note(thresholds_text(context.folder.path)))
    return _result(config, data, context, outcome)


def _train(
    config: FinetuneConfig, faces: RecogniserData, start: _Start, dsr: LoadedModel | None, context: RunContext
) -> Outcome:
    limit_torch_threads(faces.num_workers)
    make_inputs = input_maker(config.mode, dsr.model if dsr else None, context.device)
    source = faces.source()
    if config.write_through and dsr is not None:
        spool = OutputSpool(context.folder.path / f"write_through.{context.ranks.rank}.tmp")
        faces.stack.callback(spool.close)
        make_inputs = remembering(make_inputs, spool)
        source = WriteThroughSource(source, faces, spool, dsr)
    head = _head(config, len(faces.train.persons), context).to(context.device.torch_name)
    teacher = None if faces.data.is_native else _teacher(config, start, context)  # before it is changed
    if config.backbone_options.adapter_rank:
        add_adapters(start.backbone, config.backbone_options.adapter_rank)
    task = RecognitionTask(
        start.backbone,
        head,
        config=config,
        preprocess=start.preprocess,
        make_inputs=make_inputs,
        teacher=teacher,
        images=RecognitionImages(
            faces.val_images(),
            faces.holdout_images(),
            faces.train.names,
            _conditions(config, faces, dsr),
            has_twins=not faces.data.is_native,
            are_alone=faces.are_alone,
        ),
        device=context.device,
        is_from_scratch=start.is_from_scratch,
        extra=context.folder.origin,
    )
    if not start.is_from_scratch and find_last(context.folder.path) is None:
        _initialise_head(config, task, faces)
    epochs = (config.stage1_epochs, config.stage2_epochs)
    if start.is_from_scratch:
        epochs = (0, sum(epochs))
    return fit(task, source, phase_epochs=epochs, optim=config.optim, engine=config.engine, context=context)


def _teacher(config: FinetuneConfig, start: _Start, context: RunContext) -> Teacher | None:
    """Return the recogniser that is named, else the starting one as it is now; None without an anchor."""
    if config.anchor.weight == 0:
        return None
    dim = embedding_dim_of(config.backbone)
    if config.teacher is None:
        own = copy.deepcopy(start.backbone)
        return None if start.is_from_scratch else Teacher(own, start.preprocess, embedding_dim=dim)
    if config.teacher == Path(JUDGE):
        raise UsageError(
            "The judge judges and is never learnt from: its figures would mean nothing afterwards.",
            id="judge-as-teacher",
            hint="Give another recogniser.",
        )
    loaded = load_recogniser(config.teacher, device=context.device.torch_name)
    context.folder.pin("teacher", loaded.sha256)
    context.emit(Note(f"teacher: {loaded.name}, weight {config.anchor.weight:g}"))
    return Teacher(loaded.model, loaded.preprocess, embedding_dim=dim)


def _conditions(config: FinetuneConfig, faces: RecogniserData, dsr: LoadedModel | None) -> dict[str, Any]:
    """Return what the thresholds of this run hold for."""
    degradation = faces.data.degradation(config.vlr_size)
    images = {"hr": "HR", "bicubic": "bicubic"}.get(config.mode, "DSR")
    return {
        "vlr_size": config.vlr_size,
        "images": images,
        "degradation": None if degradation is None else degradation.to_dict(),
        "dsr_sha256": dsr.sha256 if dsr else None,
    }


def _load_dsr(source: Path, config: FinetuneConfig, context: RunContext) -> LoadedModel:
    loaded = load_dsr(source, vlr_size=config.vlr_size, device=context.device.torch_name)
    context.folder.pin("dsr_weights", loaded.sha256)
    loaded.model.requires_grad_(False)
    return loaded


def _start(config: FinetuneConfig, context: RunContext) -> _Start:
    device = context.device.torch_name
    if config.backbone_weights is None:
        context.emit(
            Note(
                f"{config.backbone} starts from random weights: no head-only stage, no anchor, one learning "
                "rate. Expect far less than from published weights.",
                is_warning=True,
            )
        )
        backbone = build_recogniser(config.backbone, layer_scale=config.backbone_options.layer_scale)
        return _Start(backbone.to(device), input_of(config.backbone), is_from_scratch=True)
    loaded = load_recogniser(config.backbone_weights, device=device)
    loaded.require_gradient("tuned")
    variant = loaded.config["variant"]
    if variant != config.backbone:
        raise wrong_backbone(variant, config.backbone, loaded.path)
    if adapter_parameters(loaded.model):
        raise UsageError(
            "The weights have adapters for small faces already.",
            id="no-adapters",
            where=loaded.path,
            hint="Start from the recogniser that the adapters were added to.",
        )
    context.folder.pin("backbone_weights", loaded.sha256)
    return _Start(loaded.model, loaded.preprocess, is_from_scratch=False)


def _head(config: FinetuneConfig, num_classes: int, context: RunContext) -> MarginHead:
    scale = config.head_options.scale or choose_scale(num_classes)
    reachable = reachable_probability(scale, num_classes)
    text = f"{config.head} over {num_classes} persons, scale {scale:.1f}"
    if round(reachable, 2) < _WANTED_PROBABILITY:
        text += f": the true class can reach probability {reachable:.3f} at most"
        text += "; below 0.5 nothing is learned well" if reachable < 0.5 else ""
    context.emit(Note(text, is_warning=reachable < 0.5))
    return build_head(
        config.head,
        num_classes=num_classes,
        embedding_dim=embedding_dim_of(config.backbone),
        scale=scale,
        margin=config.head_options.margin,
        sample_fraction=config.head_options.sample_fraction,
    )


def choose_scale(num_classes: int) -> float:
    """Return the smallest scale, at least 32, at which the true class can reach probability 0.95."""
    odds = _WANTED_PROBABILITY / (1 - _WANTED_PROBABILITY) * max(1, num_classes - 1)
    return max(_MIN_SCALE, math.log(odds))


def _initialise_head(config: FinetuneConfig, task: RecognitionTask, faces: RecogniserData) -> None:
    """Set every class weight to the mean embedding, by the starting backbone, of some of its images."""
    num = config.head_options.init_images_per_person
    if num:
        task.eval()
        task.head.init_from_class_means(
            (task.embed(task.inputs_of(images)).clone(), images.labels) for images in faces.some_images(num)
        )


def _result(config: FinetuneConfig, faces: FaceData, context: RunContext, outcome: Outcome) -> TrainingResult:
    run_dir, data = quoted(context.folder.path), quoted(config.data)
    if outcome.status == INTERRUPTED:
        return interrupted(config, context, outcome)
    best, first = outcome.best_metrics, outcome.first_metrics
    verdict = f"best at step {outcome.best_step} of {outcome.step}"
    if outcome.best_step == 0:
        verdict = f"no step of {outcome.step} was better, so best.json names the starting weights, unchanged"
        verdict += _advice(config, data_is_native=faces.is_native)
    elif _is_worse(best, first, config.eval.select_by):  # step 0 of a network from scratch is never taken
        verdict += ", yet worse than the random weights that it began with: it has learnt nothing that helps"
    return TrainingResult(
        f"AUC {best['auc']:.4f} (before: {first['auc']:.4f}), EER {best['eer']:.2%} (before: "
        f"{first['eer']:.2%}) on validation persons, mode {config.mode}; {verdict}.",
        str(context.folder.path),
        _next_command(config, faces, data, run_dir),
        outcome,
    )


def _is_worse(best: Mapping[str, float], first: Mapping[str, float], select_by: str) -> bool:
    """Return whether the best validation is below the first one."""
    return best["auc"] < first["auc"] if select_by == "auc" else best["eer"] > first["eer"]


def _advice(config: FinetuneConfig, *, data_is_native: bool) -> str:
    """Return what else to try where tuning did not help, after a semicolon; empty where there is nothing."""
    has_anchor = config.backbone_weights is not None and config.mode != "hr" and not data_is_native
    if not has_anchor or config.anchor.weight >= _MOSTLY_ANCHOR:
        return ""
    return (
        "; with few persons, learn from the starting recogniser rather than their names: "
        f"--set anchor.weight={_MOSTLY_ANCHOR:g} --set backbone_options.adapter_rank=16"
    )


def _next_command(config: FinetuneConfig, faces: FaceData, data: str, run_dir: str) -> str:
    size = config.vlr_size
    if config.hr_only:
        is_default = config.backbone == type(config).model_fields["backbone"].default
        backbone = "" if is_default else f" --backbone {quoted(config.backbone)}"
        start = f"{backbone} --backbone-weights {run_dir}"
        return f"dsrface finetune {data} --vlr-size {size} --live DSR_RUN{start}"
    dsr = f" --dsr {quoted(config.live)}" if config.live is not None else ""
    if config.dsr_outputs is not None and faces.is_native:
        dsr = " --dsr DSR_RUN"  # native faces are super-resolved there, at the size asked for
    elif config.dsr_outputs is not None:
        trained_on = outputs_of(faces.split("train"), faces, config.dsr_outputs)  # whichever split was named
        dsr = f" --dsr-outputs {quoted(trained_on)}"
    return f"dsrface evaluate {data} --vlr-size {size}{dsr} --finetuned {run_dir}"
