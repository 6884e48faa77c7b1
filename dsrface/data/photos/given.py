"""Photos as a command is given them: one, or a folder of them."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.decode import image_size, read_image, walk_images
from dsrface.errors import DataError, ImageError


def find_photos(photos: Path) -> tuple[Path, list[str]]:
    """Return the folder and the names in it of a photo or of all photos below a folder.

    Raises:
        DataError: nothing there.
    """
    if photos.is_file():
        return photos.parent, [photos.name]
    check_photos(photos)
    return photos, list(walk_images(photos))


def check_photos(photos: Path) -> None:
    """Make sure that a photo is an image by its header, or that a folder holds a file that claims to be one.

    Raises:
        DataError: no such file or folder, or a folder without photos.
        ImageError: a file that is no image.
    """
    if photos.is_file():
        image_size(photos)
    elif not photos.is_dir():
        raise DataError("There is no such folder or photo.", id="folder-missing", where=photos)
    elif next(walk_images(photos), None) is None:
        raise DataError(
            "The folder holds no photos.",
            id="no-images",
            where=photos,
            hint="Photos are files such as .jpg or .png, in any sub-folders.",
        )


def check_one_photo(photo: Path) -> None:
    """Make sure that a photo is no folder and can be read to its end.

    Raises:
        DataError: no such file.
        ImageError: a folder, or a file that is no image, or not a whole one.
    """
    if photo.is_dir():
        raise ImageError(
            "This is a folder; two photos are compared.",
            id="not-a-file",
            where=photo,
            hint="For folders: dsrface enrol KNOWN --out people.npz, then "
            "dsrface identify PHOTOS --gallery people.npz",
        )
    check_photos(photo)
    read_image(photo)
