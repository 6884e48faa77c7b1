"""Atomic files: written to a temporary name in the same folder, fsynced, renamed.

A reader therefore sees the old file or the new one, never half of one, whatever kills the writer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dsrface.errors import MachineError, RunError
from dsrface.runtime.command_line import typed_with
from dsrface.runtime.names import cut_to_bytes
from dsrface.runtime.text import json_text, size_text

TMP_SUFFIX = ".tmp"
MAX_JSON_BYTES = 256 * 1024**2
MAX_TEXT_BYTES = 1024**3  # a list of ten million images
_HALF_WRITTEN = re.compile(rf"(.+)\.\d+{re.escape(TMP_SUFFIX)}")
_REPLACE_TRIES = 20
_MAX_NAME_BYTES = 255
_IN_USE = (
    "You may not write there, or another program has the file open: a training that reads this cache, a "
    "virus scanner. Let it end first."
)
_WINDOWS_PATH = 260  # longer ones need a setting of Windows


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path`; on a clean exit fsync it and rename it to `path`.

    Args:
        path: The final name; its folder is made when missing.
        mode: `"wb"` or `"w"` (UTF-8, LF line ends on every platform).

    Raises:
        MachineError: disk full or read-only folder, with the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = temporary_path(path)
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


def temporary_path(path: Path) -> Path:
    """Return the name under which this process writes `path` first; a long one is cut, so that it fits."""
    suffix = f".{os.getpid()}{TMP_SUFFIX}"
    name = path.name
    if len(os.fsencode(name)) + len(suffix) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
        name = f"{cut_to_bytes(name, _MAX_NAME_BYTES - len(suffix) - 13)}~{digest}"
    return path.with_name(name + suffix)


def remove_half_written(folder: Path, *names: str) -> None:
    """Delete the temporary files of killed writers in a folder, where no one else is writing now.

    Args:
        folder: The folder; need not exist.
        names: Only those of these files; of all when none is given.
    """
    for path in folder.glob(f"*{TMP_SUFFIX}"):
        found = _HALF_WRITTEN.fullmatch(path.name)
        if found is not None and (not names or found[1] in names):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_writer(path) as handle:
        handle.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_writer(path, mode="w") as handle:
        handle.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented strict JSON, keys in the order given, atomically."""
    write_text(path, json_text(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that dsrface wrote.

    Raises:
        RunError: missing, damaged or not an object, with the path.
    """
    try:
        value = json.loads(read_bounded(path, max_bytes=MAX_JSON_BYTES).decode())
    except FileNotFoundError as error:
        raise RunError("The file does not exist.", id="file-missing", where=path) from error
    except OSError as error:
        raise RunError(
            f"The file cannot be read: {error.strerror}.", id="file-damaged", where=path
        ) from error
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"The file is damaged: {error}.",
            id="file-damaged",
            where=path,
            hint="Delete it and run the command again.",
        ) from error
    if not isinstance(value, dict):
        raise RunError("The file does not hold a JSON object.", id="file-damaged", where=path)
    return value


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Return a file's bytes; devices, pipes and files larger than what they can mean are not read at all.

    Raises:
        OSError: missing, not a regular file, or too large; its text is human-readable.
    """
    with open(path, "rb", opener=_without_waiting) as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > max_bytes:
            limit = f"{size_text(max_bytes)} at most are read"
            raise OSError(errno.EFBIG, f"{size_text(status.st_size)} large; {limit}", str(path))
        return handle.read(max_bytes)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would block


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


def check_writable(path: Path, *, is_folder: bool) -> None:
    """Make and drop a file where `path` will be, so that hours of work do not end in an error.

    Args:
        path: A folder or file that need not exist; its nearest folder that exists is tried.
        is_folder: Whether it will be a folder.

    Raises:
        MachineError: nothing can be written there, or there is a file instead of a folder, or the reverse.
    """
    if path.exists() and path.is_dir() != is_folder and not path.is_char_device():
        there, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise MachineError(
            f"A {there} has this name, so no {wanted} can.",
            id="cannot-write",
            where=path,
            hint="Give another name.",
        )
    try:
        above = (folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=path if path.is_dir() else next(above)):
            pass
    except OSError as error:
        raise disk_error(error, path) from error


def check_free(path: Path, *, command: str) -> None:
    """Refuse to overwrite a file.

    Args:
        path: That a command is about to write.
        command: Which knows --force and --out.

    Raises:
        RunError: it is there.
    """
    if path.exists():
        again = typed_with("--force", command=command)
        raise RunError(
            "The file exists.",
            id="exists",
            where=path,
            hint=f"To write it again: {again}\nOr give another name by --out.",
        )


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
    hint = ""
    if _is_in_use(error):
        hint = _IN_USE
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Choose a folder that you may write to."
    elif error.errno == errno.ENOTDIR or _is_below_a_file(path):
        hint = "A part of the path is a file: give another folder."
    elif error.errno == errno.EFBIG:
        hint = "Look at `ulimit -f`, and at how large a file this drive can hold."
    elif os.name == "nt" and len(os.path.abspath(path)) + 16 > _WINDOWS_PATH:
        hint = "The path is too long for this Windows: take a shorter folder, or turn LongPathsEnabled on."
    elif error.errno == errno.ENAMETOOLONG:
        hint = "A part of the path is longer than file systems allow (255 bytes): shorten it."
    return MachineError(f"Cannot write: {error.strerror or error}.", id="cannot-write", where=path, hint=hint)


def system_error(error: OSError) -> MachineError:
    """Turn any other OSError into the message a user can act on."""
    return MachineError(
        f"The system refused: {error.strerror or error}.",
        id="system-refused",
        where=os.fsdecode(error.filename or ""),
        hint=_IN_USE
        if _is_in_use(error)
        else "Check that the file is there, that you may use it, and that its drive is well.",
    )


def _is_below_a_file(path: Path) -> bool:
    """Return whether a part of the path is a file: Windows says then that there is no such path."""
    there = next((parent for parent in path.parents if os.path.lexists(parent)), None)
    return there is not None and not os.path.isdir(there)


def _is_in_use(error: OSError) -> bool:
    """Return whether Windows refuses, perhaps because the file is open (32, 33) or mapped (1224, 5)."""
    return getattr(error, "winerror", None) in (5, 32, 33, 1224)
