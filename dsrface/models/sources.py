"""Where a network is found: a run folder, a checkpoint folder, a file or a name. Free of torch."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from dsrface.config.catalogue import DSR_NETWORKS, RECOGNISERS, TIMM
from dsrface.errors import RunError, UsageError, WeightsError
from dsrface.models.timm_names import check_timm_name
from dsrface.runtime.command_line import quoted
from dsrface.runtime.files import read_json

MODEL_FILE = "model.safetensors"
TRAINER_FILE = "trainer.pt"  # the rest of a checkpoint, to go on from it
BEST, LAST = "best.json", "last.json"  # name the checkpoint in a run folder
JUDGE = "judge"
TORCHSCRIPT = "torchscript:"
CALLABLE = re.compile(r"(.+\.py|[A-Za-z_]\w*(\.\w+)*):[A-Za-z_]\w*(\.\w+)*")
_KIND_WORDS = {"dsr": "super-resolution network (DSR)", "recogniser": "recogniser"}
_TRAINED_BY = {"train-dsr": "dsr", "finetune": "recogniser"}
_LARGEST_HEADER = 100_000_000  # bytes; safetensors reads none that is larger
_NOT_TENSORS = {".onnx", ".json", ".py"}  # read by others
_CUT_SHORT = "It may have been cut short while copying; compare its size and fetch it again."
_WHAT_TO_GIVE = "Give a run folder that has saved a checkpoint, a checkpoint folder, or a weight file."

_OF_OTHERS = (
    "What others published does not come with dsrface: fetch the file from its authors.\n"
    "To train a recogniser without: leave --backbone-weights out."
)


def is_name(source: Path) -> bool:
    """Return whether a source is one of the names that `models.foreign` lists, not a path."""
    text = str(source)
    has_form = text == JUDGE or text.startswith((TORCHSCRIPT, TIMM)) or bool(CALLABLE.fullmatch(text))
    return has_form and not source.exists()


def is_program(source: Path) -> bool:
    """Return whether loading a source runs code that somebody else may have written."""
    text = str(source)
    return text.startswith(TORCHSCRIPT) or bool(CALLABLE.fullmatch(text))


def resolve_source(source: Path, kind: str = "") -> Path:
    """Return the weight file that a run folder, checkpoint folder or file stands for.

    Args:
        source: A path.
        kind: What is wanted, as of `check_source`; runs of the other kind are not offered instead.

    Raises:
        WeightsError: nothing there, a folder without weights, or what else a checkpoint holds.
    """
    if source.is_file():
        if source.name == TRAINER_FILE and (source.parent / MODEL_FILE).is_file():
            message, network = "This is the state of a training, not its network.", source.parent / MODEL_FILE
            raise WeightsError(
                message, id="weights-wrong-kind", where=source, hint=f"Did you mean {quoted(network)}?"
            )
        return _pointed_at(source) if source.name in (BEST, LAST) else source
    if not source.exists():
        raise _missing("There is no such file or folder.", source, _likely_runs(source, kind))
    if (source / MODEL_FILE).is_file():
        return source / MODEL_FILE
    for name in (BEST, LAST):
        if (source / name).is_file():
            return _pointed_at(source / name)
    raise _missing(
        "The folder holds no weights: neither model.safetensors nor best.json nor last.json.",
        source,
        _runs_in(source, kind) or ([source.parent] if is_run(source.parent) else []),
    )


def check_source(source: Path, kind: str, vlr_size: int | None = None) -> None:
    """Make sure that weights are there, and that a run's are of the kind that is wanted.

    Args:
        source: A path or a name; of what a name stands for, whether its file is there, or timm has it.
        kind: `"dsr"`, `"recogniser"`, or an empty text for either.
        vlr_size: Side of the images that a DSR must take, in pixels; None takes any.

    Raises:
        WeightsError: no weights, damaged ones, or the run trained the other kind of network.
        UsageError: a DSR that was trained for images of another size (`wrong-vlr-size`), or no network of
            timm (`unknown-backbone`).
    """
    if is_name(source):
        _check_name(source)
        return
    path = resolve_source(source, kind)

    def check_kind(found: str) -> None:
        if kind and found and found != kind:
            raise wrong_kind(found, kind, path, run=source)

    check_kind(_kind_of_run(source))
    metadata = _metadata(path)
    check_kind(metadata.get("kind", ""))
    trained_for = trained_for_px(metadata) if kind == "dsr" else None
    if vlr_size is not None and trained_for is not None and vlr_size != trained_for:
        raise wrong_vlr_size(trained_for, vlr_size, path)


def _check_name(name: Path) -> None:
    """Make sure that what a name stands for is there, as far as no code need run for that."""
    text = str(name)
    if text.startswith(TIMM):
        check_timm_name(text.removeprefix(TIMM).partition("@")[0])
        return
    file = Path(text.removeprefix(TORCHSCRIPT) if text.startswith(TORCHSCRIPT) else text.rpartition(":")[0])
    if (text.startswith(TORCHSCRIPT) or file.suffix == ".py") and not file.is_file():
        raise _missing("There is no such file.", file, [])


def is_safetensors(path: Path) -> bool:
    """Return whether a weight file is safetensors and not torch's own, by its start and end alone.

    Raises:
        WeightsError: neither, or cut short (`weights-damaged`).
    """
    return _header(path) is not None


def _header(path: Path) -> bytes | None:
    """Return the header of a safetensors file, a JSON object; None for a file of torch's own.

    Raises:
        WeightsError: as `is_safetensors`.
    """
    with path.open("rb") as handle:
        start = handle.read(16)
        if start[8:9] == b"{":  # eight bytes of length, then the header
            length = int.from_bytes(start[:8], "little")
            handle.seek(8)
            header = handle.read(min(length, _LARGEST_HEADER))
            num_bytes, wanted = path.stat().st_size, 8 + length + _end_of_tensors(header)
            if num_bytes < wanted:
                raise damaged(path, f"its {num_bytes:,} bytes are not the {wanted:,} that its start tells of")
            return header
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise damaged(path, "the end of its archive is missing")
    if start[:2] == b"PK" and _is_of_numpy(path):
        raise damaged(path, "it is an archive of NumPy, as galleries are", hint=_WHAT_TO_GIVE)
    if start[:2] == b"PK" or start[:1] == b"\x80":  # torch's zip, or a bare pickle as torch wrote before 1.6
        return None
    what = "something else" if start else "empty"
    if start.lstrip().startswith(b"<"):
        what = "a web page, perhaps of a failed download"
    elif start.startswith(b"version https://"):
        what = "the place holder of a file that Git LFS has"
        raise damaged(path, f"it is only {what}", hint="Get the file itself: git lfs pull")
    run = _did_you_mean([path.parent] if is_run(path.parent) else [])
    hint = "\n".join(filter(None, [run, _WHAT_TO_GIVE if what == "something else" else _CUT_SHORT]))
    raise damaged(path, f"it is neither a safetensors nor a torch file but {what}", hint=hint)


def _is_of_numpy(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except Exception:  # noqa: BLE001 - of a damaged list of names zipfile raises anything; see weight_files
        return False


def damaged(path: Path, problem: str, *, hint: str = _CUT_SHORT) -> WeightsError:
    """Return the error of a weight file that cannot be read."""
    return WeightsError(
        f"The weight file is damaged: {problem}.", id="weights-damaged", where=path, hint=hint
    )


def trained_for_px(metadata: Mapping[str, str]) -> int | None:
    """Return the size that the DSR of a file was trained for; None where it takes any, or does not tell."""
    try:
        config = json.loads(metadata["config"])
        return None if DSR_NETWORKS[config["arch"]].takes_any_size else int(config["vlr_size"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _metadata(path: Path) -> dict[str, str]:
    """Return what a file of dsrface says of itself; nothing for files of others.

    Raises:
        WeightsError: as `is_safetensors`.
    """
    is_of_others = path.suffix in _NOT_TENSORS and not is_run(path.parent)
    header = None if is_of_others else _header(path)
    if header is None:
        return {}
    try:
        metadata: dict[str, str] = json.loads(header)["__metadata__"]
        return metadata if metadata["format"] == "dsrface" else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _end_of_tensors(header: bytes) -> int:
    """Return how many bytes the header of a safetensors file says to follow; 0 where it cannot be read."""
    try:
        items: dict[str, dict[str, list[int]]] = json.loads(header)
        return max(
            (item["data_offsets"][1] for name, item in items.items() if name != "__metadata__"), default=0
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return 0


def facts_of(source: Path | None) -> dict[str, str]:
    """Return what the file of dsrface at a run folder or path says of itself; nothing for other networks."""
    with contextlib.suppress(WeightsError, OSError):
        if source is not None and not is_name(source):
            return _metadata(resolve_source(source))
    return {}


def variant_of(facts: Mapping[str, str]) -> str:
    """Return the network that the facts of a recogniser name; empty where they name none."""
    try:
        return str(json.loads(facts["config"])["variant"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def wrong_backbone(found: str, wanted: str, path: Path) -> UsageError:
    """Return the error of weights that are of another network than `--backbone` names."""
    return UsageError(
        f"The weights are of {found}, not of {wanted}.",
        id="wrong-backbone",
        where=path,
        hint=f"Use --backbone {found}.",
    )


def kind_at(path: Path) -> str:
    """Return which kind of network a run folder or a weight file holds; empty where nothing says so."""
    with contextlib.suppress(WeightsError, OSError):
        if is_run(path):
            return _kind_of_run(path)
        file = path / MODEL_FILE if path.is_dir() else path
        return _metadata(file).get("kind", "") if file.is_file() else ""
    return ""


def runs_near(folders: Iterable[Path], kind: str) -> list[Path]:
    """Return the run folders in some folders that are known to have trained a kind of network."""
    return [run for folder in folders for run in _runs_in(folder, kind) if _kind_of_run(run)]


def wrong_kind(found: str, wanted: str, path: Path, *, run: Path | None = None) -> WeightsError:
    """Return the error of weights that are of the other kind of network.

    Args:
        found: `"dsr"` or `"recogniser"`, or what else a file says of itself.
        wanted: `"dsr"` or `"recogniser"`.
        path: The weight file.
        run: The run folder that was named, when it was one; runs next to it are looked through.
    """
    others = [] if run is None else [item for item in _runs_in(run.parent, wanted) if _kind_of_run(item)]
    trains = next(command for command, kind in _TRAINED_BY.items() if kind == wanted)
    return WeightsError(
        f"This is a {_KIND_WORDS.get(found, found)}, where a {_KIND_WORDS[wanted]} is wanted.",
        id="weights-wrong-kind",
        where=path,
        hint=_did_you_mean(others) or f"`dsrface {trains}` makes one.",
    )


def wrong_vlr_size(found: int, wanted: int, path: Path) -> UsageError:
    """Return the error of a DSR that takes images of another size.

    Args:
        found: Side of its images, in pixels.
        wanted: Side of those that it would get.
        path: The weight file.
    """
    return UsageError(
        f"The DSR was trained for {found} px, not for {wanted} px.",
        id="wrong-vlr-size",
        where=path,
        hint=f"Use --vlr-size {found}, or a DSR of the size you mean.",
    )


def _missing(message: str, source: Path, runs: list[Path]) -> WeightsError:
    what_to_give = _WHAT_TO_GIVE
    if str(source) in RECOGNISERS:
        what_to_give = f"{source} is an architecture; give the file of its weights, such as {source}.pt."
    elif source.stem in RECOGNISERS:
        what_to_give = _OF_OTHERS
    hint = "\n".join(filter(None, [_did_you_mean(runs), what_to_give]))
    return WeightsError(message, id="weights-missing", where=source, hint=hint)


def _likely_runs(source: Path, kind: str) -> list[Path]:
    """Return the run next to a path that is not there whose name is like it, else all runs there."""
    runs = {run.name: run for run in _runs_in(source.parent, kind)}
    near = difflib.get_close_matches(source.name, runs, n=1)
    return [runs[name] for name in near] or list(runs.values())


def _runs_in(folder: Path, kind: str) -> list[Path]:
    """Return the runs in a folder, without those that are known to have trained the other kind."""
    try:
        runs = sorted(entry for entry in folder.iterdir() if is_run(entry))
    except OSError:
        return []
    return [run for run in runs if not kind or _kind_of_run(run) in ("", kind)]


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run that has saved a checkpoint."""
    return any((folder / name).is_file() for name in (BEST, LAST))


def _did_you_mean(runs: list[Path]) -> str:
    return f"Did you mean {' or '.join(map(str, runs[:4]))}?" if runs else ""


def _kind_of_run(folder: Path) -> str:
    """Return which kind of network a run folder trained; empty where that is not known."""
    try:
        return _TRAINED_BY.get(str(read_json(folder / "run.json").get("command")), "")
    except RunError:
        return ""


def _pointed_at(pointer: Path) -> Path:
    try:
        checkpoint = str(read_json(pointer)["checkpoint"])
    except (RunError, KeyError) as error:
        raise WeightsError(
            "The file does not name a checkpoint.", id="weights-damaged", where=pointer
        ) from error
    path = pointer.parent / checkpoint / MODEL_FILE
    if not path.is_file():
        raise WeightsError(
            f"{pointer.name} points at a checkpoint that is not there.", id="weights-missing", where=path
        )
    return path
