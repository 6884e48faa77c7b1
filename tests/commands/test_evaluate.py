"""`dsrface evaluate` on drawn faces, with networks that are known to be good, bad or equal to bicubic."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from dsrface.commands import evaluate as evaluate_command
from dsrface.commands.evaluate import is_drawn, run
from dsrface.commands.evaluate.images import Measured
from dsrface.commands.evaluate.plain import plain_answer
from dsrface.commands.evaluate.result import RAW
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.decode import read_image, walk_images, write_png
from dsrface.data.pairs import all_pairs
from dsrface.errors import DataError, RunError, UsageError
from dsrface.events import Progress
from dsrface.models import foreign, judge_files
from dsrface.models.weights import load_recogniser
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr, write_recogniser


@pytest.fixture(autouse=True)
def no_judge(monkeypatch):
    """Whether the extra is installed must not change what these tests see."""
    monkeypatch.setattr(judge_files, "is_available", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("evaluate") / "data", persons=(2, 2, 10), images=4)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {
        "same": write_dsr(root / "same.safetensors"),
        "noisy": write_dsr(root / "noisy.safetensors", tail=0.05),
        "frozen": write_recogniser(root / "frozen.safetensors", seed=0),
        "tuned": write_recogniser(root / "tuned.safetensors", seed=1),
    }


def evaluate(data: Path, out: Path, **settings):
    events = []
    settings = {"vlr_size": 16, "bootstrap": 100, "device": "cpu", "workers": 0} | settings
    return run(EvaluateConfig(data=data, out=out, **settings), emit=events.append), events


@pytest.fixture(scope="module")
def full(data, networks, tmp_path_factory):
    """One evaluation of all cells; the DSR equals bicubic."""
    out = tmp_path_factory.mktemp("full") / "out"
    result, events = evaluate(
        data, out, dsr=networks["same"], recogniser=networks["frozen"], finetuned=networks["tuned"]
    )
    return result, events, out


def cell_of(evaluation, protocol, images, recogniser):
    wanted = (protocol, images, recogniser)
    (found,) = (cell for cell in evaluation.cells if (cell.protocol, cell.images, cell.recogniser) == wanted)
    return found


def near_hr(data: Path, folder: Path, *, noise: float) -> Path:
    """Write HR faces with a little noise, as if a perfect DSR had made them."""
    rng = np.random.default_rng(0)
    source = data / "test" / "hr_images"
    for name in walk_images(source):
        image = read_image(source / name) + rng.normal(0, noise, (112, 112, 3))
        write_png(folder / name, np.clip(image, 0, 255).astype(np.uint8))
    return folder


def test_full__has_every_cell_and_its_baselines(full) -> None:
    found = full[0].evaluation
    roles = {"frozen", "fine-tuned", "raw pixels"}
    expected = {("HR-HR", "HR", role) for role in roles}
    expected |= {(p, k, role) for p in ("HR-LR", "LR-LR") for k in ("bicubic", "DSR") for role in roles}
    assert {(cell.protocol, cell.images, cell.recogniser) for cell in found.cells} == expected
    assert len(found.cells) == len(expected)
    assert (found.counts.images, found.counts.persons) == (40, 10)
    assert (found.counts.genuine, found.counts.impostor) == (10 * 6, 40 * 39 // 2 - 10 * 6)
    for cell in found.cells:
        assert cell.eer.low <= cell.eer.value <= cell.eer.high
        assert [item.support for item in cell.tars] == ["good", "weak", "none", "none"]
        assert cell.tars[2].tar.value is None
        assert 0 < cell.accuracy.reject_all < 1
        assert sum(cell.histogram.genuine) == pytest.approx(1, abs=1e-4)


def test_full__a_dsr_that_equals_bicubic_shows_no_difference(full) -> None:
    found = full[0].evaluation
    by_dsr = [item for item in found.comparisons if item.first.startswith("DSR") and "bicubic" in item.second]
    assert len(by_dsr) == 3 + 2 * 2 * 3  # three of quality; EER, AUC for two protocols, three recognisers
    for item in by_dsr:
        assert item.difference.value == pytest.approx(0, abs=1e-6)
        assert item.verdict == "no difference shown"
    assert "no difference shown" in found.headline
    assert found.winner.split(" + ")[1] in ("frozen", "fine-tuned")


def test_full__json_is_strict_and_complete(full) -> None:
    result, _, out = full

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    stored = json.loads((out / "evaluation.json").read_text(), parse_constant=refuse)
    assert stored["schema_version"] == 1
    assert stored == json.loads(json.dumps(result.evaluation.to_dict()))
    assert result.to_dict()["headline"] == result.summary
    assert set(stored["networks"]) == {"DSR", "frozen", "fine-tuned"}
    assert all(len(entry["sha256"]) == 64 for entry in stored["networks"].values())
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "config.toml",
        "evaluation.json",
        "images.csv",
        "report.html",
    ]
    assert result.location == str(out / "report.html")


def test_full__report_is_self_contained(full) -> None:
    found, out = full[0].evaluation, full[2]
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert not re.search(r"<script|<link|https?://|@import|url\(", html)
    assert html.count("data:image/png;base64,") == 6 * 4 + 6 * 3
    assert html.count("<svg role=") == 1 + 1 + 1 + 6  # ROC, DET, differences, histograms
    for words in ("chance", "reject all", "raw pixels", "never evidence", "VLR against VLR", "the ceiling"):
        assert words in html
    assert found.headline.replace("&", "&amp;") in html
    assert all(line.split(":")[0] in html for line in found.limits)


def test_full__cells_equal_figures_made_by_hand(full, data, networks, tmp_path) -> None:
    from sklearn.metrics import roc_auc_score

    from dsrface.commands.embed import run as embed
    from dsrface.config.embed import EmbedConfig

    out = tmp_path / "e.npz"
    folder = data / "test" / "hr_images"
    embed(EmbedConfig(images=folder, weights=networks["frozen"], out=out, device="cpu"), emit=lambda _: None)
    stored = np.load(out)
    persons = np.array([name.split("/")[0] for name in stored["names"]])
    first, second = np.triu_indices(len(persons), 1)
    scores = np.sum(stored["embeddings"][first] * stored["embeddings"][second], axis=1)
    expected = roc_auc_score(persons[first] == persons[second], scores)
    assert cell_of(full[0].evaluation, "HR-HR", "HR", "frozen").auc.value == pytest.approx(expected, abs=2e-3)


def test_full__images_csv_matches_skimage(full, data) -> None:
    from PIL import Image
    from skimage.metrics import peak_signal_noise_ratio

    rows = list(csv.DictReader((full[2] / "images.csv").read_text().splitlines()))
    assert len(rows) == 40
    row = rows[5]
    low = Image.open(data / "test" / "vlr_images_16x16" / row["image"])
    high = np.asarray(Image.open(data / "test" / "hr_images" / row["image"]))
    bicubic = np.asarray(low.resize((112, 112), Image.Resampling.BICUBIC))
    assert float(row["psnr_db_bicubic"]) == pytest.approx(peak_signal_noise_ratio(high, bicubic), abs=0.02)
    mean = np.mean([float(row["psnr_db_bicubic"]) for row in rows])
    assert full[0].evaluation.quality[0].psnr_db.value == pytest.approx(mean, abs=1e-3)


def test_full__identification_keeps_the_probes_photo_out(full) -> None:
    found = full[0].evaluation
    assert found.gallery.num_enrolled + found.gallery.num_known + found.gallery.num_unknown == 40
    assert found.gallery.num_known == 3 * found.gallery.num_enrolled
    ceiling = next(i for i in found.identification if (i.images, i.recogniser) == ("HR", "frozen"))
    assert ceiling.rank1.value < 1  # with its own photo in the gallery, every HR probe would be found
    assert ceiling.tpir is None


def test_full__the_terminal_table_fits_60_columns(full) -> None:
    import io

    from rich.console import Console

    from dsrface.cli.evaluate_table import render_evaluation

    stream = io.StringIO()
    render_evaluation(full[0], Console(file=stream, width=60, color_system=None))
    lines = stream.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 60
    text = " ".join(" ".join(lines).split())
    for words in ("reject all", "chance", "raw pixels", "never evidence", "no difference"):
        assert words in text
    row = next(line for line in lines if "fine-tuned" in line)
    assert re.search(r"\d+\.\d \[\d+, \d+\]", row), "a row must not be broken in two"


@pytest.mark.slow
def test_two_runs_agree_and_the_seed_moves_only_the_intervals(full, data, networks, tmp_path) -> None:
    settings = {"dsr": networks["same"], "recogniser": networks["frozen"], "finetuned": networks["tuned"]}
    first = full[0].evaluation.to_dict()
    again = evaluate(data, tmp_path / "again", **settings)[0].evaluation.to_dict()
    other = evaluate(data, tmp_path / "other", seed=5, **settings)[0].evaluation.to_dict()
    for found in (first, again, other):
        found["settings"].pop("measured_utc")
    assert first == again
    assert [cell["eer"]["value"] for cell in other["cells"]] == [
        cell["eer"]["value"] for cell in first["cells"]
    ]
    assert [cell["eer"] for cell in other["cells"]] != [cell["eer"] for cell in first["cells"]]


def test_only_a_dsr__image_quality_and_no_claim_about_recognition(data, networks, tmp_path) -> None:
    result, events = evaluate(data, tmp_path / "out", dsr=networks["noisy"])
    found = result.evaluation
    assert found.cells == ()
    assert found.winner == "bicubic"  # the winner is named whoever it is
    assert "bicubic wins" in result.summary
    assert [item.verdict for item in found.comparisons] == ["worse"] * 3
    assert any("no recogniser" in getattr(event, "message", "") for event in events)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Verification" not in html
    assert "PSNR" in html


def test_stored_outputs__near_hr_images_win(data, networks, tmp_path) -> None:
    folder = near_hr(data, data / "test" / "dsr_outputs_16x16", noise=2.0)
    try:
        result, _ = evaluate(data, tmp_path / "out", dsr_outputs=folder, recogniser=networks["frozen"])
    finally:
        shutil.rmtree(folder)
    found = result.evaluation
    gain = next(item for item in found.comparisons if item.metric == "psnr_db")
    assert gain.verdict == "better"
    assert gain.difference.low > 10
    ceiling = cell_of(found, "HR-HR", "HR", "frozen").auc.value
    assert cell_of(found, "HR-LR", "DSR", "frozen").auc.value == pytest.approx(ceiling, abs=0.05)
    assert "DSR wins" in found.details[-1]
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 6 * 4 + 6 * 3


def test_only_a_recogniser__bicubic_alone(data, networks, tmp_path) -> None:
    result, _ = evaluate(data, tmp_path / "out", recogniser=networks["frozen"], bootstrap=0)
    found = result.evaluation
    assert {cell.images for cell in found.cells} == {"HR", "bicubic"}
    assert found.winner == "bicubic + frozen"
    assert found.cells[0].eer.low is None
    assert any("bootstrap draws, so no intervals" in line for line in found.limits)
    assert "train-dsr" in result.next_command


def test_the_next_command_does_not_train_on_a_data_set_without_training_images(tmp_path) -> None:
    config = EvaluateConfig(data=tmp_path / "test-only", vlr_size=16)
    seen = cast("Any", types.SimpleNamespace(high_size=112))
    assert "train-dsr DATA " in evaluate_command._next_command(config, seen, tmp_path)
    (config.data / "train").mkdir(parents=True)
    assert "train-dsr DATA " not in evaluate_command._next_command(config, seen, tmp_path)


def test_frozen__is_what_the_finetuned_run_started_from(data, networks, tmp_path) -> None:
    tuned = tmp_path / "tuned"
    (tuned / "checkpoints" / "step_1").mkdir(parents=True)
    shutil.copy(networks["tuned"], tuned / "checkpoints" / "step_1" / "model.safetensors")
    (tuned / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/step_1"}))
    record = {"config": {"backbone_weights": str(networks["frozen"])}}
    (tuned / "run.json").write_text(json.dumps(record))
    result, events = evaluate(data, tmp_path / "a", finetuned=tuned)
    assert result.evaluation.networks["frozen"]["path"] == str(networks["frozen"])
    assert any("frozen recogniser" in getattr(event, "message", "") for event in events)
    (tuned / "run.json").write_text(json.dumps({"config": {"backbone_weights": str(tmp_path / "gone")}}))
    result, events = evaluate(data, tmp_path / "b", finetuned=tuned)
    assert "frozen" not in result.evaluation.networks
    assert any("are gone" in getattr(event, "message", "") for event in events)


def test_pairs_file__gives_pairs_and_folds(data, networks, tmp_path) -> None:
    lines = ["2\t2", "p5\t0\t1", "p6\t0\t2", "p5\t0\tp6\t1", "p6\t3\tp7\t0"]
    lines += ["p7\t0\t1", "p8\t2\t3", "p7\t1\tp8\t0", "p8\t1\tp9\t2"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    result, _ = evaluate(data, tmp_path / "out", recogniser=networks["frozen"], pairs=tmp_path / "pairs.txt")
    counts = result.evaluation.counts
    assert (counts.genuine, counts.impostor) == (4, 4)
    assert counts.folds_from == "2 folds of pairs.txt"
    cell = result.evaluation.cells[0]
    assert (cell.accuracy.num_folds, cell.accuracy.reject_all) == (2, 0.5)
    assert {item.support for item in cell.tars} == {"none"}


def test_pairs_file__of_other_persons_is_refused(data, networks, tmp_path) -> None:
    (tmp_path / "pairs.txt").write_text("1\t1\nann\t1\t2\nann\t1\tbob\t1\n")
    with pytest.raises(DataError) as caught:
        evaluate(data, tmp_path / "out", recogniser=networks["frozen"], pairs=tmp_path / "pairs.txt")
    assert caught.value.id == "pairs-elsewhere"


def test_pairs_file__without_a_recogniser_is_not_used_silently(data, networks, tmp_path) -> None:
    (tmp_path / "pairs.txt").write_text("1\t1\nann\t1\t2\nann\t1\tbob\t1\n")
    _, events = evaluate(data, tmp_path / "out", dsr=networks["same"], pairs=tmp_path / "pairs.txt")
    assert any("--pairs is not used" in getattr(event, "message", "") for event in events)


def test_pairs_file__is_checked_before_anything_is_measured(data, networks, tmp_path) -> None:
    (tmp_path / "pairs.txt").write_text("1\t3\nann\t1\t2\n")
    events: list[object] = []
    settings = EvaluateConfig(
        data=data,
        vlr_size=16,
        recogniser=networks["frozen"],
        pairs=tmp_path / "pairs.txt",
        out=tmp_path / "out",
    )
    with pytest.raises(DataError):
        run(settings, emit=events.append)
    assert not any(isinstance(event, Progress) for event in events)


def test_one_person__image_quality_only_and_said_so(networks, tmp_path) -> None:
    data = make_data(tmp_path / "data", persons=(2, 2, 1), images=3)
    result, events = evaluate(data, tmp_path / "out", dsr=networks["same"], recogniser=networks["frozen"])
    assert result.evaluation.cells == ()
    assert any("no verification" in getattr(event, "message", "") for event in events)


def test_wrong_size__is_refused(data, tmp_path) -> None:
    dsr = write_dsr(tmp_path / "d.safetensors", size_px=24)
    with pytest.raises(UsageError) as caught:
        evaluate(data, tmp_path / "out", dsr=dsr)
    assert caught.value.id == "wrong-vlr-size"


def test_out__never_covers_foreign_files(data, networks, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError) as caught:
        evaluate(data, tmp_path, dsr=networks["same"])
    assert caught.value.id == "folder-not-empty"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_drawn_faces__are_called_so(networks, tmp_path) -> None:
    from dsrface.commands.prepare import run as prepare
    from dsrface.config.prepare import PrepareConfig
    from dsrface.data.synthetic.photo_folder import draw_dataset

    draw_dataset(tmp_path / "photos", num_persons=6, images_per_person=2, seed=3)
    config = PrepareConfig(
        source=tmp_path / "photos", data=tmp_path / "data", vlr_sizes=(16,), split=(0.4, 0.2, 0.4), workers=0
    )
    prepare(config, emit=lambda _: None)
    found = evaluate(tmp_path / "data", tmp_path / "out", dsr=networks["same"])[0].evaluation
    assert found.limits[0].startswith("Drawn faces")
    assert "Drawn faces" in (tmp_path / "out" / "report.html").read_text()
    assert not is_drawn({"source": {"name": "drawn_people", "kind": "photos"}})
    assert not is_drawn({})


def test_equal_recognisers__are_said_to_be(data, networks, tmp_path, full) -> None:
    copy = shutil.copy(networks["frozen"], tmp_path / "copy.safetensors")
    found = evaluate(data, tmp_path / "out", recogniser=networks["frozen"], finetuned=copy)[0].evaluation
    assert any("hold the same numbers" in line for line in found.limits)
    assert not any("hold the same numbers" in line for line in full[0].evaluation.limits)


def test_all_pairs__all_when_they_fit() -> None:
    persons = np.array([0, 0, 1, 2, 2, 2])
    found = all_pairs(persons, max_pairs=15, seed=0)
    assert len(found) == 15
    assert found.num_genuine == 1 + 3


@pytest.mark.parametrize("seed", [0, 1])
def test_all_pairs__all_genuine_and_drawn_impostors_otherwise(seed) -> None:
    persons = np.repeat(np.arange(30), 10)
    persons[-9:] = np.arange(30, 39)  # persons with a single image
    found = all_pairs(persons, max_pairs=5000, seed=seed)
    assert len(found) == 5000
    assert found.num_genuine == 29 * 45
    assert len({(a, b) for a, b in zip(found.first, found.second, strict=True)}) == 5000
    assert (found.first < found.second).all()
    np.testing.assert_array_equal(found.is_same, persons[found.first] == persons[found.second])
    again = all_pairs(persons, max_pairs=5000, seed=seed)
    np.testing.assert_array_equal(found.second, again.second)
    owners = np.bincount(persons[found.first[~found.is_same]], minlength=39)
    owners += np.bincount(persons[found.second[~found.is_same]], minlength=39)
    assert owners[30:].min() > 40  # one image, yet met as often as possible


def test_all_pairs__thins_out_genuine_pairs_of_a_huge_person() -> None:
    persons = np.array([0] * 100 + [1, 2])
    found = all_pairs(persons, max_pairs=1000, seed=0)
    assert found.num_genuine == 500
    assert len(found) == 500 + 201  # all impostor pairs there are


def test_infinite_psnr__is_not_a_number_in_json() -> None:
    from dsrface.commands.evaluate.figures import image_quality

    values = np.array([np.inf, 30.0])
    measured = Measured({"bicubic": values}, {"bicubic": np.ones(2)}, {}, {"bicubic": values})
    quality, _ = image_quality(measured, persons=np.array([0, 1]), counts=np.ones((3, 2), np.uint16))
    assert quality[0].psnr_db.value is None


@pytest.mark.slow
def test_packed_outputs__give_what_the_network_gives(data, networks, tmp_path) -> None:
    from dsrface.commands.precompute import run as precompute
    from dsrface.config.precompute import PrecomputeConfig

    own = tmp_path / "data"
    shutil.copytree(data, own)
    config = PrecomputeConfig(
        data=own, weights=networks["noisy"], format="cache", device="cpu", workers=0, batch_size=8
    )
    precompute(config, emit=lambda _: None)
    folder = own / "test" / "dsr_outputs_16x16"
    stored = evaluate(own, tmp_path / "a", dsr_outputs=folder, recogniser=networks["frozen"])[0].evaluation
    live = evaluate(own, tmp_path / "b", dsr=networks["noisy"], recogniser=networks["frozen"])[0].evaluation
    for first, second in zip(stored.quality, live.quality, strict=True):
        assert first.psnr_db.value == pytest.approx(second.psnr_db.value, abs=0.01)
    for first, second in zip(stored.cells, live.cells, strict=True):
        assert first.auc.value == pytest.approx(second.auc.value, abs=0.01)


def test_few_persons__are_measured_and_not_judged(networks, tmp_path) -> None:
    few = make_data(tmp_path / "data", persons=(2, 2, 3), images=3)
    result, _ = evaluate(few, tmp_path / "out", dsr=networks["noisy"], recogniser=networks["frozen"])
    found = result.evaluation
    assert {item.verdict for item in found.comparisons} == {"not judged"}
    assert all(cell.eer.low is None for cell in found.cells)
    assert found.limits[0].startswith("Only 3 persons: below 10 no interval")
    assert not any("wins" in line or "better" in line for line in (found.headline, *found.details))


def test_hr_lr__takes_every_pair_both_ways(data, networks, tmp_path) -> None:
    (tmp_path / "pairs.txt").write_text(
        "p10/0.png p10/1.png 1\np11/0.png p12/1.png 0\np13/0.png p13/2.png 1\n"
    )
    swapped = "p10/1.png p10/0.png 1\np12/1.png p11/0.png 0\np13/2.png p13/0.png 1\n"
    (tmp_path / "swapped.txt").write_text(swapped)
    figures = []
    for name in ("pairs", "swapped"):
        pairs = tmp_path / f"{name}.txt"
        result, _ = evaluate(data, tmp_path / name, recogniser=networks["frozen"], pairs=pairs)
        cell = cell_of(result.evaluation, "HR-LR", "bicubic", "frozen")
        figures.append((cell.eer.value, cell.auc.value, cell.d_prime.value))
    assert figures[0] == pytest.approx(figures[1])


OTHERS = """
import torch

