"""`dsrface enrol`, `identify` and `verify` on drawn faces, with a recogniser that is known to be good."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from dsrface.commands import enrol, identify, verify
from dsrface.commands.shared.people import faces as people_faces
from dsrface.commands.shared.people.gallery import (
    Origin,
    check_gallery,
    gather_people,
    read_gallery,
    write_gallery,
)
from dsrface.config.people import EnrolConfig, IdentifyConfig, VerifyConfig
from dsrface.data.decode import encode_png, read_image
from dsrface.errors import DataError, RunError, UsageError, WeightsError
from dsrface.events import Note
from dsrface.metrics.bootstrap import Estimate
from dsrface.metrics.thresholds import StoredThresholds, Threshold
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr

# A coarse grid of colours, centred: enough to find the small copy of an enrolled photo.
RECOGNISER = """
import torch

def recogniser():
    def run(image):
        small = torch.nn.functional.adaptive_avg_pool2d(image, 14).flatten(1)
        return small - small.mean(dim=1, keepdim=True)
    return run
"""


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Whether the extra is installed must not change what these tests see; drawn faces are aligned."""
    monkeypatch.setattr(people_faces.detect, "is_available", lambda: False)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people")
    make_data(root / "data", persons=(2, 12, 6), images=4)
    (root / "people_nets.py").write_text(RECOGNISER)
    write_dsr(root / "dsr.safetensors")
    test = root / "data/test/hr_images"
    known = sorted(folder.name for folder in test.iterdir())[:4]
    for person in known:
        (root / "known" / person).mkdir(parents=True)
        for photo in ("0.png", "1.png"):
            shutil.copy(test / person / photo, root / "known" / person / photo)
    for person in sorted(folder.name for folder in test.iterdir()):
        (root / "small").mkdir(exist_ok=True)
        source = root / "data/test/vlr_images_16x16" / person / "0.png"
        shutil.copy(source, root / "small" / f"{person}.png")
    return root


