"""Atomic files: written to a temporary name in the same folder, fsynced, renamed.

A reader therefore sees the old file or the new one, never half of one, whatever kills the writer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dsrface.errors import MachineError, RunError

TMP_SUFFIX = ".tmp"
_REPLACE_TRIES = 20


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on a clean exit fsync it and rename it to `path`.

    Args:
        path: The final name; its folder is made when missing.
        mode: `"wb"` or `"w"` (UTF-8, LF line ends on every platform).

    Raises:
        MachineError: disk full or read-only folder, with the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f"{path.name}.{os.getpid()}{TMP_SUFFIX}")
    is_text = "b" not in mode
    try:
        with open(
            tmp, mode, encoding="utf-8" if is_text else None, newline="\n" if is_text else None
        ) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        replace(tmp, path)
        fsync_dir(path.parent)
    except OSError as error:
        tmp.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_writer(path) as handle:
        handle.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_writer(path, mode="w") as handle:
        handle.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, keys in the order given, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that dsrface wrote.

    Raises:
        RunError: missing, damaged or not an object, with the path.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError("The file does not exist.", id="file-missing", where=path) from error
    except (OSError, ValueError) as error:
        raise RunError(
            f"The file is damaged: {error}.",
            id="file-damaged",
            where=path,
            hint="Delete it and run the command again.",
        ) from error
    if not isinstance(value, dict):
        raise RunError("The file does not hold a JSON object.", id="file-damaged", where=path)
    return value


def replace(source: Path, target: Path) -> None:
    """Rename `source` over `target`; on Windows retry while another process holds `target` open.

    Windows refuses to replace a file that someone has open or mapped (PermissionError); the holder is usually
    a reader or a virus scanner that lets go within moments.
    """
    for attempt in range(_REPLACE_TRIES):
        try:
            os.replace(source, target)
        except PermissionError:
            if os.name != "nt" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(0.05 * (attempt + 1))
        else:
            return


def fsync_dir(folder: Path) -> None:
    """Make a rename inside `folder` durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems refuse fsync on a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Return the hex SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def disk_error(error: OSError, path: Path) -> MachineError:
    """Turn an OSError met while writing into the message a user can act on."""
    if error.errno == errno.ENOSPC or error.errno == getattr(errno, "EDQUOT", None):
        return MachineError(
            "The disk is full.",
            id="disk-full",
            where=path,
            hint="Free some space and run the same command again; finished work is kept.",
        )
    is_forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    hint = "Choose a folder that you may write to." if is_forbidden else ""
    return MachineError(f"Cannot write: {error.strerror or error}.", id="cannot-write", where=path, hint=hint)
