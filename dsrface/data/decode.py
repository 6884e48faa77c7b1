"""The only place that opens and writes images.

`read_image` gives either an upright uint8 RGB array or an `ImageError` whose id is the reason; it never gives
half an image, and it looks at the size in the header before it allocates anything.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from dsrface.errors import DataError, ImageError
from dsrface.runtime.files import disk_error, replace, temporary_path

ImageU8 = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx"}
    | {".j2c", ".jpc", ".jpf", ".mpo", ".apng"}
)
# Pillow warns of large images and odd EXIF; both are dealt with here. A filter around each image would
# not do: `warnings.catch_warnings` is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow also knows formats that start other programs (EPS) or that no face comes in; they are "not an image"
# here. JPEG stands for MPO too, which Pillow opens through it.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
# What folders of photos also hold; such files are counted and listed, not read.
_UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".npy", ".npz", ".psd", ".tga", ".exr", ".hdr", ".dcm"}
    | {".dib", ".ico", ".icns", ".pcx", ".sgi", ".ras", ".xbm", ".xpm", ".svg", ".eps", ".qoi"}
    | {".jpm", ".jxr", ".wdp", ".pam", ".pfm", ".fits"}
    | {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".raw"}
    | {".pef", ".srw", ".x3f", ".3fr", ".kdc", ".dcr", ".rwl", ".mrw", ".erf", ".iiq"}
)
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*")
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, EOFError, KeyError, IndexError, TypeError)


def read_image(path: Path) -> ImageU8:
    """Read an image of any common format; the content decides, not the name.

    EXIF orientation is applied, 16-bit grey is scaled to 8 bits, CMYK, palette and grey become RGB, what is
    wholly transparent becomes white; of an animation the first frame is taken.

    Args:
        path: A regular file, or a link to one. An image of more than `MAX_PIXELS` is refused by its header,
            before any memory is used.

    Returns:
        uint8 [H, W, 3], RGB, upright.

    Raises:
        ImageError: anything else, with the reason as its id.
    """
    with _opened(path) as image:
        return _decoded(image, path)


def decode_image(data: bytes, *, where: object) -> ImageU8:
    """Decode an image that is in memory, as `read_image` does.

    Args:
        data: The encoded image.
        where: What to call it in an error.

    Raises:
        ImageError: as `read_image`.
    """
    with _parsed(io.BytesIO(data), where) as image:
        return _decoded(image, where)


def decoded_size(data: bytes, *, where: object) -> tuple[int, int]:
    """Return (width, height) of an image in memory as its header says.

    Raises:
        ImageError: as `read_image`.
    """
    with _parsed(io.BytesIO(data), where) as image:
        return image.size


def _decoded(image: Image.Image, path: object) -> ImageU8:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(f"is {width}x{height} pixels large", path)
    try:
        return _to_rgb(image, path)
    except MemoryError:
        raise ImageError("There is not enough memory for the image.", id="too-large", where=path) from None
    except _DECODE_ERRORS as error:
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise ImageError(
                "The image is cut off: its file ends too early.",
                id="truncated",
                where=path,
                hint="Copy or download it again.",
            ) from None
        raise ImageError(f"The image is damaged: {error}.", id="damaged-image", where=path) from None


def read_sized(path: Path, size_px: int) -> ImageU8:
    """Read a square image of a known side, as uint8 [size_px, size_px, 3].

    Raises:
        ImageError: as `read_image`, or another size.
    """
    image = read_image(path)
    if image.shape[:2] != (size_px, size_px):
        raise wrong_size(path, image.shape[1], image.shape[0], size_px)
    return image


def wrong_size(path: Path, width: int, height: int, size_px: int) -> ImageError:
    """Return the error of an image of another size than a network takes, `size_px` squared."""
    return ImageError(
        f"The image is {width}x{height}, not {size_px}x{size_px}.",
        id="wrong-size",
        where=path,
        hint=f"All images of a folder must have the size that the network takes, {size_px}x{size_px}. "
        "`dsrface prepare` makes such faces from photos.",
    )


def at_size(image: ImageU8, size_px: int) -> ImageU8:
    """Return an image as uint8 [size_px, size_px, 3], by Pillow's bicubic; itself where it has that size."""
    if image.shape[:2] == (size_px, size_px):
        return image
    return np.array(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC))


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels as the header says, without decoding.

    Raises:
        ImageError: as `read_image`.
    """
    with _opened(path) as image:
        return image.size


def encode_png(array: ImageU8, *, level: int = 1) -> bytes:
    """Return an array as PNG bytes; the same array gives the same bytes.

    Args:
        array: uint8 [H, W, 3] RGB or [H, W] grey.
        level: zlib level, 0..9. Level 1 is 3 to 5 times faster than the usual 6 and a tenth larger.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def write_png(path: Path, array: ImageU8, *, level: int = 1) -> None:
    """Write an array as PNG under a temporary name, then rename it.

    There is no fsync for each image: a killed process leaves whole files only, and after a power cut the
    content hashes of the data set find what is missing.

    Raises:
        MachineError: disk full or read-only folder.
    """
    write_image_bytes(path, encode_png(array, level=level))


