"""Configuration of `dsrface enrol`, `dsrface identify` and `dsrface verify`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dsrface.config.fields import EARLY, ONE_PHOTO, PHOTOS, Device, must_end_in
from dsrface.config.sources import Config


def _png(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"must {must_end_in('.png', path)}")
    return path


Sheet = Annotated[Path | None, AfterValidator(_png)]


class _FacesConfig(Config):
    """How photos become what a recogniser sees."""

    align: Literal["auto", "none"] = Field(
        "auto",
        description="auto: the detector finds the face, where it is installed; none: each image is a face "
        "that is aligned already.",
    )
    on_bad_image: Literal["fail", "skip"] = Field(
        "skip", description="skip lists images that cannot be used and goes on; fail stops at the first."
    )
    batch_size: int = Field(64, ge=1, description="Batch size of the forward passes.")
    device: Device = "auto"


class _NetworksConfig(_FacesConfig):
    """With which networks, and from which score on two images show one person."""

    networks: ClassVar[Mapping[str, str]] = {"weights": "recogniser", "dsr": "dsr"}

    weights: Path | None = Field(
        None,
        description="Recogniser: a run folder, a weight file or a network of others; unset: the judge.",
    )
    dsr: Path | None = Field(None, description="Super-resolution network for small faces.")
    far: float = Field(
        0.01, gt=0, lt=1, description="False-accept rate whose threshold is taken from file or data set."
    )
    threshold: float | None = Field(
        None, ge=-1, le=1, description="Cosine from which on two images show one person; overrides `far`."
    )
    calibrate: Path | None = Field(
        None, description="Data set whose validation persons choose the threshold."
    )
    vlr_size: int | None = Field(
        None,
        ge=4,
        le=112,
        description="Side of the low-resolution faces of `calibrate`, in pixels; by default the DSR's.",
    )

    def small_faces(self) -> Iterable[tuple[Path, int]]:
        """Return the data set that chooses the threshold."""
        return [(self.calibrate, self.vlr_size)] if self.calibrate and self.vlr_size else []

    @model_validator(mode="after")
    def _check_threshold(self) -> Self:
        if self.threshold is not None and self.calibrate is not None:
            raise ValueError("give --threshold or --calibrate, not both")
        return self


class EnrolConfig(_NetworksConfig):
    """Write down how known people look, for `identify`."""

    command: ClassVar[str] = "enrol"
    reads: ClassVar[Mapping[str, str]] = {"gallery": "folder-missing", "calibrate": "no-data-set"}
    looks: ClassVar[Mapping[str, str]] = {"gallery": PHOTOS}
    writes: ClassVar[tuple[str, ...]] = ("out",)
    together: ClassVar[tuple[str, ...]] = (
        f"{EARLY}:check_recogniser",
        f"{EARLY}:check_threshold",
        f"{EARLY}:check_persons",
    )
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Networks and result": ("weights", "dsr", "out"),
        "From which score on a match counts": ("far", "calibrate", "threshold"),
        "How it runs": ("persons", "align", "device"),
    }

    gallery: Path = Field(description="Folder of photos of known people.")
    out: Path = Field(description="The .npz file to write.")
    persons: str = Field(
        "auto",
        description="Whose a photo is: a folder level, a pattern with (?P<person>...), or a list file; auto "
        "takes the folder, or the name before the first underscore.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out.suffix != ".npz":
            raise ValueError(f"--out must {must_end_in('.npz', self.out)}")
        return self


class IdentifyConfig(_FacesConfig):
    """Say who is in photos, or that it is none of the enrolled."""

    command: ClassVar[str] = "identify"
    reads: ClassVar[Mapping[str, str]] = {"photos": "folder-missing", "gallery": "file-missing"}
    looks: ClassVar[Mapping[str, str]] = {
        "gallery": "dsrface.commands.shared.people.gallery:check_gallery",
        "photos": PHOTOS,
    }
    writes: ClassVar[tuple[str, ...]] = ("sheet",)
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Known people and answers": ("gallery", "threshold", "top", "sheet", "trust_gallery"),
        "How it runs": ("align", "on_bad_image", "device"),
    }

    photos: Path = Field(description="A photo, or a folder of them.")
    gallery: Path = Field(description="What `dsrface enrol` wrote.")
    threshold: float | None = Field(
        None, ge=-1, le=1, description="Cosine from which on a match counts; by default the gallery's."
    )
    top: int = Field(3, ge=1, le=20, description="Best matches to list for each photo.")
    sheet: Sheet = Field(
        None, description="PNG to write: photo, what the network saw, and the best matches with scores."
    )
    trust_gallery: bool = Field(
        False, description="Run the networks that the gallery names where they are programs."
    )


class VerifyConfig(_NetworksConfig):
    """Say whether two photos show one person."""

    command: ClassVar[str] = "verify"
    reads: ClassVar[Mapping[str, str]] = {
        "first": "folder-missing",
        "second": "folder-missing",
        "calibrate": "no-data-set",
    }
    looks: ClassVar[Mapping[str, str]] = {"first": ONE_PHOTO, "second": ONE_PHOTO}
    writes: ClassVar[tuple[str, ...]] = ("sheet",)
    together: ClassVar[tuple[str, ...]] = (f"{EARLY}:check_recogniser", f"{EARLY}:check_threshold")
    help_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Networks and answer": ("weights", "dsr", "sheet"),
        "From which score on they are one person": ("far", "calibrate", "threshold"),
        "How it runs": ("align", "device"),
    }

    first: Path = Field(description="A photo.")
    second: Path = Field(description="Another one.")
    sheet: Sheet = Field(None, description="PNG to write: both photos and what the network saw of them.")