def recogniser():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Flatten())
    return network, {"colour": "BGR"}

def upscaler():
    return torch.nn.Upsample(scale_factor=7)
"""


def test_networks_of_others__are_measured_like_ours(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    code = tmp_path / "others_nets.py"
    code.write_text(OTHERS)
    result, _ = evaluate(
        data,
        tmp_path / "out",
        recogniser=Path(f"{code}:recogniser"),
        dsr=Path(f"{code}:upscaler"),
        bootstrap=0,
    )
    names = {cell.name for cell in result.evaluation.main_cells}
    assert {"bicubic + frozen", "DSR + frozen", "DSR + raw pixels"} <= names
    assert result.evaluation.networks["frozen"]["name"] == f"{code}:recogniser"
    assert result.evaluation.networks["DSR"]["name"] == f"{code}:upscaler"


def test_judge__is_the_recogniser_when_none_is_named(data, networks, tmp_path, monkeypatch):
    loaded = load_recogniser(networks["frozen"])
    monkeypatch.setattr(judge_files, "is_available", lambda: True)
    monkeypatch.setattr(foreign, "load_judge", lambda: replace(loaded, path=Path("judge")))
    result, events = evaluate(data, tmp_path / "out", bootstrap=0)
    assert result.evaluation.networks["frozen"]["path"] == "judge"
    assert any("the judge is installed" in getattr(event, "message", "") for event in events)
    monkeypatch.setattr(judge_files, "is_available", lambda: False)
    result, _ = evaluate(data, tmp_path / "out", bootstrap=0)
    assert result.evaluation.networks == {}


def test_self_ensemble__is_measured(data, networks, tmp_path):
    gains = []
    for index, is_on in enumerate((False, True)):
        out = tmp_path / str(index)
        result, _ = evaluate(data, out, dsr=networks["noisy"], bootstrap=0, self_ensemble=is_on)
        gains.append(result.evaluation.quality[1].psnr_db.value)
    assert gains[1] > gains[0]  # half of the noise is averaged away


def test_judge__measures_next_to_the_users_recogniser_and_never_wins(data, networks, tmp_path, monkeypatch):
    loaded = load_recogniser(networks["tuned"])
    facts = {"input": "RGB in 0..255", "licence": "CC0"}
    stand_in = replace(loaded, path=Path("judge"), metadata=facts)
    monkeypatch.setattr(judge_files, "is_available", lambda: True)
    monkeypatch.setattr(foreign, "load_judge", lambda: stand_in)
    dsr = write_dsr(tmp_path / "taught.safetensors", tail=0.05, extra={"taught_by": loaded.sha256})
    result, _ = evaluate(data, tmp_path / "out", dsr=dsr, recogniser=networks["frozen"])
    evaluation = result.evaluation
    assert {cell.recogniser for cell in evaluation.main_cells} == {"frozen", "judge", "raw pixels"}
    assert evaluation.winner.endswith("+ frozen")
    assert any(
        item.first == "DSR + judge" and item.second == "bicubic + judge" for item in evaluation.comparisons
    )
    assert any("was trained against the judge recogniser" in line for line in evaluation.limits)
    assert "an independent recogniser is wrong" in plain_answer(evaluation)
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "input: RGB in 0..255; licence: CC0" in report


def test_flip__adds_the_mirrored_face_to_every_embedding(data, networks, tmp_path):
    plain, _ = evaluate(data, tmp_path / "a", recogniser=networks["frozen"], bootstrap=0)
    both, _ = evaluate(data, tmp_path / "b", recogniser=networks["frozen"], bootstrap=0, flip=True)

    def scores(result):
        return {
            (cell.protocol, cell.images, cell.recogniser): cell.d_prime.value
            for cell in result.evaluation.cells
        }

    for key, value in scores(plain).items():
        assert (scores(both)[key] == value) == (key[2] == RAW)
    assert any("--flip" in line for line in both.evaluation.details)
    assert both.evaluation.settings["flip"] == "yes"


def test_thresholds__are_chosen_on_val_and_held_against_test(networks, tmp_path):
    root = make_data(tmp_path / "data", persons=(1, 12, 10), images=4)
    settings = {"recogniser": networks["frozen"], "dsr": networks["noisy"], "fars": (0.1, 0.01)}
    result, _ = evaluate(root, tmp_path / "out", **settings)
    held = {(item.images, item.recogniser, item.chosen.far): item for item in result.evaluation.thresholds}
    assert set(held) == {(kind, "frozen", 0.1) for kind in ("bicubic", "DSR")} | {
        (kind, "frozen", 0.01) for kind in ("bicubic", "DSR")
    }
    item = held["DSR", "frozen", 0.1]
    assert item.chosen.num_persons == 12
    assert item.chosen.num_impostor == 12 * 11 // 2 * 16  # photos, though each pair is taken both ways
    assert 0 <= item.far.low <= item.far.value <= item.far.high <= 1
    assert "A threshold for use" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert stored["thresholds"][0]["chosen"]["score"]["value"] is not None


def test_thresholds__need_validation_persons(data, networks, tmp_path):
    result, events = evaluate(data, tmp_path / "out", recogniser=networks["frozen"], bootstrap=0)
    assert result.evaluation.thresholds == ()
    assert any("it takes 10 validation persons" in getattr(event, "message", "") for event in events)