def write_image_bytes(path: Path, data: bytes) -> None:
    """Write encoded bytes as `write_png` does."""
    tmp = temporary_path(path)
    try:
        try:
            tmp.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            tmp.write_bytes(data)
        replace(tmp, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            tmp.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def walk_images(root: Path) -> Iterator[str]:
    """Yield the files below a folder that claim to be images, as sorted relative POSIX names.

    Hidden files and folders and other suffixes are passed over. Links to folders are entered, except one that
    leads back to a folder around it: it would trap the walk. Links to files are given, also broken ones, so
    that a reader can report them.

    Raises:
        DataError: a folder that must not be read; to pass over it would lose a person in silence.
    """
    yield from _walk(root, "", (), is_wanted=has_image_suffix)


def has_image_suffix(name: str) -> bool:
    """Return whether a file name claims to be an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def unread_images(root: Path) -> Iterator[str]:
    """Yield the files below a folder that look like images and are not read.

    They are recognised by their suffix, and files without a known one by their first bytes.

    Raises:
        DataError: as `walk_images`.
    """
    for name in _walk(root, "", (), is_wanted=lambda name: not has_image_suffix(name)):
        if os.path.splitext(name)[1].lower() in _UNREAD_SUFFIXES or _starts_like_an_image(root / name):
            yield name


def _starts_like_an_image(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as handle:
            start = handle.read(12)
    except OSError:
        return False
    return start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _walk(
    root: Path, prefix: str, around: tuple[tuple[int, int], ...], *, is_wanted: Callable[[str], bool]
) -> Iterator[str]:
    folder = root / prefix if prefix else root
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        raise DataError(
            "There is no permission to read the folder.", id="folder-unreadable", where=folder
        ) from None
    around = (*around, _identity(folder))
    for entry in listed:
        if entry.name.startswith("."):
            continue
        name = f"{prefix}{entry.name}"
        if _is_folder(entry):
            if not (entry.is_symlink() and _identity(entry) in around):
                yield from _walk(root, f"{name}/", around, is_wanted=is_wanted)
        elif is_wanted(entry.name):
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links: the reader says so
        return False


def _identity(folder: os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number == errno.ELOOP:
            raise ImageError(
                "The file is a link that leads to itself.", id="symlink-loop", where=path
            ) from None
        if number == errno.ENOENT and path.is_symlink():
            raise ImageError(
                "The file is a link to something that is gone.", id="dangling-link", where=path
            ) from None
        if number == errno.ENOENT:
            raise ImageError("The image does not exist.", id="image-missing", where=path) from None
        raise ImageError(f"The image cannot be opened: {error}.", id="image-unreadable", where=path) from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageError("This is not a regular file.", id="not-a-file", where=path)
    if status.st_size == 0:
        raise ImageError("The file is empty.", id="empty-file", where=path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Give an image whose header has been read, and nothing more."""
    _check_file(path)
    with _parsed(path, path) as image:
        yield image


@contextlib.contextmanager
def _parsed(file: Path | io.BytesIO, path: object) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise _too_large("is far too large", path) from None
    except PermissionError:
        raise ImageError(
            "There is no permission to read the image.", id="image-unreadable", where=path
        ) from None
    except _DECODE_ERRORS:
        raise ImageError(
            "The file is not an image of a known format, or its header is damaged.",
            id="not-an-image",
            where=path,
            hint="Known formats: JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, AVIF, JPEG 2000.",
        ) from None
    with image:
        yield image


def _too_large(what: str, path: object) -> ImageError:
    return ImageError(
        f"The image {what}; the limit is {MAX_PIXELS / 1e6:.0f} megapixels.",
        id="too-large",
        where=path,
        hint="Reduce it first; a face needs far fewer.",
    )


def _to_rgb(image: Image.Image, path: object) -> ImageU8:
    # Another library may have switched on "fill the rest with grey"; half a face must not pass as a face.
    keep, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = keep
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return _from_16_bit(np.asarray(upright).astype(np.int64), path)
    if upright.mode == "F":
        raise ImageError(
            "The image holds floating point numbers of unknown range.", id="float-image", where=path
        )
    if upright.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in upright.info:
        rgba = np.array(upright.convert("RGBA"), np.uint8)
        # A veil over a photo is no part of the face, so colours stay; under full transparency is anything.
        return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
    return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"), np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # a broken EXIF block raises almost anything; the image is good
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _from_16_bit(values: NDArray[np.int64], path: object) -> ImageU8:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("The image has values outside 16 bits.", id="float-image", where=path)
    grey = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
