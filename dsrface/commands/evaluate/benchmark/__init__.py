"""`dsrface evaluate` on a published benchmark, or on native low-resolution faces: figures without twins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dsrface.commands.evaluate.benchmark.features import Embedded, embed_faces
from dsrface.commands.evaluate.benchmark.result import BenchmarkResult, SearchFigures
from dsrface.commands.evaluate.benchmark.scoring import Judged, judge
from dsrface.commands.evaluate.benchmark.sheet import write_sheet
from dsrface.commands.evaluate.findings import NEVER_EVIDENCE, percent, points
from dsrface.commands.evaluate.folder import command_that_shows
from dsrface.commands.evaluate.images import Networks
from dsrface.commands.evaluate.networks import judged_by_teacher
from dsrface.commands.evaluate.result import RAW, REFERENCES, Cell
from dsrface.commands.shared.evaluation_files import RESULT_FILE
from dsrface.config.catalogue import BENCHMARKS, MAIN_PROTOCOL, load
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.sources import to_toml
from dsrface.data.benchmarks.archive import check_kind
from dsrface.data.benchmarks.benchmark import Benchmark, nobody_to_find
from dsrface.data.benchmarks.verifications import read_bin
from dsrface.data.formats.validation_set import BIN_SUFFIX
from dsrface.engine.run_claim import CONFIG_FILE
from dsrface.errors import DataError
from dsrface.events import Emit, Note
from dsrface.metrics.bootstrap import MIN_DRAWS, MIN_PERSONS
from dsrface.runtime.command_line import joined
from dsrface.runtime.devices import Device
from dsrface.runtime.files import write_json, write_text
from dsrface.runtime.text import count_text
from dsrface.types import HIGH_SIZE_PX

__all__ = ["BenchmarkResult", "read_benchmark", "run_benchmark", "validation_file"]

SHEET_FILE = "pictures.png"
_SIZES_LOOKED_AT = 200


def validation_file(config: EvaluateConfig) -> Path | None:
    """Return the `.bin` file that is named as data or as pairs: it holds its own images and pairs."""
    named = (config.pairs, config.data)
    return next((path for path in named if path is not None and path.suffix.lower() == BIN_SUFFIX), None)


def read_benchmark(config: EvaluateConfig) -> Benchmark:
    """Read the benchmark that a configuration asks for; a `.bin` file is one without being asked for.

    Its false-accept rates are the published ones, unless the configuration was given others.

    Raises:
        DataError: it does not exist, or is laid out in another way.
    """
    found = _read(config)
    if "fars" not in config.model_fields_set:
        return found
    if not found.pair_tests:
        unused = f"{found.name} compares no pairs, so there is no rate for fars"
        return replace(found, notes=(*found.notes, unused))
    return replace(found, fars=config.fars)


def _read(config: EvaluateConfig) -> Benchmark:
    file = validation_file(config)
    if file is not None and config.protocol in {None, "bin"}:
        return read_bin(file)
    assert config.protocol is not None
    if not config.data.exists():
        raise DataError("There is no such folder or file.", id="no-data-set", where=config.data)
    check_kind(config.data, config.protocol, config.vlr_size)
    entry = BENCHMARKS[config.protocol]
    pairs = {"pairs": config.pairs} if entry.takes_pairs else {}
    found: Benchmark = load(entry.read)(config.data, **entry.options, **pairs)
    return found


def run_benchmark(
    config: EvaluateConfig,
    benchmark: Benchmark,
    networks: Networks,
    described: dict[str, dict[str, str]],
    *,
    out: Path,
    device: Device,
    emit: Emit,
) -> BenchmarkResult:
    """Embed every face, judge and write the results.

    Args:
        config: Complete configuration.
        benchmark: What to measure on.
        networks: With what.
        described: Role to name, path and SHA-256, for the record.
        out: Folder of the results.
        device: Where the networks are.
        emit: Takes notes and progress.

    Raises:
        DataError: no face can be used, or the recognisers are missing.
    """
    for note in benchmark.notes:
        emit(Note(f"{benchmark.name}: {note}"))
    if reason := nobody_to_find(benchmark):
        if not benchmark.pair_tests:
            raise DataError(
                reason,
                id="too-few-persons",
                where=config.data,
                hint="The ids are in the .mat lists, or what stands before the first underscore of a name.",
            )
        emit(Note(reason, is_warning=True))
    if networks.dsr_outputs is not None or config.dsr_outputs is not None:
        raise DataError(
            "Native faces are super-resolved here by a network; stored outputs are not read.",
            id="no-twins",
            where=config.dsr_outputs,
            hint="Give the network with --dsr.",
        )
    embedded = embed_faces(
        benchmark,
        networks,
        vlr_size=config.vlr_size,
        flip=config.flip,
        batch_size=config.batch_size,
        device=device,
        emit=emit,
    )
    for position, reason in embedded.bad.items():
        emit(Note(f"left out {benchmark.faces[position].name}: {reason}", is_warning=True))
    if not embedded.features:
        raise DataError("No face of the benchmark can be used.", id="nothing-usable", where=config.data)
    judged = judge(benchmark, embedded, num_draws=config.bootstrap, seed=config.seed)
    result = _result(config, benchmark, embedded, judged, described, out, device)
    result = replace(result, limits=(*judged_by_teacher(networks), *result.limits))
    write_text(out / CONFIG_FILE, to_toml(config))
    write_json(out / RESULT_FILE, result.to_dict())
    write_sheet(out / SHEET_FILE, benchmark, embedded, networks, vlr_size=config.vlr_size, device=device)
    return result


def _next_command(config: EvaluateConfig, out: Path, *, has_recogniser: bool) -> str:
    """Return the same measurement with the network that it lacks, or what shows all of its figures."""
    lacks = [] if has_recogniser else ["--recogniser", "WEIGHTS"]
    lacks += [] if config.dsr is not None or not has_recogniser else ["--dsr", "RUN"]
    if not lacks:
        return command_that_shows(out)
    again = ["dsrface", "evaluate", str(config.data), "--vlr-size", str(config.vlr_size), *lacks]
    for key in ("dsr", "recogniser", "finetuned", "protocol", "split", "pairs"):
        if key in config.model_fields_set and getattr(config, key) is not None:
            again += [f"--{key}", str(getattr(config, key))]
    return joined([*again, "--flip"] if config.flip else again)


def _result(
    config: EvaluateConfig,
    benchmark: Benchmark,
    embedded: Embedded,
    judged: Judged,
    described: dict[str, dict[str, str]],
    out: Path,
    device: Device,
) -> BenchmarkResult:
    has_recogniser = any(role not in REFERENCES for _, role in embedded.features)
    num_persons = _num_judged(benchmark)
    where = f"At {config.vlr_size} px" if benchmark.has_twins else "On native faces"
    return BenchmarkResult(
        summary=_summary(judged, where),
        location=str(out),
        next_command=_next_command(config, out, has_recogniser=has_recogniser),
        protocol=benchmark.name,
        data=str(config.data),
        vlr_size=config.vlr_size if benchmark.has_twins else None,
        native_px=embedded.native_px if config.dsr is not None else {},
        num_faces=len(benchmark.faces) - len(embedded.bad),
        num_persons=num_persons,
        num_genuine=judged.num_genuine,
        num_impostor=judged.num_impostor,
        networks=described,
        searches=judged.searches,
        cells=judged.cells,
        comparisons=judged.comparisons,
        limits=(*_not_aligned(benchmark, embedded), *_limits(config, judged, num_persons)),
        bad_images={benchmark.faces[place].name: reason for place, reason in embedded.bad.items()},
        settings={
            "seed": config.seed,
            "bootstrap": config.bootstrap,
            "flip": config.flip,
            "device": device.reason,
            "measured_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )


def _num_judged(benchmark: Benchmark) -> int:
    """Return how many persons the figures come from: those searched for, or those in pairs."""
    if benchmark.searches:
        probes = np.unique(np.concatenate([search.probes for search in benchmark.searches]))
        enrolled = {benchmark.faces[k].person for k in benchmark.searches[0].gallery.tolist()}
        return len({benchmark.faces[k].person for k in probes.tolist()} & enrolled)
    return len({unit.person for unit in benchmark.templates or benchmark.faces})


def _summary(judged: Judged, where: str) -> str:
    """Return the best figure of the search with most probes, and what DSR against bicubic shows there."""
    searches = [item for item in judged.searches if item.recogniser not in REFERENCES and 1 in item.ranks]
    if searches:
        most = max(item.num_known for item in searches)
        best = max((item for item in searches if item.num_known == most), key=_rank1)
        title = f", {best.search}" if best.search else ""
        text = f"{where}, {best.name} finds {percent(best.ranks[1])} at rank 1{title}"
        protocol, metric = best.search or "search", "rank1"
    else:
        cells = [cell for cell in judged.cells if cell.recogniser not in REFERENCES]
        if not cells:
            return f"{where} there are only figures of raw pixels: name a recogniser."
        main = [cell for cell in cells if cell.protocol == MAIN_PROTOCOL] or cells
        lowest = min(main, key=_eer)
        text = f"{where}, {lowest.name} has the lowest EER, {lowest.protocol}: {percent(lowest.eer)}"
        protocol, metric = lowest.protocol, "eer"
    gain = next(
        (
            item
            for item in judged.comparisons
            if (item.protocol, item.metric) == (protocol, metric)
            and item.first.startswith("DSR")
            and item.second.startswith("bicubic")
            and RAW not in item.first
        ),
        None,
    )
    if gain is None:
        return f"{text}."
    return f"{text}. DSR against bicubic: {gain.verdict}, {points(gain.difference)}."


def _rank1(item: SearchFigures) -> float:
    return item.ranks[1].value or 0.0


def _eer(cell: Cell) -> float:
    return 1.0 if cell.eer.value is None else cell.eer.value


def _not_aligned(benchmark: Benchmark, embedded: Embedded) -> tuple[str, ...]:
    """Return a sentence where HR images are no aligned faces by their size; some of them are looked at."""
    used = [
        face
        for place, face in enumerate(benchmark.faces)
        if not face.is_low and face.points is None and place not in embedded.bad
    ]
    sizes = [face.size() for face in used[:: max(1, len(used) // _SIZES_LOOKED_AT)]]
    others = [size for size in sizes if size != (HIGH_SIZE_PX, HIGH_SIZE_PX)]
    if not others:
        return ()
    width, height = others[0]
    text = (
        f"HR images are {width}x{height}, not {HIGH_SIZE_PX}x{HIGH_SIZE_PX}: they were resized as they are, "
        "and recognisers expect aligned faces. `dsrface prepare IMAGES DATA --split 0,0,1` aligns them; "
        "`dsrface evaluate DATA --pairs FILE` then measures the same pairs."
    )
    return (text,)


def _limits(config: EvaluateConfig, judged: Judged, num_persons: int) -> tuple[str, ...]:
    found = []
    if num_persons < MIN_PERSONS:
        found.append(
            f"Only {count_text(num_persons, 'person')}: below {MIN_PERSONS} no interval can be trusted, so "
            "none is given and nothing is judged."
        )
    if config.bootstrap < MIN_DRAWS:
        found.append(f"Fewer than {MIN_DRAWS} bootstrap draws, so no intervals: nothing is judged.")
    unsure = sorted(
        {fpir for item in judged.searches for fpir, rate in item.tpirs.items() if rate.value is None}
    )
    if unsure:
        rates = ", ".join(f"{fpir:g}" for fpir in unsure)
        found.append(f"Too few unknown probes for an FPIR of {rates}: 3 / FPIR are needed.")
    found.append("One data set: other cameras, poses and people will give other figures.")
    return (*found, NEVER_EVIDENCE) if config.dsr is not None else tuple(found)
