"""The table of a cache: names, persons, labels and input hashes of its images, in one safetensors file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dsrface.data.cache.manifest import HASH_BYTES, Manifest
from dsrface.data.layout import person_labels
from dsrface.data.names import PackedStrings
from dsrface.data.stored import damaged
from dsrface.errors import DataError
from dsrface.runtime.files import sha256_file, write_bytes


@dataclass(frozen=True)
class Table:
    """One row an image.

    Args:
        names: Relative names, unique.
        persons: Names of the persons, sorted.
        labels: int64 [N], position of each image's person in `persons`.
        inputs: uint8 [N, 16], first half of the SHA-256 of each input file.
    """

    names: PackedStrings
    persons: PackedStrings
    labels: NDArray[np.int64]
    inputs: NDArray[np.uint8]

    @classmethod
    def build(cls, names: Sequence[str], inputs: NDArray[np.uint8]) -> Self:
        """Return the table of some images; their persons follow from their names."""
        labels, persons = person_labels(names)
        packed = names if isinstance(names, PackedStrings) else PackedStrings.from_list(names)
        return cls(packed, persons, labels.numpy(), inputs)

    def __len__(self) -> int:
        return len(self.names)

    def write(self, folder: Path) -> dict[str, str]:
        """Write the table under a name that follows from its content; return the manifest's entry."""
        data = save(
            {
                "names_data": self.names.data.numpy(),
                "names_offsets": self.names.offsets.numpy(),
                "persons_data": self.persons.data.numpy(),
                "persons_offsets": self.persons.offsets.numpy(),
                "labels": self.labels,
                "inputs_sha256": self.inputs,
            }
        )
        digest = hashlib.sha256(data).hexdigest()
        name = f"table-{digest[:12]}.safetensors"
        path = folder / name
        if not path.exists() or path.stat().st_size != len(data):
            write_bytes(path, data)
        return {"file": name, "sha256": digest}


def read_table(folder: Path, manifest: Manifest) -> Table:
    """Read a cache's table, and check its bytes.

    Raises:
        RunError: missing or damaged.
    """
    path = folder / manifest.table["file"]
    if not path.exists():
        raise damaged(f"{path.name} is missing.", path, repairable=False)
    if sha256_file(path) != manifest.table["sha256"]:
        raise damaged(f"{path.name}: sha256 differs.", path, repairable=False)
    try:
        with safe_open(path, "np") as handle:
            read = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise damaged(f"{path.name} cannot be read: {error}.", path, repairable=False) from None
    return Table(
        PackedStrings(torch.from_numpy(read["names_data"]), torch.from_numpy(read["names_offsets"])),
        PackedStrings(torch.from_numpy(read["persons_data"]), torch.from_numpy(read["persons_offsets"])),
        read["labels"],
        read["inputs_sha256"],
    )


def names_sha256(names: PackedStrings) -> str:
    """Return a hash that tells whether two splits hold the same names in the same order."""
    digest = hashlib.sha256(names.offsets.numpy().data)
    digest.update(names.data.numpy().data)
    return digest.hexdigest()


def stat_sha256(folder: Path, names: Sequence[str]) -> str:
    """Return a hash over name, size and modification time of files; a missing one counts as such."""
    digest = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(folder / name)
            line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            line = f"{name}\0missing\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def hash_inputs(folder: Path, names: Sequence[str], *, num_threads: int = 4) -> NDArray[np.uint8]:
    """Return the first 16 bytes of the SHA-256 of every file.

    Raises:
        DataError: a file is missing or unreadable.
    """
    hashes = np.empty((len(names), HASH_BYTES), np.uint8)

    def fill(start: int) -> None:
        for row in range(start, min(start + 256, len(names))):
            path = folder / names[row]
            try:
                digest = hashlib.sha256(path.read_bytes()).digest()
            except OSError as error:
                raise DataError(
                    f"The input image cannot be read: {error.strerror}.", id="input-missing", where=path
                ) from None
            hashes[row] = np.frombuffer(digest, np.uint8, HASH_BYTES)

    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(fill, range(0, len(names), 256)))
    return hashes
