"""An entry added to a catalogue, and nowhere else, arrives everywhere: each runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.commands.conftest import make_data
from tests.commands.networks import write_recogniser

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--workers", "0", "--device", "cpu", "--set", "engine.tensorboard=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("made_up") / "data", persons=(3, 2, 3), images=3)


def run(kind: str, *lines: list[object], folder: Path) -> str:
    """Run command lines with one more entry of `kind`; return what they print on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.catalogue.made_up", kind],
        input="\n".join(json.dumps([str(word) for word in line]) for line in lines),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def variant_of(run_folder: Path) -> object:
    checkpoint = json.loads((run_folder / "best.json").read_text())["checkpoint"]
    with safe_open(str(run_folder / checkpoint / "model.safetensors"), "pt") as handle:
        return json.loads(handle.metadata()["config"])


@pytest.mark.slow
def test_a_recogniser_reaches_finetune_evaluate_embed_and_export(data, tmp_path):
    tuned = tmp_path / "tuned"
    finetune = ["finetune", data, "--vlr-size", 16, "--hr-only", "--backbone", "made_up", "--run", tuned]
    finetune += ["--stage2-epochs", 1, "--stage1-epochs", 0, "--batch-size", 4, *SHORT]
    evaluate = ["evaluate", data, "--vlr-size", 16, "--recogniser", tuned, "--out", "report"]
    shown = run(
        "recogniser",
        ["finetune", "--help"],
        finetune,
        [*evaluate, "--bootstrap", 0, "--workers", 0, "--device", "cpu"],
        ["embed", data / "test" / "hr_images", "--weights", tuned, "--out", "faces.npz"],
        ["export", tuned],
        ["config", "schema", "finetune"],
        folder=tmp_path,
    )
    assert variant_of(tuned) == {"variant": "made_up"}
    assert (tmp_path / "report" / "evaluation.json").exists()
    assert (tmp_path / "faces.npz").exists()
    assert list(tmp_path.rglob("export/*.safetensors"))
    assert '"made_up"' in shown


@pytest.mark.slow
def test_a_head_reaches_finetune(data, tmp_path):
    tuned = tmp_path / "tuned"
    finetune = ["finetune", data, "--vlr-size", 16, "--hr-only", "--head", "made_up", "--run", tuned]
    finetune += ["--stage2-epochs", 1, "--stage1-epochs", 0, "--batch-size", 4, *SHORT]
    run("head", finetune, folder=tmp_path)
    assert 'head = "made_up"' in (tuned / "config.toml").read_text()


@pytest.mark.slow
def test_a_dsr_reaches_train_precompute_and_export(data, tmp_path):
    dsr = tmp_path / "dsr"
    train = ["train-dsr", data, "--vlr-size", 16, "--run", dsr, "--epochs", 1, *SHORT]
    shown = run(
        "dsr",
        [*train, "--set", "model.arch=made_up", "--set", "model.strength=2"],
        ["precompute", data, "--weights", dsr, "--workers", 0, "--device", "cpu"],
        ["export", dsr],
        ["config", "show", "train-dsr", "--set", "model.arch=made_up"],
        folder=tmp_path,
    )
    sizes = {"vlr_size": 16, "high_size": 112}
    assert variant_of(dsr) == {**sizes, "arch": "made_up", "channels": 32, "blocks": 6, "strength": 2}
    assert (data / "train" / "dsr_outputs_16x16").is_dir()
    assert list(tmp_path.rglob("export/*.safetensors"))
    assert "model.strength" in shown


@pytest.mark.slow
def test_a_protocol_reaches_terminal_json_and_html(data, tmp_path):
    weights = write_recogniser(tmp_path / "recogniser.safetensors", seed=0)
    evaluate = ["evaluate", data, "--vlr-size", 16, "--recogniser", weights, "--out", "report"]
    shown = run(
        "protocol",
        [*evaluate, "--bootstrap", 0, "--workers", 0, "--device", "cpu"],
        folder=tmp_path,
    )
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="utf-8"))
    page = next((tmp_path / "report").glob("*.html")).read_text(encoding="utf-8")
    assert {"HR-LR", "LR-HR"} <= {cell["protocol"] for cell in found["cells"]}
    assert "LR-HR: VLR gallery against HR probes" in " ".join(shown.split())
    assert "VLR gallery against HR probes" in page


@pytest.mark.slow
def test_a_benchmark_reaches_help_terminal_and_json(data, tmp_path):
    weights = write_recogniser(tmp_path / "recogniser.safetensors", seed=0)
    faces = data / "test" / "hr_images"
    persons = sorted(folder.name for folder in faces.iterdir())
    first = {person: sorted(path.name for path in (faces / person).iterdir()) for person in persons}
    pairs = [(f"{p}/{first[p][0]}", f"{p}/{first[p][1]}", 1) for p in persons]
    pairs += [(f"{p}/{first[p][0]}", f"{q}/{first[q][1]}", 0) for p in persons for q in persons if p != q]
    (tmp_path / "pairs.txt").write_text("\n".join(" ".join(map(str, pair)) for pair in pairs))
    evaluate = ["evaluate", faces, "--vlr-size", 16, "--protocol", "made_up", "--pairs", "pairs.txt"]
    shown = run(
        "benchmark",
        ["evaluate", "--help-all"],
        [*evaluate, "--recogniser", weights, "--out", "report", "--bootstrap", 0, "--workers", 0],
        folder=tmp_path,
    )
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="utf-8"))
    assert found["protocol"] == "made_up"
    assert "ijb, made_up" in " ".join(shown.split())
    assert "Verification, made_up, 16 px" in shown
