"""What can be looked at before torch is loaded, which takes seconds: paths, runs, extras, where to write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsrface.errors import DataError, DsrfaceError, RunError, UsageError
from dsrface.runtime.command_line import joined, quoted, resume_command, unpack_command

if TYPE_CHECKING:
    from dsrface.config.sources import Config

_ADDRESS = re.compile(r"[a-z]{2,}:/")  # of the web; as a path it has lost a slash
_OF_A_BENCHMARK = "Name the folder that the benchmark's archive was unpacked to, or its .bin file."
_WINDOWS = re.compile(r"[A-Za-z]:\\")


def look_first(config: Config) -> None:
    """Look at what needs no torch.

    Raises:
        RunError: a result is there that would be overwritten.
        DataError: what the command reads is not there, or is of the wrong kind.
        ImageError: a photo is no image by its header.
        WeightsError: no weights, or those of the other kind of network.
        MachineError: a GPU or an extra that it asks for is not there; the result could not be written.
    """
    from dsrface.config.catalogue import load
    from dsrface.data.folders import check_vlr_size
    from dsrface.runtime.devices import check_driver
    from dsrface.runtime.files import check_free, check_writable
    from dsrface.runtime.versions import require

    check_driver(getattr(config, "device", "auto"))
    for key, id in config.reads.items():
        for path in _paths(config, key):
            has_other_layout = _has_other_layout(config, path)
            _check_input(path, id, config, has_other_layout=has_other_layout)
    for key, kind in config.networks.items():
        for path in _paths(config, key):
            vlr_size = None if key == "matrix" else getattr(config, "vlr_size", None)
            _check_network(path, kind, vlr_size, takes_outputs=hasattr(config, "dsr_outputs"))
    for key, look in config.looks.items():
        for path in _paths(config, key):
            load(look)(path)
    for data, size_px in config.small_faces():
        check_vlr_size(data, size_px)
    _check_outputs(config)
    for look in config.together:
        load(look)(config)
    for path in config.not_yet_there():
        check_free(path, command=config.command)
    for module, extra in config.needs():
        require(module, extra=extra)
    for keys, is_folder in ((config.writes, False), (config.fills, True)):
        for key in keys:
            for path in _paths(config, key):
                check_writable(path, is_folder=is_folder)
    _check_run(config)


def _paths(config: Config, key: str) -> Iterator[Path]:
    value: Any = getattr(config, key)
    if isinstance(value, tuple):
        yield from value
    elif value is not None:
        yield value


def _has_other_layout(config: Any, path: Path) -> bool:
    """Return whether a path is the data of a published benchmark, for the command that measures these."""
    is_file = path.is_file() and path.suffix.lower() == ".bin"
    return hasattr(config, "protocol") and (config.protocol is not None or is_file)


def _check_input(path: Path, id: str, config: Config, *, has_other_layout: bool) -> None:
    from dsrface.runtime.error_texts import error_texts

    text = error_texts()[id]
    family = RunError if text.exit_code == RunError.exit_code else DataError
    if not path.exists():
        what_to_give = _OF_A_BENCHMARK if id == "no-data-set" and has_other_layout else text.hint
        meant = _moved_data(path, config) if id == "no-data-set" else _turned_round(config)
        hint = "\n".join(filter(None, [meant, _kind_hint(path), what_to_give]))
        raise family("There is nothing at this path.", id=id, where=path, hint=hint)
    if path.is_file() and (unpack := unpack_command(path)):
        raise family("This is an archive, not a folder.", id=id, where=path, hint=f"Unpack it: {unpack}")
    kind = {"no-data-set": "a data set", "no-source": "photos"}.get(id)
    if kind and (resume := resume_hint(path, config.command)):
        raise DataError(f"This is a run folder, not {kind}.", id=id, where=path, hint=resume)
    if id == "no-data-set" and not has_other_layout:
        from dsrface.data.folders import check_root

        check_root(path)


def _moved_data(path: Path, config: Any) -> str:
    """Return the data sets next to where one is not; for a run to resume, with the command that takes it."""
    from dsrface.data.folders import data_sets_in, data_sets_next_to

    near = data_sets_in(path.parent)
    run = getattr(config, "run", None)
    if len(near) == 1 and run is not None and config.resume:
        again = resume_command(config.command, near[0], run)
        return f"Did you mean {near[0]}? A data set that was moved, as it was: {again}"
    return data_sets_next_to(path)


def _turned_round(config: Any) -> str:
    """Return `prepare` with its two paths changed where only the second is a folder of photos."""
    from dsrface.data.decode import walk_images
    from dsrface.data.folders import DATASET_FILE

    if config.command != "prepare" or config.source.exists() or not config.data.is_dir():
        return ""
    if (config.data / DATASET_FILE).exists() or next(walk_images(config.data), None) is None:
        return ""
    return f"Did you mean {joined(['dsrface', 'prepare', str(config.data), str(config.source)])}?"


def resume_hint(path: Path, command: str) -> str:
    """Return what to give instead of a run's folder where data is wanted; empty for no run.

    Args:
        path: What was given.
        command: Which wants the data.
    """
    from dsrface.runtime.files import read_json

    try:
        record = read_json(path / "run.json")
        trained_by, data = record["command"], record["config"]["data"]
    except (RunError, KeyError, TypeError):
        return ""
    instead = joined(["dsrface", command, str(data)])
    trained_on = f"It was trained on {data}" + (f": {instead} ..." if command != "prepare" else ".")
    return f"{trained_on}\nTo train on: {resume_command(trained_by, data, path)}"


def _check_run(config: Any) -> None:
    run = getattr(config, "run", None)
    if run is None or "RANK" in os.environ:  # of a job's processes the first may have begun the run
        return
    from dsrface.engine.run_claim import check_same_settings, claim, read_record

    if claim(run, command=config.command, data=config.data, resume=config.resume):
        check_same_settings(run, read_record(run), config)


def _check_outputs(config: Any) -> None:
    outputs_dir = getattr(config, "dsr_outputs", None)
    if outputs_dir is None:
        return
    from dsrface.data.outputs.given import check_given_outputs
    from dsrface.models.sources import is_run

    if is_run(outputs_dir):
        flag = "--live" if config.command == "finetune" else "--dsr"
        raise UsageError(
            "This is a run folder, not a folder of DSR outputs.",
            id="not-outputs",
            where=outputs_dir,
            hint=f"To run its network on every batch: {flag} {quoted(outputs_dir)}",
        )
    check_given_outputs(outputs_dir, config.data, config.vlr_size)


def _check_network(source: Path, kind: str, vlr_size: int | None, *, takes_outputs: bool) -> None:
    from dsrface.data.outputs.given import is_cache
    from dsrface.models.sources import check_source

    try:
        check_source(source, kind, vlr_size)
    except DsrfaceError as error:
        outputs = "This holds DSR outputs" if is_cache(source) else ""
        outputs += (f": --dsr-outputs {quoted(source)}" if takes_outputs else ".") if outputs else ""
        error.hint = "\n".join(filter(None, [_kind_hint(source), outputs, error.hint]))
        raise


def _kind_hint(path: Path) -> str:
    """Return what to do about a text that is a path of another kind, or none at all."""
    if _ADDRESS.match(path.as_posix()):
        return "This is a web address: download it first, and give the path of what you have then."
    if os.name != "nt" and _WINDOWS.match(str(path)):
        return f"This is a path of Windows; under WSL it is /mnt/{str(path)[0].lower()}/..."
    return ""
