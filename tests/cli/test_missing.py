"""Values and paths that are missing: named as people type them, with the very command to type next."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsrface.data.decode import encode_png
from dsrface.runtime.command_line import quoted
from dsrface.runtime.user_callable import check_in_file

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
CUT_SHORT = {
    "a.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(35),
    "b.safetensors": (1000).to_bytes(8, "little") + HEADER,
    "c.pt": b"PK\x03\x04" + bytes(99),
    "d.pt": b"<html>404</html>",
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder that says which VLR sizes it holds, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data60").mkdir()
    text = json.dumps({"sizes": {"high_px": 112, "vlr_px": [16, 24]}})
    (tmp_path / "data60" / "dataset.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_missing_flag_is_named_with_what_the_data_set_has(call, data):
    shown = call("train-dsr", "data60").err
    assert "error: --vlr-size is missing." in shown
    assert "data60 holds VLR faces of 16, 24 px:" in shown
    assert "dsrface train-dsr data60 --vlr-size 16" in shown
    assert "DATA is missing." in call("train-dsr").err


@pytest.mark.parametrize(
    ("sign", "protocol"),
    [
        ("a/Testing_Set/Gallery_Distractor/x.jpg", "tinyface"),
        ("mugshots/001_frontal.jpg", "scface"),
        ("Face_Verification_Test_Set/verification_images/1_cam1_1.jpg", "survface"),
        ("xqlfw_pairs.txt", "xqlfw"),
        ("lists/pairs.txt", "lfw"),
        ("meta/ijbc_face_tid_mid.txt", "ijb"),
        ("agedb_30.bin", "bin"),
    ],
)
def test_a_published_benchmark_is_known_by_its_layout(call, data, sign, protocol):
    file = data / "archive" / sign
    file.parent.mkdir(parents=True)
    file.touch()
    place = str(Path("archive", sign)) if protocol == "bin" else "archive"
    command = f"dsrface evaluate {place} --protocol {protocol} --vlr-size 16"
    assert command in " ".join(call("evaluate", "archive").err.split())
    assert command in " ".join(call("evaluate", "archive", "--vlr-size", "24").err.split())


@pytest.mark.parametrize(
    "words", [("train-dsr", "data6", "--vlr-size", "16"), ("evaluate", "data6", "--vlr-size", "16")]
)
def test_a_path_that_is_not_there_is_met_with_the_nearest_one(call, data, words):
    done = call(*words)
    assert done.code == 3
    assert "Did you mean data60?" in done.err


@pytest.mark.parametrize(
    ("folders", "names", "expected"),
    [
        (("Camera 1", "Camera 2"), "{}_cam_{}", "do not sound like such. By the text before the first"),
        (("cam1", "2024-05-01"), "{}-{}", "do not sound like such. By the text before the last number"),
        (("ada", "007"), "{}_{}", "12 faces of 2 persons"),
        (("images",), "{}_cam_{}", "--persons '(?P<person>[^/_]+)_[^/]*$'"),
    ],
)
def test_folders_that_are_called_like_cameras_are_doubted(call, data, folders, names, expected):
    for folder in folders:
        (Path("cctv") / folder).mkdir(parents=True)
        for number in range(6):
            image = np.full((112, 112, 3), 7 * number + ord(folder[-1]), np.uint8)
            name = names.format(f"p{number % 3}", number)
            (Path("cctv") / folder / f"{name}.png").write_bytes(encode_png(image))
    done = call("prepare", "cctv", "new", "--native", "--split", "0.5,0,0.5")
    said = " ".join(f"{done.err} {done.out}".split())
    assert expected in said
    assert ("do not sound" in said) == ("do not sound" in expected)
    if len(folders) == 1:
        Path("cctv/list.csv").write_text("".join(f"p{n % 3}_cam_{n}.png,a{n % 3}\n" for n in range(6)))
        said = call("prepare", "cctv", "new", "--native", "--split", "0.5,0,0.5").err
        listed = quoted(Path("cctv", "list.csv"))
        assert f"--persons {listed} --native" in said


def test_the_command_that_uses_a_list_keeps_the_options_that_were_given(call, data):
    for number in range(6):
        (Path("faces") / f"s{number}").mkdir(parents=True)
        image = np.full((20, 20, 3), 9 * number, np.uint8)
        (Path("faces") / f"s{number}" / f"{number}.png").write_bytes(encode_png(image))
    text = "".join(f"s{number}/{number}.png {number % 3}\n" for number in range(6))
    Path("faces/list_eval_partition.txt").write_text(text)
    said = call("prepare", "faces", "new", "--native", "--persons", "1").err
    listed = quoted(Path("faces", "list_eval_partition.txt"))
    assert f"dsrface prepare faces new --native --persons 1 --split-from {listed}" in said


def test_a_file_with_a_bad_line_is_not_taken_for_one_that_is_not_there(call, data):
    Path("photos/ada").mkdir(parents=True)
    Path("photos/ada/1.png").write_bytes(encode_png(np.zeros((150, 150, 3), np.uint8)))
    Path("marks.csv").write_text("file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\nada/1.png,1,2,3,x,5,6,7,8,9,10\n")
    done = call("prepare", "photos", "new", "--align", "marks.csv")
    assert "marks.csv, line 2" in done.err
    assert "Did you mean" not in done.err


@pytest.mark.parametrize(
    ("command", "expected"), [("identify", "name the folder"), ("verify", "dsrface identify PHOTOS")]
)
def test_several_photos_are_not_offered_as_a_file_to_write(call, data, command, expected):
    photos = [f"{name}.png" for name in "abc"]
    for photo in photos:
        Path(photo).write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
    said = call(command, *photos).err
    assert expected in said
    assert "--sheet" not in said


def test_one_photo_as_a_source_is_met_with_the_commands_that_were_meant(call, data):
    (data / "a photo.jpg").touch()
    said = call("prepare", "a photo.jpg", "out").err
    assert "dsrface prepare . DATA" in said
    assert f"dsrface verify {quoted('a photo.jpg')} OTHER" in said


def test_what_is_not_there_is_said_before_torch_is_loaded(call, data, monkeypatch):
    def refuse(name):
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr("dsrface.cli.execute.import_command", refuse)
    (data / "text.jpg").write_text("no image")
    (data / "face.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (data / "empty").mkdir()
    for words in (
        ("prepare", "nosuch", "out"),
        ("precompute", "nosuch", "--weights", "w"),
        ("embed", "nosuch", "--out", "e.npz"),
        ("identify", "nosuch", "--gallery", "g.npz"),
        ("prepare", "text.jpg", "out"),
        ("prepare", "empty", "out"),
        ("embed", "text.jpg", "--out", "e.npz"),
        ("enrol", "empty", "--out", "e.npz"),
        ("verify", "face.png", "text.jpg"),
        ("verify", "face.png", "empty"),
    ):
        assert call(*words).code == 3, words
    for name, content in CUT_SHORT.items():
        (data / name).write_bytes(content)
        assert call("verify", "face.png", "face.png", "--weights", name).code == 4, name
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (data / "run.pt").write_bytes(b"\x80\x02.")
    done = call("export", "run.pt", "--format", "onnx")
    assert (done.code, "[onnx]" in done.err) == (5, True)


@pytest.mark.parametrize(
    ("key", "meant"), [("engine.epochs", "epochs"), ("engine.batchsize", "batch_size"), ("epoch", "epochs")]
)
def test_did_you_mean_compares_the_last_part_of_a_key(call, data, key, meant):
    shown = call("train-dsr", "data60", "--vlr-size", "16", "--set", f"{key}=1").err
    assert f"Did you mean {meant!r}?" in shown


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("prepare", "data60", "out", "--degradation", "realistc"), "realistic"),
        (("evaluate", "data60", "--vlr-size", "16", "--protocol", "tiny_face"), "tinyface"),
        (("train-dsr", "data60", "--preset", "tinny"), "tiny"),
        (("config", "show", "evalute"), "evaluate"),
    ],
)
def test_did_you_mean_knows_choices_presets_and_commands(call, data, words, meant):
    assert f"Did you mean {meant!r}?" in call(*words).err


def test_a_native_data_set_trains_no_dsr_whatever_the_size(call, data):
    text = json.dumps({"schema_version": 1, "native": True, "sizes": {"vlr_px": [20]}})
    (data / "data60" / "dataset.json").write_text(text, encoding="utf-8")
    for size in ((), ("--vlr-size", "20")):
        assert "native faces without HR twins" in call("train-dsr", "data60", *size).err


def test_a_run_in_the_place_of_the_data_set_is_met_with_how_to_go_on(call, data):
    (data / "runs" / "a b").mkdir(parents=True)
    record = {"command": "train-dsr", "config": {"data": "data60"}}
    (data / "runs" / "a b" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run, config = (quoted(Path("runs", "a b", *file)) for file in ((), ("config.toml",)))
    resume = f"dsrface train-dsr data60 --config {config} --run {run} --resume"
    for words in (("train-dsr", "--resume"), ("evaluate", "--vlr-size", "16"), ("precompute",)):
        shown = call(*words, str(Path("runs", "a b"))).err
        assert "not a data set" in shown
        assert resume in shown


@pytest.fixture
def flat(data):
    """Photos whose names have no underscore."""
    (data / "flat").mkdir()
    for level, name in enumerate(("anna-1", "anna-2", "bo (1)", "bo (2)", "c3po 1")):
        (data / "flat" / f"{name}.png").write_bytes(encode_png(np.full((112, 112, 3), level, np.uint8)))
    return data


def test_a_pattern_that_fits_the_names_is_offered_and_works(call, flat):
    said = call("prepare", "flat", "out").err
    assert "there are 3, such as anna, bo, c3po: --persons" in " ".join(said.split())
    (option,) = (line.partition("--persons ")[2] for line in said.splitlines() if "(?P<" in line)
    assert call("prepare", "flat", "out", "--persons", shlex.split(option)[0], "--vlr-sizes", "16").code == 0


def test_the_folder_above_is_offered_for_one_persons_photos_alone(call, flat):
    for person in ("anna", "bo", "cy"):
        shutil.copytree(flat / "flat", flat / "all" / person)
    one = call("prepare", str(Path("all", "anna")), "out", "--persons", "(?P<person>a)nna").err
    assert "dsrface prepare all out" in one
    shutil.move(flat / "all" / "bo", flat / "cy" / "bo")
    assert "did you mean" not in call("prepare", "cy", "out").err


@pytest.mark.parametrize(("size", "option"), [(20, "--native"), (256, "--align resize")])
def test_the_way_to_align_follows_from_the_sizes(call, data, monkeypatch, size, option):
    monkeypatch.setattr("dsrface.data.photos.detect.is_available", lambda: False)
    for name in ("a_1.png", "b_1.png", "c_1.png"):
        (data / "faces").mkdir(exist_ok=True)
        (data / "faces" / name).write_bytes(encode_png(np.zeros((size, size, 3), np.uint8)))
    assert f"dsrface prepare faces out {option}" in " ".join(call("prepare", "faces", "out").err.split())


def test_prepare_needs_no_torch():
    code = "import sys, dsrface.commands.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_ways_out_are_named(call, data):
    assert "--vlr-sizes 16,24,32" in call("prepare", "data60", "out", "--vlr-sizes", "16px").err
    (data / "lfw.bin").write_bytes(b"")
    assert "dsrface evaluate lfw.bin" in call("prepare", "lfw.bin", "out").err
    assert "dsrface enrol" in call("verify", "data60", "lfw.bin").err


def test_a_file_that_init_writes_is_valid_and_knows_its_command(call, data):
    call("config", "init", "train-dsr", "--preset", "tiny", "--out", "dsr.toml")
    for words in (("dsr.toml",), ("train-dsr", "dsr.toml")):
        done = call("config", "validate", *words)
        assert done.code == 0, done.err
        assert "left to the command line: data, vlr_size" in done.out
    assert "is for train-dsr, not for finetune" in call("finetune", "--config", "dsr.toml").err
    (data / "bare.toml").write_text("epochs = 3\n", encoding="utf-8")
    assert "dsrface config validate COMMAND bare.toml" in call("config", "validate", "bare.toml").err


def test_wrong_values_of_flags_are_named_as_flags(call, data):
    assert "error: --budget 'abc': must be a number." in call("doctor", "--budget", "abc").err
    assert "error: --workers -1: must be at least 0." in call("doctor", "--workers", "-1").err
    assert "Did you mean 'finetune'?" in call("doctor", "data60", "--for", "finetun").err


def test_a_file_or_a_mistyped_program_is_met_with_what_to_launch(call, data):
    (data / "train.py").write_text("pass\n", encoding="utf-8")
    shown = call("doctor", "train.py").err
    assert "dsrface doctor -- python train.py" in shown
    assert "dsrface doctor --dataset train.py:CALLABLE" in shown
    assert "Did you mean python?" in call("doctor", "--", "pyhton", "train.py").err


def test_a_python_that_is_not_on_the_path_is_met_with_the_one_that_runs_here(call, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert f"-- {quoted(sys.executable)} train.py" in call("doctor", "--", "python", "train.py").err
    assert "Is it installed?" in call("doctor", "--", "torchrun", "train.py").err


@pytest.fixture
def runs(data):
    """Next to a data set: a run of each kind, and what is none."""
    for name, command in (("dsr", "train-dsr"), ("tuned", "finetune")):
        checkpoint = data / "runs" / name / "checkpoints" / "step_1"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
        (data / "runs" / name / "best.json").write_text('{"checkpoint": "checkpoints/step_1"}')
        (data / "runs" / name / "run.json").write_text(
            json.dumps({"command": command, "config": {"data": "data60"}})
        )
        (checkpoint / "trainer.pt").touch()
    for folder in ("photos/anna", "small", "data60/train/hr_images", "data60/train/vlr_images_16x16"):
        (data / folder).mkdir(parents=True)
    (data / "small" / "a.png").write_bytes(encode_png(np.zeros((24, 24, 3), np.uint8)))
    trained_for = json.dumps({"arch": "residual", "vlr_size": 24})
    stored = {"__metadata__": {"format": "dsrface", "kind": "dsr", "config": trained_for}}
    header = json.dumps(stored).encode()
    (data / "dsr.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (data / "outputs").mkdir()
    (data / "outputs" / "manifest.json").write_text('{"format": "dsrface-cache", "key": {"vlr_size": 24}}')
    for name in ("native", "other", "photos"):
        (data / "sets" / name).mkdir(parents=True)
    for name in ("native", "other"):
        (data / "sets" / name / "dataset.json").write_text('{"native": true}')
    (data / "runs" / "dsr" / "export").mkdir()
    for folder in ("runs/dsr/export/none", "a photo", "u-toml"):
        (data / folder).mkdir()
    np.savez(data / "p.npz", embeddings=np.zeros(3))
    (data / "t.toml").write_text('command = "train-dsr"\n')
    for file in ("photos.zip", "notes.txt", "runs/dsr/export/dsr.safetensors"):
        (data / file).touch()
    return data


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("precompute data60 --weights runs/drs", "Did you mean runs/dsr?"),
        ("precompute data60 --weights runs/tuned", "a super-resolution network (DSR) is wanted"),
        ("precompute data60 --weights runs/tuned", "Did you mean runs/dsr?"),
        ("embed photos --weights runs/dsr --out e.npz", "Did you mean runs/tuned?"),
        ("export runs/dsr", "To write it again: dsrface export --force"),
        ("export dsr.safetensors --out dsr.safetensors", "Or give another name by --out."),
        ("train-dsr sets/native --vlr-size 16", "without HR twins"),
        ("train-dsr sets/photos --vlr-size 16", "Data sets next to it: sets/native, sets/other."),
        ("demo --out data60", "holds no demo"),
        ("demo --out notes.txt/demo", "A part of the path is a file"),
        ("demo --epochs 3", "Did you mean --set dsr_epochs=3?"),
        ("embed photos --weights nets.py:net --out e.npz", "There is no such file."),
        ("embed photos --weights torchscript:net.pt --out e.npz", "There is no such file."),
        ("export runs", "Did you mean runs/dsr or runs/tuned?"),
        ("export runs/dsr/checkpoints", "Did you mean runs/dsr?"),
        ("evaluate data60 --vlr-size 16 --finetuned runs/x", "to do  Did you mean runs/tuned?"),
        ("evaluate data60 --vlr-size 16 --finetuned runs/dsrr", "to do  Did you mean runs/tuned?"),
        ("embed photos --weights dsr.safetensors --out e.npz", "where a recogniser is wanted"),
        ("train-dsr data60 --vlr-size 24", "Use --vlr-size 16."),
        ("train-dsr data60 --vlr-size 16 --run runs/dsr", "--run runs/dsr --resume"),
        ("finetune data60 --vlr-size 16 --no-dsr --run runs/dsr", "holds a run of train-dsr already"),
        ("train-dsr data60 --vlr-size 16 --run runs/new --resume", "There is no run to resume here."),
        ("evaluate data60 --vlr-size 32 --dsr runs/dsr", "`dsrface prepare PHOTOS DATA --vlr-sizes 16,32`"),
        ("finetune data60 --vlr-size 16 --dsr-outputs runs/dsr", "--live runs/dsr"),
        ("finetune data60 --vlr-size 16 --dsr-outputs data60/train", "the data set's own images"),
        ("finetune data60 --vlr-size 16 --dsr-outputs photos", "neither a packed cache nor any image"),
        ("finetune data60 --vlr-size 16 --dsr-outputs outputs", "Use --vlr-size 24, or outputs"),
        ("finetune data60 --vlr-size 16 --live outputs", "--dsr-outputs outputs"),
        ("evaluate data60 --vlr-size 16 --dsr dsr.safetensors", "Use --vlr-size 24, or a DSR"),
        ("evaluate data60 --vlr-size 16 --pairs notes.txt", "The pairs file is empty."),
        ("train-dsr data60 --vlr-size 16 --resume", "--resume goes with --run"),
        ("embed photos --weights edgeface_xxs --out e.npz", "give the file of its weights"),
        ("embed photos --weights notes.txt --out e.npz", "neither a safetensors nor a torch file"),
        ("cache rm data60", "Choose one of: ls, verify, gc."),
        ("identify photos --gallery p.npz --sheet s.jpg", "--sheet s.jpg: must end in .png"),
        ("identify photos --gallery notes.txt", "galleries are .npz files"),
        ("cache ls photos", "There is no cache here or below."),
        ("precompute data60 --weights https://x.org/dsr.pth", "This is a web address"),
        ("train-dsr photos --vlr-size 16", "Did you mean data60?"),
        ("train-dsr data60/train --vlr-size 16", "Name the data set:"),
        ("prepare photos.zip data2", "python -m zipfile -e photos.zip photos"),
        (
            "finetune data60 --vlr-size 16 --dsr-outputs data60/train/dsr",
            "dsrface precompute data60 --weights",
        ),
        ("doctor photos --for finetune", "Did you mean data60?"),
        ("cache ls data6", "Did you mean data60?"),
        ("verify nope.png notes.txt", "There is nothing at this path."),
        ("identify photos --gallery p.npz", "dsrface enrol"),
        ("train-dsr data60 --vlr-size 16 --run notes.txt", "A file has this name, so no folder can."),
        ("precompute data60 --dsr runs/dsr", "Did you mean --weights runs/dsr?"),
        ("precompute data60 runs/dsr", "Did you mean --weights runs/dsr?"),
        ("finetune data60 --vlr-size 16 --dsr runs/dsr", "Did you mean --live runs/dsr?"),
        ("evaluate data60 --vlr-size 16 --weights outputs", "Did you mean --dsr-outputs outputs?"),
        ("train-dsr data60 --vlr-size 16 --resume runs/dsr", "Did you mean --run runs/dsr --resume?"),
        ("train-dsr data60 --vlr-size 16 --run runs/drs --resume", "Did you mean runs/dsr?"),
        ("prepare a photo data2", "A path with blanks goes in quotes: 'a photo'"),
        ("precompute data60", "dsrface precompute data60 --weights runs/dsr"),
        ("finetune data60 --vlr-size 16", "dsrface finetune data60 --vlr-size 16 --live runs/dsr"),
        ("precompute data60 --weights runs/dsr/run.json", "Did you mean runs/dsr?"),
        ("embed photos --weights p.npz --out e.npz", "an archive of NumPy, as galleries are"),
        ("train-dsr . --vlr-size 16", "to do  Did you mean data60?"),
        ("train-dsr data60/dataset.json --vlr-size 16", "Did you mean data60?"),
        ("train-dsr runs/dsr/export/none --vlr-size 16", "The folder is empty."),
        ("finetune data60 --vlr-size 16 --config t.toml", "dsrface train-dsr --config t.toml"),
        ("train-dsr data60 --vlr-size 16 --config u.toml", "dsrface config init train-dsr --out u.toml"),
        ("evaluate data60 --vlr-size 16 --pairs note.txt", "Did you mean notes.txt?"),
        ("doctor --output photos", "A folder has this name, so no file can."),
        ("train-dsr data60 --vlr-size 16 --device gpu", "cuda or cuda:N (a GPU of NVIDIA or AMD)"),
        ("prepare photos data60 --vlr-sizes 200", "each size must be from 4 to 112 pixels"),
        ("evaluate gone --vlr-size 16", "to do  Did you mean data60?"),
        (
            "finetune gone --vlr-size 16 --no-dsr --run runs/tuned --resume",
            "dsrface finetune data60 --config",
        ),
        ("evaluate data60 --vlr-size 16 --fine-tuned runs/tuned", "Did you mean --finetuned runs/tuned?"),
        ("prepare photos/anna photos/anna out", "Name the folder above them: dsrface prepare photos out"),
        ("prepare nothing small", "Did you mean dsrface prepare small nothing?"),
        ("prepare runs/dsr out", "This is a run folder, not photos."),
        ("precompute", "dsrface precompute data60 --weights runs/dsr"),
        ("precompute runs/dsr data60", "Did you mean dsrface precompute data60 --weights runs/dsr?"),
        ("precompute data60 --weights outputs", "This holds DSR outputs.\n"),
        ("precompute --input photos --weights runs/dsr", "--output OUTPUTS"),
        ("train-dsr 'data60' --vlr-size 16", "Did you mean data60?"),
        ("train-dsr data60/train/hr_images --vlr-size 16", "Name the data set: data60"),
        ("precompute data60 --weights runs/dsr/checkpoints/step_1/trainer.pt", "step_1/model.safetensors?"),
        ("embed photos --weights runs/tuned", "--out faces.npz"),
        ("enrol data60 --weights runs/tuned --out g.npz", "Name data60/train/hr_images."),
        ("identify p.npz photos", "Did you mean dsrface identify photos --gallery p.npz?"),
        ("identify photos", "--gallery people.npz"),
        ("export runs/dsr x.onnx", "Did you mean --out x.onnx?"),
        ("cache verify outputs/manifest.json", "Did you mean outputs?"),
        ("config init train", "Did you mean 'train-dsr'?"),
    ],
)
def test_paths_and_runs_of_the_wrong_kind_are_met_with_the_right_ones(
    call, runs, monkeypatch, line, expected
):
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail(f"{name} imported"))
    done = call(*line.split())
    assert done.code != 0
    assert expected.replace("'", '"') in done.err.replace("\\", "/").replace("'", '"')  # as cmd quotes


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("doctor data60", "dsrface doctor data60 --for finetune"),
        ("doctor train.py:make", "dsrface doctor --dataset train.py:make"),
        ("doctor --dataset data60", "Write --dataset package.module:callable"),
        ("doctor --dataset ../x", "Write --dataset package.module:callable"),
        ("doctor --dataset train", "--dataset train.py:make"),
        ("doctor --dataset train.make", "Did you mean --dataset train:make?"),
        ("doctor --scan notes.txt", "Give .py or .ipynb files"),
        ("doctor --scan train.py train.ipynb", "repeat it: --scan train.py --scan train.ipynb"),
        ("config validate dsr.toml train-dsr", "dsrface config validate train-dsr dsr.toml"),
        ("config validate run", f"Did you mean {Path('run') / 'config.toml'}?"),
        ("config init dsr.toml", "--out dsr.toml"),
    ],
)
def test_a_file_or_a_word_in_the_wrong_place_is_met_with_the_right_one(call, data, line, expected):
    (data / "train.py").write_text("def make():\n    return 1\n", encoding="utf-8")
    (data / "run").mkdir()
    for file in ("notes.txt", "train.ipynb", "dsr.toml", "run/config.toml"):
        (data / file).touch()
    done = call(*line.split())
    assert done.code == 2
    assert expected in done.err


def test_nothing_to_scan_is_said(call, data):
    assert "there is no Python source" in call("doctor", "--scan", "data60").out


@pytest.fixture
def trained(runs):
    """A recogniser with a threshold and a DSR, as files that say so; faces of 16 px."""
    about = {
        "rec": {
            "kind": "recogniser",
            "config": '{"variant": "edgeface_xxs"}',
            "thresholds": '{"chosen": [{"far": 0.1}]}',
        },
        "dsr16": {"kind": "dsr", "config": '{"arch": "residual", "vlr_size": 16}'},
    }
    for name, facts in about.items():
        header = json.dumps({"__metadata__": {"format": "dsrface", **facts}}).encode()
        (runs / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (runs / "data60" / "train" / "dsr_outputs_16x16").mkdir()
    key = '{"key": {"vlr_size": 16, "dsr_sha256": "6d8c"}}'
    (runs / "data60" / "train" / "dsr_outputs_16x16" / "manifest.json").write_text(key)
    (runs / "cut.bin").write_bytes(b"\x80\x03]")
    for name in ("cut.png", "cut/a/1.png", "cut/b/1.png"):
        (runs / name).parent.mkdir(exist_ok=True, parents=True)
        (runs / name).write_bytes(encode_png(np.zeros((24, 24, 3), np.uint8))[:-30])
    for name in ("archive", "new"):
        (runs / name).mkdir()
    (runs / "new" / "dataset.json").write_text('{"schema_version": 99}')
    return runs


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("embed small --weights rec.safetensors --out e.npz", "The image is 24x24, not 112x112."),
        ("embed small --out e.npz", "No recogniser is named"),
        ("embed small --weights judge --out e.npz", "The judge needs dlib"),
        ("evaluate data60 --vlr-size 16 --recogniser judge", "The judge needs dlib"),
        ("enrol small --weights rec.safetensors --out g.npz", "it has those for 0.1)"),
        ("enrol small --weights rec.safetensors --calibrate data60 --out g.npz", "--vlr-size 16"),
        ("precompute --input small --output o --weights dsr16.safetensors", "The image is 24x24, not 16x16."),
        ("precompute --input notes.txt --output o --weights dsr16.safetensors", "The input is not a folder."),
        (
            "precompute --input archive --output o --weights dsr16.safetensors",
            "The input folder holds no images.",
        ),
        (
            "finetune data60 --vlr-size 16 --no-dsr --backbone iresnet18 --backbone-weights rec.safetensors",
            "Use --backbone edgeface_xxs.",
        ),
        ("evaluate data60 --vlr-size 16 --protocol lfw", "dsrface evaluate data60 --vlr-size 16"),
        ("evaluate archive --vlr-size 16 --protocol lfw", "The folder is empty."),
        ("evaluate none --vlr-size 16 --protocol lfw", "the benchmark's archive"),
        ("evaluate cut.bin --vlr-size 16", "its end is missing"),
        ("evaluate notes.txt --vlr-size 16 --protocol bin", "it is empty"),
        ("evaluate data60 --vlr-size 16 --out photos", "no evaluation is in it"),
        ("train-dsr data60 --vlr-size 16 --run runs/tuned --resume", "dsrface finetune data60 --config"),
        ("train-dsr data60 --vlr-size 16 --run runs/dsr --resume", "The run was started with other settings"),
        ("evaluate new --vlr-size 16", "schema version 99"),
        ("embed small --weights edgeface_xxs.pt --out e.npz", "fetch the file from its authors"),
        ("verify cut.png small/a.png --weights rec.safetensors --far 0.1", "The image is cut off"),
        ("finetune data60 --vlr-size 16 --no-dsr --backbone timm:resnett18", "Did you mean resnet18"),
        ("embed small --weights timm:resnett18 --out e.npz", "timm has no network 'resnett18'."),
        ("embed cut.png --weights rec.safetensors --out e.npz", "The image is cut off"),
        ("embed cut --weights rec.safetensors --dsr dsr16.safetensors --out e.npz", "skip leaves such files"),
        ("enrol cut --weights rec.safetensors --threshold 1 --out g.npz --persons 4", "Leave out --persons"),
        ("export dsr16.safetensors --format onnx --pixels", "nothing that the file could normalise"),
        ("precompute data60 --weights dsr16.safetensors", "stale: dsr_sha256: 6d8c -> "),
        ("precompute data60 --weights dsr.safetensors", "The DSR takes no other: use one for 16 px."),
    ],
)
def test_what_several_values_tell_together_is_said_before_torch_is_loaded(
    call, trained, monkeypatch, line, expected
):
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail(f"{name} imported"))
    monkeypatch.setattr("dsrface.models.judge_files.weights_of_judge", lambda: None)
    assert expected in call(*line.split()).err.replace("\\", "/")


def test_a_bin_file_is_measured_without_a_protocol(call, trained, monkeypatch):
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail("looked through"))
    (trained / "set.bin").write_bytes(pickle.dumps(([], [])))
    with pytest.raises(pytest.fail.Exception, match="looked through"):
        call("evaluate", "set.bin", "--vlr-size", "16")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--dataset train.py:mak", "--dataset train.py:make"),
        ("--dataset train:mak", "--dataset train:make"),
        ("--dataset tran.py:make", "Did you mean train.py?"),
        ("--dataset train.ipynb:make", "The file does not exist."),
        ("-- python tran.py", "Did you mean train.py?"),
        ("data60 --for finetune --vlr-size 24", "Use --vlr-size 16."),
    ],
)
def test_what_is_not_there_to_examine_is_said_before_torch_is_imported(
    call, runs, monkeypatch, line, expected
):
    (runs / "train.py").write_text("def make():\n    return 1\n", encoding="utf-8")
    monkeypatch.setattr("shutil.which", lambda name: name)
    for name in ("examine", "examine_launch"):
        for module in ("dsrface.commands.doctor", "dsrface.commands.doctor.launching"):
            monkeypatch.setattr(f"{module}.{name}", lambda *_, **__: pytest.fail("examined"), raising=False)
    assert expected in call("doctor", *line.split()).err


@pytest.mark.parametrize(
    "body", ["exec('make = 1')", "from os import *", "def __getattr__(name):\n    return 1"]
)
def test_a_name_that_no_line_shows_is_not_refused_before_it_is_imported(tmp_path, body):
    (tmp_path / "hidden.py").write_text(body, encoding="utf-8")
    check_in_file(f"{tmp_path / 'hidden.py'}:make", flag="--dataset", wanted="a data set")


def test_persons_that_are_known_without_a_rule_are_said(call, flat):
    for name in ("anna", "bo"):
        shutil.copytree(flat / "flat", flat / "all" / name)
    assert "Leave out --persons: folders of level 1" in call("prepare", "all", "out", "--persons", "5").err
    shutil.copytree(flat / "flat", flat / "one" / "images")
    Path("list.txt").write_text("elsewhere.jpg anna\n")
    assert "Leave out" not in call("prepare", "one", "out", "--persons", "list.txt").err
    assert "dsrface prepare all out --split 1,0,0" in call("prepare", "all", "out").err


def test_a_data_set_as_a_source_is_met_with_what_it_is_for(call, flat):
    shutil.copytree(flat / "flat", flat / "data" / "train" / "hr_images" / "anna")
    said = call("prepare", "data", "out").err.replace("\\", "/")
    assert "dsrface doctor data --for train-dsr" in said
    assert "dsrface prepare data/train/hr_images DATA" in said


def test_flat_names_of_one_person_are_met_with_the_pattern_that_tells_them_apart(call, data):
    low, high = (data / "set" / name for name in ("vlr_images", "hr_images"))
    for folder, size in ((low, 16), (high, 112)):
        folder.mkdir(parents=True)
        for person in range(3):
            for photo in range(2):
                image = np.full((size, size, 3), person, np.uint8)
                (folder / f"person_{person}_{photo}.png").write_bytes(encode_png(image))
    said = call("train-dsr", "set", "--vlr-size", "16").err.replace("\\", "/")
    assert "there are 3, such as person_0," in said
    assert "dsrface prepare set/hr_images DATA --persons PATTERN" in said
    assert "there are 3, such as person_0," in call("prepare", high, "out").err


def test_a_size_to_calibrate_for_is_that_of_the_data_set(call, trained):
    said = call(
        "enrol", "small", "--weights", "rec.safetensors", "--calibrate", "data60", "--out", "g.npz"
    ).err
    assert "--vlr-size 16" in said
    assert "--vlr-size 24" in said


def test_pairs_of_other_persons_are_said_before_torch_is_loaded(call, trained, monkeypatch):
    faces = trained / "data60" / "test" / "hr_images"
    faces.mkdir(parents=True)
    (trained / "data60" / "test" / "vlr_images_16x16").mkdir()
    for number in (1, 2):
        (faces / f"ada_{number}.png").write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
    (trained / "pairs.txt").write_text("bo/1.png bo/2.png 1\n", encoding="utf-8")
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail(f"{name} imported"))
    line = "evaluate data60 --vlr-size 16 --pairs pairs.txt --recogniser rec.safetensors"
    assert "None of its 1 pairs is in the test split." in call(*line.split()).err


def test_too_few_validation_persons_are_said_before_torch_is_loaded(call, trained, monkeypatch):
    faces = trained / "data60" / "val" / "hr_images"
    faces.mkdir(parents=True)
    for person in range(3):
        (faces / f"p{person}_1.png").write_bytes(encode_png(np.zeros((112, 112, 3), np.uint8)))
    (trained / "data60" / "val" / "vlr_images_16x16").mkdir()
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail(f"{name} imported"))
    calibrated = ("--calibrate", "data60", "--vlr-size", "16", "--out", "g.npz")
    said = call("enrol", "small", "--weights", "rec.safetensors", *calibrated).err
    assert "The 3 validation persons cannot support a false-accept rate" in said


def test_a_split_without_outputs_is_met_with_its_own(call, runs):
    for split in ("train", "test"):
        for folder in ("hr_images", "dsr_outputs_16x16"):
            (runs / "data60" / split / folder).mkdir(parents=True, exist_ok=True)
        (runs / "data60" / split / "vlr_images_16x16").mkdir(exist_ok=True)
    said = call("evaluate", "data60", "--vlr-size", "16", "--dsr-outputs", "data60/test/dsr").err
    assert "Did you mean data60/test/dsr_outputs_16x16?" in said.replace("\\", "/")


def test_a_gpu_is_called_cuda(call, data):
    assert "did you mean cuda?" in call("train-dsr", "data60", "--vlr-size", "16", "--device", "gpu").err


def test_a_data_set_that_cannot_take_outputs_is_said_before_torch_is_loaded(call, trained, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("dsrface.cli.execute.import_command", lambda name: pytest.fail(f"{name} imported"))
    shutil.rmtree(trained / "data60" / "train" / "dsr_outputs_16x16")
    assert "Permission denied" in call("precompute", "data60", "--weights", "dsr16.safetensors").err


def test_the_example_is_left_out_where_one_key_is_wrong(call, data):
    said = call("finetune", "data60", "--vlr-size", "16", "--no-dsr", "--set", "anchor.wieght=3").err
    assert "Did you mean 'anchor.weight'?" in said
    assert "For example" not in said