@pytest.fixture
def weights(root, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Path(f"{root / 'people_nets.py'}:recogniser")


def run_enrol(root, weights, out, notes=None, **settings):
    config = EnrolConfig(gallery=root / "known", weights=weights, out=out, device="cpu", **settings)
    return enrol.run(config, emit=lambda event: notes.append(event) if notes is not None else None)


def run_identify(photos, gallery, **settings):
    settings = {"trust_gallery": True, **settings}
    config = IdentifyConfig(photos=photos, gallery=gallery, device="cpu", **settings)
    return identify.run(config, emit=lambda event: None)


@pytest.fixture
def gallery(root, weights, tmp_path) -> Path:
    run_enrol(
        root,
        weights,
        tmp_path / "people.npz",
        dsr=root / "dsr.safetensors",
        calibrate=root / "data",
        far=0.02,
    )
    return tmp_path / "people.npz"


def test_enrol__writes_one_row_a_person_and_the_threshold(root, gallery):
    people = read_gallery(gallery)
    assert list(people.persons) == sorted(folder.name for folder in (root / "known").iterdir())
    assert people.counts.tolist() == [2, 2, 2, 2]
    np.testing.assert_allclose(np.linalg.norm(people.embeddings, axis=1), 1, atol=1e-5)
    assert people.faces.shape == (4, 112, 112, 3)
    assert people.origin.far == 0.02
    assert 0 < people.origin.threshold < 1
    assert "chosen on validation persons" in people.origin.threshold_text


def test_identify__names_the_known_and_leaves_strangers_unknown(root, gallery, tmp_path):
    result = run_identify(root / "small", gallery, sheet=tmp_path / "sheet.png", top=2)
    known = {folder.name for folder in (root / "known").iterdir()}
    assert len(result.answers) == 6
    for answer in result.answers:
        person = Path(answer.name).stem
        assert answer.person == (person if person in known else None), answer
        assert answer.matches[0].score >= answer.matches[1].score
        assert len(answer.matches) == 2
        assert answer.native_px == 16
    assert "4 of 6 photos show somebody enrolled, 2 are unknown" in result.summary
    assert result.false_matches == pytest.approx(100 * (1 - 0.98**4))
    json.dumps(result.to_dict())
    assert Image.open(tmp_path / "sheet.png").width > 4 * 112


def test_identify__says_which_faces_the_threshold_is_not_for(root, gallery):
    notes = []
    for photos, settings in (("small", {}), ("known", {}), ("known", {"threshold": 0.5})):
        config = IdentifyConfig(
            photos=root / photos, gallery=gallery, device="cpu", trust_gallery=True, **settings
        )
        said = []
        identify.run(config, emit=said.append)
        notes.append([event.message for event in said if "without the DSR" in getattr(event, "message", "")])
    assert [len(found) for found in notes] == [0, 1, 0]
    assert notes[1][0].startswith("8 faces of 8 seen without the DSR")


def test_identify__a_threshold_of_ones_own(root, gallery):
    nobody = run_identify(root / "small", gallery, threshold=1.0)
    assert {answer.person for answer in nobody.answers} == {None}
    assert nobody.false_matches is None
    everybody = run_identify(root / "small", gallery, threshold=-1.0)
    assert None not in {answer.person for answer in everybody.answers}


def test_identify__refuses_networks_that_have_changed(root, weights, tmp_path):
    shutil.copy(root / "dsr.safetensors", tmp_path / "dsr.safetensors")
    run_enrol(root, weights, tmp_path / "p.npz", dsr=tmp_path / "dsr.safetensors", threshold=0.5)
    write_dsr(tmp_path / "dsr.safetensors", tail=0.1)
    with pytest.raises(RunError) as caught:
        run_identify(root / "small", tmp_path / "p.npz")
    assert caught.value.id == "stale"


def test_gallery__finds_its_networks_from_any_folder(root, weights, tmp_path, monkeypatch):
    shutil.copy(root / "dsr.safetensors", tmp_path / "dsr.safetensors")
    monkeypatch.chdir(tmp_path)
    run_enrol(root, weights, Path("p.npz"), dsr=Path("dsr.safetensors"), threshold=0.5)
    monkeypatch.chdir(root / "known")
    (tmp_path / "moved").mkdir()
    for name in ("dsr.safetensors", "p.npz"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert len(run_identify(root / "small", tmp_path / "moved" / "p.npz").answers) == 6
    (tmp_path / "moved" / "dsr.safetensors").unlink()
    with pytest.raises(WeightsError) as caught:
        check_gallery(tmp_path / "moved" / "p.npz")
    assert caught.value.id == "weights-missing"


def test_gallery__that_is_none(tmp_path, root):
    with pytest.raises(RunError) as caught:
        run_identify(root / "small", tmp_path / "none.npz")
    assert caught.value.id == "file-missing"
    for content in (b"", b"PK", b"no archive"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(RunError) as caught:
            run_identify(root / "small", tmp_path / "bad.npz")
        assert caught.value.id == "file-damaged"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("origin", np.array("{")),
        ("origin", np.array("[]")),
        ("origin", np.array("[" * 100_000)),
        ("origin", np.array('{"weights": "../r.pt"}')),
        ("schema", np.zeros(3, np.int64)),
        ("persons", np.zeros(2)),
        ("embeddings", np.full((2, 8), np.nan, np.float32)),
        ("faces", np.zeros((2, 9, 9, 3), np.uint8)),
        ("counts", np.array([{}], object)),
    ],
)
def test_gallery__of_which_a_column_is_made_by_others(tmp_path, column, value):
    origin = Origin("r.safetensors", "", "", "", 0.5, None, "as given")
    faces = np.zeros((2, 112, 112, 3), np.uint8)
    write_gallery(
        tmp_path / "p.npz", gather_people(["a", "b"], np.eye(2, 8, dtype=np.float32), faces, origin)
    )
    columns = dict(np.load(tmp_path / "p.npz"))
    for save in (np.savez, np.savez_compressed):
        changed = {**columns, column: value} if save is np.savez else columns
        save(tmp_path / "p.npz", **changed)
        with pytest.raises(RunError) as caught:
            read_gallery(tmp_path / "p.npz")
        assert caught.value.id == "file-damaged"


@pytest.mark.parametrize("weights", ["a" * 5000, "a\0b", "\ud800"])
def test_gallery__of_a_network_that_can_be_no_file(tmp_path, weights):
    origin = Origin(weights, "", "", "", 0.5, None, "as given")
    faces = np.zeros((1, 112, 112, 3), np.uint8)
    write_gallery(tmp_path / "p.npz", gather_people(["a"], np.eye(1, 8, dtype=np.float32), faces, origin))
    with pytest.raises(WeightsError) as caught:
        check_gallery(tmp_path / "p.npz")
    assert caught.value.id == "weights-missing"


@pytest.mark.parametrize(
    "names", [("evil:make", ""), ("./evil.py:make", ""), ("torchscript:e.pt", ""), ("r.pt", "evil:make")]
)
def test_gallery__that_names_a_program_runs_nothing(tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil.py").write_text("open('ran', 'w').close()\n", encoding="utf-8")
    faces = np.zeros((1, 112, 112, 3), np.uint8)
    Path("photo.png").write_bytes(encode_png(faces[0]))
    origin = Origin(names[0], "", names[1], "", 0.5, None, "as given")
    write_gallery(Path("p.npz"), gather_people(["a"], np.eye(1, 8, dtype=np.float32), faces, origin))
    with pytest.raises(WeightsError) as caught:
        run_identify(Path("photo.png"), Path("p.npz"), trust_gallery=False)
    assert caught.value.id == "program-named"
    assert "--trust-gallery" in caught.value.hint
    assert not Path("ran").exists()


def run_verify(first, second, weights, emit=lambda event: None, **settings):
    config = VerifyConfig(first=first, second=second, weights=weights, device="cpu", **settings)
    return verify.run(config, emit=emit)


def test_verify__says_same_or_not_with_an_exit_code(root, weights, tmp_path):
    test = root / "data/test/hr_images"
    one, other = sorted(test.iterdir())[:2]
    settings = {"dsr": root / "dsr.safetensors", "calibrate": root / "data", "far": 0.02}
    small = root / "small" / f"{one.name}.png"
    same = run_verify(one / "0.png", small, weights, **settings, sheet=tmp_path / "s.png")
    assert (same.is_same, same.exit_code) == (True, 0)
    assert same.summary.startswith("The same person")
    assert (tmp_path / "s.png").is_file()
    strange = run_verify(one / "0.png", other / "0.png", weights, **settings)
    assert (strange.is_same, strange.exit_code) == (False, 1)
    assert same.native_px == (112.0, 16.0)
    assert same.score > same.threshold > strange.score


@pytest.mark.parametrize(("is_small", "warns"), [(False, True), (True, False)])
def test_verify__says_that_a_threshold_for_small_faces_does_not_fit_two_large_ones(
    root, weights, is_small, warns
):
    one = min((root / "data/test/hr_images").iterdir())
    second = root / "small" / f"{one.name}.png" if is_small else one / "0.png"
    settings = {"dsr": root / "dsr.safetensors", "calibrate": root / "data", "far": 0.02}
    notes = []
    run_verify(one / "0.png", second, weights, notes.append, **settings)
    assert any("without the DSR" in getattr(event, "message", "") for event in notes) is warns


def test_threshold__comes_from_the_recognisers_file(root, weights, monkeypatch, tmp_path):
    chosen = (Threshold(0.01, Estimate(0.4, 0.3, 0.5), 0.9, 1000, 12),)
    text = StoredThresholds({"vlr_size": 16, "images": "DSR"}, chosen).to_json()
    real = people_faces.load_recogniser

    def load(source, **options):
        loaded = real(source, **options)
        loaded.metadata["thresholds"] = text
        return loaded

    monkeypatch.setattr(people_faces, "load_recogniser", load)
    notes = []
    result = run_enrol(root, weights, tmp_path / "p.npz", notes)
    assert result.threshold == 0.4
    said = [event.message for event in notes if isinstance(event, Note)]
    assert any(
        "threshold 0.400 [0.300, 0.500], from its file, for DSR faces of 16 px" in line for line in said
    )
    assert any("no --dsr is given" in line for line in said)
    text = text.replace("DSR", "HR")
    result = run_enrol(root, weights, tmp_path / "p.npz", notes := [], dsr=root / "dsr.safetensors")
    assert "from its file, for HR faces: accepts" in result.summary
    assert any("chosen on HR faces, not on what this DSR makes" in str(event) for event in notes)
    with pytest.raises(UsageError) as caught:
        run_enrol(root, weights, tmp_path / "p.npz", far=0.001)
    assert caught.value.id == "no-threshold"
    assert "it has those for 0.01" in caught.value.message


def test_a_photo_of_a_pixel_is_no_face(root, gallery, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(next((root / "small").iterdir()), tmp_path / "photos" / "face.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "photos" / "one.png")
    result = run_identify(tmp_path / "photos", gallery)
    assert [answer.name for answer in result.answers] == ["face.png"]


def test_threshold__is_refused_where_there_is_none(root, weights, tmp_path):
    with pytest.raises(UsageError) as caught:
        run_enrol(root, weights, tmp_path / "p.npz")
    assert caught.value.id == "no-threshold"
    with pytest.raises(UsageError) as caught:
        run_enrol(root, weights, tmp_path / "p.npz", calibrate=root / "data", vlr_size=16, far=0.0001)
    assert caught.value.id == "val-too-small"
    assert "30000 impostor pairs" in caught.value.message
    with pytest.raises(UsageError) as caught:
        run_enrol(root, weights, tmp_path / "p.npz", calibrate=root / "data")
    assert caught.value.id == "vlr-size-missing"
    shutil.copytree(root / "data" / "val", tmp_path / "native" / "val")
    (tmp_path / "native" / "dataset.json").write_text('{"schema_version": 1, "native": true}')
    with pytest.raises(DataError) as caught:
        run_enrol(root, weights, tmp_path / "p.npz", calibrate=tmp_path / "native", vlr_size=16)
    assert caught.value.id == "no-twins"


def test_photos__that_cannot_be_used_are_listed__and_doubtful_ones_told(root, weights, gallery, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(root / "small", photos)
    (photos / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (90, 60)).save(photos / "wide.png")
    result = run_identify(photos, gallery)
    assert {item["name"]: item["reason"] for item in result.skipped} == {
        "broken.png": "not-an-image",
        "wide.png": "wrong-size",
    }
    Image.new("RGB", (90, 90)).save(photos / "square.png")
    notes: list[str] = []
    config = IdentifyConfig(photos=photos, gallery=gallery, device="cpu", trust_gallery=True)
    identify.run(config, emit=lambda event: notes.append(getattr(event, "message", "")))
    taken = "1 photo taken for aligned faces as they are, square.png first"
    assert any(taken in note for note in notes)
    notes.clear()
    small = next((root / "small").iterdir())
    pair = VerifyConfig(
        first=photos / "square.png", second=small, weights=weights, threshold=0.5, device="cpu"
    )
    verify.run(pair, emit=lambda event: notes.append(getattr(event, "message", "")))
    assert any(taken in note for note in notes)
    with pytest.raises(DataError):
        run_identify(photos, gallery, on_bad_image="fail")
    with pytest.raises(DataError) as caught:
        run_identify(photos / "wide.png", gallery)
    assert caught.value.id == "nothing-usable"


def test_face__of_any_size_is_brought_to_the_nearest(root, weights):
    from dsrface.models.weights import load_dsr

    reader = people_faces.FaceReader(load_dsr(root / "dsr.safetensors"), align="none")
    photo = next((root / "small").glob("*.png"))
    assert reader.read(photo, "x").given.shape == (16, 16, 3)
    np.testing.assert_array_equal(reader.read(photo, "x").given, read_image(photo))
    Image.open(photo).crop((0, 0, 14, 16)).save(root / "narrow.png")
    assert reader.read(root / "narrow.png", "x").given.shape == (16, 16, 3)
    plain = people_faces.FaceReader(None, align="none")
    assert plain.read(photo, "x").given.shape == (112, 112, 3)


def test_configuration__that_contradicts_itself():
    with pytest.raises(ValidationError, match="not both"):
        VerifyConfig(first="a", second="b", threshold=0.3, calibrate="c")
    with pytest.raises(ValidationError, match=r"\.npz"):
        EnrolConfig(gallery="a", out="b.txt")
