"""What commands look at before torch is loaded, where several values together tell: see `Config.together`."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsrface.commands.shared.evaluation_files import check_report_folder
from dsrface.config.catalogue import TIMM
from dsrface.config.embed import EmbedConfig
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.export import ExportConfig
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.people import EnrolConfig, VerifyConfig
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.benchmarks.archive import check_kind
from dsrface.data.decode import image_size, read_image, walk_images, wrong_size
from dsrface.data.folders import (
    HIGH_FOLDER,
    PLAIN_OUTPUTS_FOLDER,
    check_vlr_size,
    outputs_folder,
    person_of,
    split_roots,
    vlr_sizes_of,
)
from dsrface.data.formats.pair_lists import read_pair_list
from dsrface.data.formats.validation_set import BIN_SUFFIX, check_is_pickle
from dsrface.data.outputs.given import made_by
from dsrface.data.pair_finder import PairFinder
from dsrface.data.photos.given import find_photos
from dsrface.data.photos.persons import PersonRule, choose_person_rule, without_persons
from dsrface.data.stored import differences, stale
from dsrface.errors import DataError, ImageError, UsageError
from dsrface.metrics.bootstrap import MIN_PERSONS
from dsrface.metrics.verification import min_impostors
from dsrface.models.judge_files import judge_by_default, require_judge
from dsrface.models.sources import (
    JUDGE,
    facts_of,
    kind_at,
    resolve_source,
    trained_for_px,
    variant_of,
    wrong_backbone,
)
from dsrface.models.timm_names import check_timm_name
from dsrface.runtime.command_line import typed_with
from dsrface.runtime.files import check_writable, sha256_file
from dsrface.types import HIGH_SIZE_PX

__all__ = [
    "check_backbone",
    "check_benchmark",
    "check_faces",
    "check_input",
    "check_judge",
    "check_pairs",
    "check_persons",
    "check_pixels",
    "check_recogniser",
    "check_report_folder",
    "check_threshold",
]

_LOOKED_AT = 1000  # headers of images: a tenth of a second
_READ_PIXELS = 16_000_000  # of the first images: half a second
_SKIP = "--on-bad-image skip leaves such files out."
_WITHOUT_FACTS = {".pt", ".pth"}  # files of others, which say nothing of thresholds


def check_recogniser(config: EmbedConfig | EnrolConfig | VerifyConfig) -> None:
    """Make sure that there is a recogniser: the judge, where none is named.

    Raises:
        UsageError: none is named, and the judge is not installed.
        MachineError: the judge is named, and not installed.
    """
    if config.weights is None:
        judge_by_default()
    elif str(config.weights) == JUDGE:
        require_judge()


def check_judge(config: EvaluateConfig) -> None:
    """Make sure that the judge is installed where it is named.

    Raises:
        MachineError: it is not.
    """
    if str(config.recogniser) == JUDGE:
        require_judge()


def check_faces(config: EmbedConfig) -> None:
    """Make sure that faces have the size that recognisers of dsrface take, and that the first are whole.

    Raises:
        ImageError: one has another size or cannot be read to its end, and that is an error.
    """
    if config.on_bad_image != "fail":
        return
    is_sized = config.dsr is None and bool(facts_of(config.weights))
    num_pixels = 0
    for photo in [config.images] if config.images.is_file() else _first_images(config.images):
        try:
            width, height = image_size(photo)
            if is_sized and (width, height) != (HIGH_SIZE_PX, HIGH_SIZE_PX):
                raise of_another_size(wrong_size(photo, width, height, HIGH_SIZE_PX))
            num_pixels += width * height
            if num_pixels <= _READ_PIXELS:
                read_image(photo)
        except ImageError as error:
            raise may_be_skipped(error) from None


def may_be_skipped(error: ImageError) -> ImageError:
    """Return the error of an image that ends a command, with the option that leaves such images out."""
    hint = error.hint if _SKIP in error.hint else f"{error.hint} {_SKIP}".lstrip()
    return ImageError(error.message, id=error.id, where=error.where, hint=hint)


def of_another_size(error: ImageError) -> ImageError:
    """Return the error of a face of another size, with what takes such faces."""
    hint = (
        f"--dsr RUN takes faces of any size: small ones go through that network, others are resized. {_SKIP}"
    )
    return ImageError(error.message, id=error.id, where=error.where, hint=f"{hint} {error.hint}")


def check_input(config: PrecomputeConfig) -> None:
    """Make sure that there are images of the DSR's size, and that their outputs can be written.

    Raises:
        MachineError: the data set has no outputs yet, and cannot be written to.
        RunError: outputs that another DSR made are there (`stale`).
        DataError: no folder, or no images in it, or none of this size.
        ImageError: one has another size.
    """
    facts = facts_of(config.weights)
    size_px = trained_for_px(facts) or config.vlr_size
    if config.data is not None and size_px is not None:
        check_vlr_size(config.data, size_px, instead="The DSR takes no other: use one for {} px.")
        if facts and not config.verify and not config.force:
            _check_same_dsr(config.data, config.weights, size_px)
    if config.data is not None and not config.verify:
        for root in split_roots(config.data).values():
            if not any(root.glob(f"{PLAIN_OUTPUTS_FOLDER}*")):
                check_writable(root / PLAIN_OUTPUTS_FOLDER, is_folder=True)
    if config.input is None:
        return
    check_input_folder(config.input)
    if size_px is not None:
        for image in _first_images(config.input):
            _check_size(image, size_px)


def _check_same_dsr(data: Path, weights: Path, size_px: int) -> None:
    """Refuse outputs that the file of another DSR made, before torch is loaded for them."""
    folders = [root / outputs_folder(size_px) for root in split_roots(data).values()]
    found = [(folder, sha256) for folder in folders if (sha256 := made_by(folder))]
    wanted = sha256_file(resolve_source(weights)) if found else ""
    for folder, sha256 in found:
        if sha256 != wanted:
            raise stale(differences({"dsr_sha256": sha256}, {"dsr_sha256": wanted}), folder)


def check_input_folder(folder: Path) -> None:
    """Make sure that there are images.

    Raises:
        DataError: no folder, or no images in it.
    """
    if not folder.is_dir():
        message = "The input is not a folder." if folder.exists() else "The input folder does not exist."
        raise DataError(
            message, id="folder-missing", where=folder, hint="--input takes a folder of VLR faces."
        )
    if next(walk_images(folder), None) is None:
        hint = "Images are files such as .png or .jpg, in any sub-folders."
        raise DataError("The input folder holds no images.", id="empty-split", where=folder, hint=hint)


def check_backbone(config: FinetuneConfig) -> None:
    """Make sure that timm has the recogniser that is named of it, and that weights are of the one named.

    Raises:
        UsageError: it has none of that name, or the weights are of another one.
    """
    if config.backbone.startswith(TIMM):
        check_timm_name(config.backbone.removeprefix(TIMM))
    found = variant_of(facts_of(config.backbone_weights))
    if config.backbone_weights is not None and found and found != config.backbone:
        raise wrong_backbone(found, config.backbone, resolve_source(config.backbone_weights))


def check_pixels(config: ExportConfig) -> None:
    """Make sure that a network whose file shall normalise pixels normalises any.

    Raises:
        UsageError: as `nothing_to_normalise`.
    """
    if config.pixels and kind_at(config.source) == "dsr":
        raise nothing_to_normalise()


def nothing_to_normalise() -> UsageError:
    """Return the refusal of `--pixels` for a DSR."""
    return UsageError(
        "A DSR takes RGB in [0, 1]: there is nothing that the file could normalise.",
        id="bad-config",
        hint="Leave out --pixels.",
    )


def check_benchmark(config: EvaluateConfig) -> None:
    """Make sure that data can be that of a published benchmark.

    Raises:
        DataError: as `check_kind` and `check_is_pickle`.
    """
    if config.protocol is not None:
        check_kind(config.data, config.protocol, config.vlr_size)
    for file in (config.pairs, config.data):
        if file is None or not file.is_file():
            continue
        if file.suffix.lower() == BIN_SUFFIX or (config.protocol == "bin" and file == config.data):
            check_is_pickle(file)


def check_pairs(config: EvaluateConfig) -> None:
    """Make sure that a list names a pair of the split, where the data is a data set and pairs are compared.

    Raises:
        DataError: it names none (`pairs-elsewhere`).
    """
    is_used = config.recogniser is not None or config.finetuned is not None
    faces = config.data / config.split / HIGH_FOLDER
    if config.pairs is None or config.protocol is not None or not is_used or not faces.is_dir():
        return
    if config.pairs.suffix.lower() != BIN_SUFFIX:
        pairs, find = read_pair_list(config.pairs).pairs, PairFinder(list(walk_images(faces)))
        if all(None in (find(pair.first), find(pair.second)) for pair in pairs):
            raise pairs_elsewhere(config.pairs, len(pairs), config.split)


def pairs_elsewhere(path: Path, num_pairs: int, split: str) -> DataError:
    """Return the error of a list of pairs that names none of a split."""
    return DataError(
        f"None of its {num_pairs} pairs is in the {split} split.",
        id="pairs-elsewhere",
        where=path,
        hint="Is this the pairs file of these persons? --split chooses another split.",
    )


def check_threshold(config: EnrolConfig | VerifyConfig) -> None:
    """Make sure that there is a threshold for a rate, or what chooses one.

    Raises:
        UsageError: neither (`no-threshold`), no size of the faces that it is chosen on, or too few of these.
    """
    if config.calibrate is not None and config.vlr_size is None and config.dsr is None:
        raise no_size_to_calibrate(config)
    if config.calibrate is not None and (val := split_roots(config.calibrate).get("val")):
        images = list(walk_images(val / HIGH_FOLDER)) if (val / HIGH_FOLDER).is_dir() else []
        num_persons = len(set(map(person_of, images)))
        is_too_small = num_persons < MIN_PERSONS or len(images) ** 2 < min_impostors(config.far)
        if images and is_too_small:
            raise val_too_small(config, num_persons)
    if config.threshold is not None or config.calibrate is not None:
        return
    is_judge = config.weights is None or str(config.weights) == JUDGE
    facts = facts_of(config.weights)
    if not (facts or is_judge or (config.weights is not None and config.weights.suffix in _WITHOUT_FACTS)):
        return
    try:
        have = [
            float(item["far"]) for item in json.loads(facts.get("thresholds", '{"chosen": []}'))["chosen"]
        ]
    except (ValueError, KeyError, TypeError):
        return  # what is wrong with them is said when they are read
    if not any(math.isclose(far, config.far) for far in have):
        path = Path(JUDGE) if is_judge or config.weights is None else resolve_source(config.weights)
        raise no_threshold(variant_of(facts) or path.name, path, config.far, have, config.command)


def no_threshold(name: str, path: Path, far: float, have: list[float], command: str) -> UsageError:
    """Return the error of a recogniser without a threshold for a false-accept rate.

    Args:
        name: Of the recogniser.
        path: Of its weights.
        far: The rate that is asked for.
        have: Those that it has thresholds for.
        command: Which asks.
    """
    known = f" (it has those for {', '.join(f'{each:g}' for each in have)})." if have else "."
    return UsageError(
        f"{name} has no threshold for a false-accept rate of {far:g}{known}",
        id="no-threshold",
        where=path,
        hint="Choose one on persons of your own, in a set made by `dsrface prepare`: "
        f"{typed_with('--calibrate DATA', command=command)}\nOr give it: --threshold COSINE",
    )


def val_too_small(config: EnrolConfig | VerifyConfig, num_persons: int) -> UsageError:
    """Return the error of `--calibrate` with a data set that has too few validation persons for the rate."""
    return UsageError(
        f"The {num_persons} validation persons cannot support a false-accept rate of {config.far:g}: "
        f"{MIN_PERSONS} persons and {min_impostors(config.far)} impostor pairs are needed.",
        id="val-too-small",
        where=config.calibrate or "",
        hint="Prepare the data with more validation persons, such as --split 0.6,0.2,0.2"
        + ("." if num_persons < MIN_PERSONS else ", or ask for a higher --far."),
    )


def no_size_to_calibrate(config: EnrolConfig | VerifyConfig) -> UsageError:
    """Return the error of `--calibrate` without the size of the faces that the threshold is for."""
    sizes = vlr_sizes_of(config.calibrate) if config.calibrate is not None else []
    return UsageError(
        "--calibrate needs the size of the low-resolution faces.",
        id="vlr-size-missing",
        hint="\n".join(typed_with(f"--vlr-size {size}", command=config.command) for size in sizes or [16]),
    )


def check_persons(config: EnrolConfig) -> None:
    """Make sure that it is known whose photos are.

    Raises:
        DataError: as `persons_of`.
    """
    _, names = find_photos(config.gallery)
    persons_of(config, names)


def persons_of(config: EnrolConfig, names: Sequence[str]) -> tuple[PersonRule, dict[str, str]]:
    """Return how the persons of photos are known, and whose each photo is that somebody is known of.

    Raises:
        DataError: of no photo (`no-person`).
    """
    rule = choose_person_rule(config.persons, names)
    attributed = {name: found.person for name in names if (found := rule.tell(name)) is not None}
    if not attributed:
        raise DataError(
            "It is unknown whose the photos are.",
            id="no-person",
            where=config.gallery,
            hint=without_persons(config.persons, names)
            or "Put them in one folder per person, or give --persons.",
        )
    return rule, attributed


def _first_images(folder: Path) -> Iterator[Path]:
    return (folder / name for name in itertools.islice(walk_images(folder), _LOOKED_AT))


def _check_size(image: Path, size_px: int) -> None:
    width, height = image_size(image)
    if (width, height) != (size_px, size_px):
        raise wrong_size(image, width, height, size_px)
