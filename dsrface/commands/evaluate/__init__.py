"""`dsrface evaluate`: does super-resolution help, does fine-tuning, and how sure may one be?

It measures {bicubic, DSR} x {frozen, fine-tuned} on the same pairs of the same images, against the HR
ceiling, the cosine of raw pixels, chance and reject-all, and names the winner whoever it is.
"""

from __future__ import annotations

import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dsrface import __version__
from dsrface.commands.evaluate.all_figures import Figures, all_figures, choose_pairs
from dsrface.commands.evaluate.benchmark import (
    BenchmarkResult,
    read_benchmark,
    run_benchmark,
    validation_file,
)
from dsrface.commands.evaluate.faces import hardest_section, strips_section
from dsrface.commands.evaluate.findings import limits, quality_answer, verification_answer
from dsrface.commands.evaluate.folder import choose_folder, command_that_shows, write_results
from dsrface.commands.evaluate.hardest import find_hardest
from dsrface.commands.evaluate.images import Measured, Networks, measure
from dsrface.commands.evaluate.matrix import measure_matrix
from dsrface.commands.evaluate.networks import (
    describe_networks,
    is_untuned,
    judged_by_teacher,
    load_networks,
)
from dsrface.commands.evaluate.overlap import (
    degradation_limits,
    enlarged_limits,
    find_overlaps,
    overlap_details,
    overlap_limits,
    unrecorded,
)
from dsrface.commands.evaluate.result import (
    FROZEN,
    TUNED,
    EvaluateResult,
    Evaluation,
    HeldThreshold,
)
from dsrface.commands.evaluate.strips import choose_strips, images_of
from dsrface.commands.evaluate.thresholds import hold_thresholds
from dsrface.commands.shared.datasets import outputs_of
from dsrface.commands.shared.evaluation_files import REPORT_FILE
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.benchmarks.benchmark import Benchmark
from dsrface.data.benchmarks.native import read_native
from dsrface.data.layout import FaceData, FaceSplit, open_data
from dsrface.data.pairs import Pairs
from dsrface.events import Emit, Note
from dsrface.runtime.command_line import command_line, quoted
from dsrface.runtime.devices import Device, choose_device
from dsrface.runtime.resources import effective_cores
from dsrface.types import HIGH_SIZE_PX, HIGH_SIZES_PX, VLR_SIZES_PX

_WORKERS_FROM_IMAGES = 2000

_FLIPPED = "Each embedding is the sum of those of the face and of its mirror image (--flip)."


def run(config: EvaluateConfig, *, emit: Emit) -> EvaluateResult | BenchmarkResult:
    """Measure, judge and report.

    Args:
        config: Complete configuration.
        emit: Takes notes and progress.

    Raises:
        DsrfaceError: whatever cannot be used, by family.
    """
    out = choose_folder(config)
    file = validation_file(config)
    if file is not None and file != config.data and config.protocol is None:
        emit(Note(f"{file} holds its own images: they are measured, not those of {config.data}"))
    if config.protocol is not None or file is not None:
        return _run_benchmark(config, read_benchmark(config), out, emit)
    data = open_data(config.data, high_sizes=HIGH_SIZES_PX)
    split = data.split(config.split)
    for note in data.notes:
        emit(Note(note))
    if data.is_native:
        native = read_native(data, split, max_pairs=config.max_pairs, seed=config.seed)
        return _run_benchmark(config, native, out, emit)
    for doubt in data.check_twins(config.vlr_size, config.split):
        emit(Note(doubt, is_warning=True))
    device = _choose_device(config, emit)
    outputs = None if config.dsr_outputs is None else outputs_of(split, data, config.dsr_outputs)
    networks = load_networks(config, outputs, device, emit, high_px=data.high_px)
    # Before anything is measured: a mistake in a pairs file must not show an hour later.
    pairs = choose_pairs(config, split, networks, emit)
    num_workers = _num_workers(config, len(split))
    measured = measure(
        split,
        networks,
        vlr_size=config.vlr_size,
        batch_size=config.batch_size,
        num_workers=num_workers,
        device=device,
        emit=emit,
        flip=config.flip,
    )
    figures = all_figures(config, split, measured, pairs, emit)
    held: tuple[HeldThreshold, ...] = ()
    if figures.scored.cells and pairs is not None:
        held = hold_thresholds(
            config,
            data,
            split,
            networks,
            measured,
            pairs[0],
            num_workers=num_workers,
            device=device,
            emit=emit,
        )
    evaluation = _evaluation(config, data, split, networks, figures, held, device)
    evaluation = _with_matrix(evaluation, config, split, device, emit)
    faces = _faces(config, evaluation, split, measured, networks, pairs, device)
    write_results(out, config, evaluation, split, measured, *faces)
    following = _next_command(config, evaluation, out)
    return EvaluateResult(evaluation.headline, str(out / REPORT_FILE), following, evaluation)


def _with_matrix(
    evaluation: Evaluation, config: EvaluateConfig, split: FaceSplit, device: Device, emit: Emit
) -> Evaluation:
    """Return the evaluation with every network on every degradation and size, where that is asked for."""
    if not config.matrix:
        return evaluation
    named = [*([config.dsr] if config.dsr else []), *config.matrix]
    sources = list(dict.fromkeys(named))  # people name the network that they measure here too
    matrix = measure_matrix(
        split, sources, num_draws=config.bootstrap, seed=config.seed, device=device, emit=emit
    )
    return replace(evaluation, matrix=matrix)


