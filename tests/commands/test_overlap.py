"""What a network was trained on, and what `evaluate` says of it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dsrface.commands import train_dsr
from dsrface.commands.evaluate import run
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.decode import walk_images
from dsrface.data.layout import open_data
from dsrface.data.training_record import (
    TRAINING_FILE,
    digest_images,
    find_training_record,
    write_training_record,
)
from dsrface.errors import DataError
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr, write_recogniser
from tests.commands.test_train_dsr import config


def evaluate(data: Path, out: Path, **networks: Path):
    settings = {"vlr_size": 16, "bootstrap": 0, "device": "cpu", "workers": 0, **networks}
    return run(EvaluateConfig(data=data, out=out, **settings), emit=lambda _: None).evaluation


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", persons=(3, 2, 3), images=2)


def dsr_of_a_run(folder: Path, data: Path, split: str) -> Path:
    """Write a DSR into a run folder whose record is that of a split."""
    weights = write_dsr(folder / "checkpoints" / "step_000001" / "model.safetensors")
    write_training_record(folder, open_data(data).split(split))
    return weights


def test_a_run_records_its_training_images_and_persons(data: Path, tmp_path: Path) -> None:
    train_dsr.run(config(data, tmp_path / "run", epochs=1), emit=lambda _: None)
    record = find_training_record(next((tmp_path / "run").rglob("model.safetensors")))
    split = open_data(data).split("train")
    assert record is not None
    assert record.images == {pixels for pixels, _ in digest_images(split)}
    assert len(record.persons) == 3
    stored = json.loads((tmp_path / "run" / TRAINING_FILE).read_text())
    assert not any(person in json.dumps(stored) for person in split.persons)
    found = evaluate(data, tmp_path / "out", dsr=tmp_path / "run")
    (said,) = (line for line in found.details if line.startswith("No overlap with the training data of DSR"))
    assert "by copies that were compressed or resized again" in said
    earlier = json.dumps({key: value for key, value in stored.items() if key != "looks"})
    (tmp_path / "run" / TRAINING_FILE).write_text(earlier)
    found = evaluate(data, tmp_path / "out_earlier", dsr=tmp_path / "run")
    assert any("compressed or resized again would not be found" in line for line in found.details)


def test_copies_of_training_images_are_counted_across_data_sets(data: Path, tmp_path: Path) -> None:
    dsr = dsr_of_a_run(tmp_path / "run", data, "test")
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for folder in ("hr_images", "vlr_images_16x16"):
        for number, person in enumerate(sorted((other / "test" / folder).iterdir())):
            for path in person.iterdir() if number else ():
                image = Image.open(path).convert("RGB")
                again = io.BytesIO()
                image.resize((90, 90)).resize(image.size).save(again, "JPEG", quality=75)
                Image.open(again).save(path)
            person.rename(person.with_name(f"new_{person.name}"))
    found = evaluate(other, tmp_path / "out", dsr=dsr)
    assert (found.overlaps[0].images, found.overlaps[0].copies) == (2, 4)
    assert "4 of the 6 images look like copies of images that DSR was trained on" in found.limits[1]


def test_images_seen_in_training_are_counted_across_data_sets(data: Path, tmp_path: Path) -> None:
    dsr = dsr_of_a_run(tmp_path / "run", data, "test")
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for split in ("train", "val", "test"):  # the same images under other names
        for folder in ("hr_images", "vlr_images_16x16"):
            for person in sorted((other / split / folder).iterdir()):
                person.rename(person.with_name(f"new_{person.name}"))
    found = evaluate(other, tmp_path / "out", dsr=dsr)
    assert (found.overlaps[0].images, found.overlaps[0].persons) == (6, 0)
    assert found.limits[0].startswith("6 of the 6 images are among those that DSR was trained on")
    assert not any(line.startswith("No overlap") for line in found.details)


def test_names_seen_in_training_are_counted(data: Path, tmp_path: Path) -> None:
    dsr = dsr_of_a_run(tmp_path / "run", data, "test")
    other = make_data(tmp_path / "other", persons=(3, 2, 3), images=2)
    for folder in ("hr_images", "vlr_images_16x16"):
        root = other / "test" / folder
        names, sources = (list(walk_images(other / split / folder)) for split in ("test", "train"))
        for name, source in zip(names, sources, strict=True):
            shutil.copy(other / "train" / folder / source, root / name)
    found = evaluate(other, tmp_path / "out", dsr=dsr)
    assert (found.overlaps[0].images, found.overlaps[0].persons) == (0, 3)
    assert found.limits[0].startswith("3 of the 3 persons have names of persons that DSR was trained on")


def test_a_network_without_record_is_said_to_be_unknown(data: Path, tmp_path: Path) -> None:
    recogniser = write_recogniser(tmp_path / "frozen.safetensors", seed=0)
    found = evaluate(data, tmp_path / "out", recogniser=recogniser)
    assert found.overlaps[0].is_recorded is False
    assert any(line.startswith("What frozen was trained on is not recorded") for line in found.limits)


def test_another_degradation_is_said(data: Path, tmp_path: Path) -> None:
    train_dsr.run(config(data, tmp_path / "run", epochs=1), emit=lambda _: None)
    same = evaluate(data, tmp_path / "a", dsr=tmp_path / "run")
    assert not any("VLR faces, and these are" in line for line in same.limits)
    info = json.loads((data / "dataset.json").read_text())
    info["degradations"]["16"] = {"kind": "realistic", "size_px": 16}
    (data / "dataset.json").write_text(json.dumps(info))
    other = evaluate(data, tmp_path / "b", dsr=tmp_path / "run")
    wanted = "DSR was trained on classic VLR faces, and these are realistic ones"
    assert any(line.startswith(wanted) for line in other.limits)


def test_a_split_of_a_data_set_is_no_data_set(data: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_data(data / "test")
    assert caught.value.id == "split-of-data-set"
    assert str(data) in caught.value.hint
