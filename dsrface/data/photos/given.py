"""Photos as a command is given them: one, or a folder of them."""

from __future__ import annotations

from pathlib import Path

from dsrface.data.decode import read_image, walk_images
from dsrface.data.folders import DATASET_FILE
from dsrface.errors import DataError, ImageError
from dsrface.runtime.command_line import typed_instead


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
    """Make sure that a photo can be read to its end, or that a folder holds files that claim to be photos.

    Raises:
        DataError: no such file or folder, a folder without photos, or a data set.
        ImageError: a file that is no image, or not a whole one.
    """
    if photos.is_file():
        read_image(photos)
    elif not photos.is_dir():
        raise DataError("There is no such folder or photo.", id="folder-missing", where=photos)
    elif (photos / DATASET_FILE).is_file():
        roots = [root for root in (photos / "test", photos / "train", photos) if root.is_dir()]
        faces = sorted(folder for folder in roots[0].glob("*_images*") if folder.is_dir())
        raise DataError(
            "This is a data set, which has each face in several sizes and a sheet of them.",
            id="source-is-data-set",
            where=photos,
            hint="\n".join(
                filter(None, (typed_instead(photos, folder) or f"Name {folder}." for folder in faces))
            ),
        )
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
