"""Where `prepare` reads its photos: a folder of files, or a RecordIO file; free of torch."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.decode import ImageU8, decode_image, decoded_size, image_size, read_image
from dsrface.data.formats.recordio import RECORD_SUFFIX, RecordFile


class FolderSource:
    """Photos as files, named relative to a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, file: str) -> ImageU8:
        """Return a photo, as `decode.read_image`."""
        return read_image(self._root / file)

    def size(self, file: str) -> tuple[int, int]:
        """Return (width, height), as `decode.image_size`."""
        return image_size(self._root / file)


class RecordSource:
    """Photos as records, named `<key>@<offset>`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, file: str) -> ImageU8:
        """Return a photo.

        Raises:
            DataError: the record or its image is damaged.
        """
        return decode_image(self._image(file), where=self._where(file))

    def size(self, file: str) -> tuple[int, int]:
        """Return (width, height) as the image's header says.

        Raises:
            DataError: the record or its image is damaged.
        """
        return decoded_size(self._image(file), where=self._where(file))

    def _image(self, file: str) -> bytes:
        with RecordFile(self._path) as records:  # opening costs little next to decoding
            return records.image(int(file.partition("@")[2]))

    def _where(self, file: str) -> str:
        return f"{self._path}, record {file}"


def record_name(key: int, offset: int) -> str:
    """Return the name of a record: both, so that no table of offsets is sent to the workers."""
    return f"{key}@{offset}"


def open_source(source: Path) -> FolderSource | RecordSource:
    """Open a folder or a `.rec` file; each process opens its own."""
    return RecordSource(source) if is_record_file(source) else FolderSource(source)


def is_record_file(source: Path) -> bool:
    """Return whether a source is a RecordIO file."""
    return source.suffix.lower() == RECORD_SUFFIX and source.is_file()