def _faces(
    config: EvaluateConfig,
    evaluation: Evaluation,
    split: FaceSplit,
    measured: Measured,
    networks: Networks,
    pairs: tuple[Pairs, Pairs | None] | None,
    device: Device,
) -> list[str]:
    """Return the sections of the report that show faces."""
    strips = choose_strips(split, measured, networks, vlr_size=config.vlr_size, device=device)
    sections = [strips_section(evaluation, strips)]
    if evaluation.cells and pairs is not None:
        hardest = find_hardest(measured, split, pairs[0])
        images = images_of(split, hardest.places, networks, vlr_size=config.vlr_size, device=device)
        sections.append(hardest_section(hardest, split, images))
    return sections


def _choose_device(config: EvaluateConfig, emit: Emit) -> Device:
    device = choose_device(config.device, amp=config.amp)
    emit(Note(f"device: {device.reason}"))
    return device


def _run_benchmark(config: EvaluateConfig, benchmark: Benchmark, out: Path, emit: Emit) -> BenchmarkResult:
    device = _choose_device(config, emit)
    networks = load_networks(config, None, device, emit)
    return run_benchmark(
        config, benchmark, networks, describe_networks(networks), out=out, device=device, emit=emit
    )


def _evaluation(
    config: EvaluateConfig,
    data: FaceData,
    split: FaceSplit,
    networks: Networks,
    figures: Figures,
    held: tuple[HeldThreshold, ...],
    device: Device,
) -> Evaluation:
    headline, winner = quality_answer(figures.quality, figures.comparisons, config.vlr_size)
    details: list[str] = []
    if figures.scored.cells:
        first = headline
        headline, details, winner = verification_answer(figures.scored, figures.comparisons, config.vlr_size)
        details.append(first)
    overlaps = find_overlaps(networks, split)
    doubts = overlap_limits(overlaps, split) + degradation_limits(networks, data, config.vlr_size)
    doubts += enlarged_limits(data)
    general = limits(
        figures.counts,
        is_drawn=is_drawn(data.info),
        split=split.name,
        trained_on=_trained_on(config, networks, data.source_digest),
        is_untuned=is_untuned(networks.recognisers),
        num_draws=config.bootstrap,
        cells=figures.scored.cells,
    )
    return Evaluation(
        headline=headline,
        details=(*details, *overlap_details(overlaps), *([_FLIPPED] if config.flip else [])),
        limits=(*judged_by_teacher(networks), *doubts, *general, *unrecorded(overlaps)),
        overlaps=overlaps,
        data=str(config.data),
        split=split.name,
        vlr_size=config.vlr_size,
        high_size=data.high_px,
        counts=figures.counts,
        networks=describe_networks(networks),
        quality=figures.quality,
        cells=figures.scored.cells,
        thresholds=held,
        comparisons=figures.comparisons,
        gallery=figures.gallery,
        identification=figures.identification,
        winner=winner,
        settings={
            "seed": config.seed,
            "bootstrap": config.bootstrap,
            "self_ensemble": "yes" if config.self_ensemble else "no",
            "flip": "yes" if config.flip else "no",
            "device": device.reason,
            "data_sha256": data.source_digest,
            "measured_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "again": command_line(),
            "dsrface": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.platform(),
        },
    )


def _trained_on(config: EvaluateConfig, networks: Networks, data_sha256: str) -> bool | None:
    """Return whether a network was trained on this data set, as its file says; None where it says nothing."""
    trained = [networks.dsr, networks.recognisers.get(TUNED) if config.finetuned else None]
    origins = [loaded.metadata.get("data_sha256") for loaded in trained if loaded is not None]
    origins += [None] if networks.dsr_outputs is not None else []
    return True if data_sha256 in origins else None if None in origins else False


def is_drawn(info: dict[str, Any]) -> bool:
    """Return whether a data set says that its faces are drawn, not photographed."""
    source = info.get("source", {})
    return isinstance(source, dict) and source.get("kind") == "drawn"


def _num_workers(config: EvaluateConfig, num_images: int) -> int:
    if config.workers != "auto":
        return config.workers
    return 0 if num_images < _WORKERS_FROM_IMAGES else effective_cores().effective


def _next_command(config: EvaluateConfig, evaluation: Evaluation, out: Path) -> str:
    data = quoted(config.data) if (config.data / "train").is_dir() else "DATA"  # a benchmark trains nothing
    if evaluation.high_size != HIGH_SIZE_PX and config.dsr is not None:
        return command_that_shows(out)
    if config.vlr_size not in VLR_SIZES_PX:
        return "dsrface prepare PHOTOS DATA --vlr-sizes " + ",".join(map(str, VLR_SIZES_PX))
    if config.dsr is None and config.dsr_outputs is None:
        return f"dsrface train-dsr {data} --vlr-size {config.vlr_size}"
    if config.finetuned is None:
        flag, place = ("--dsr-outputs", config.dsr_outputs) if config.dsr is None else ("--live", config.dsr)
        return f"dsrface finetune {data} --vlr-size {config.vlr_size} {flag} {quoted(str(place))}"
    role = TUNED if evaluation.winner.endswith(TUNED) else FROZEN
    weights = evaluation.networks.get(role, {}).get("path", str(config.finetuned))
    return f"dsrface embed FACES --weights {quoted(weights)} --out faces.npz"
