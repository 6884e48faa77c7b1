"""`dsrface demo`: the whole pipeline, for real, on a few drawn faces."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsrface.config.demo import DemoConfig
from dsrface.errors import EXIT_INTERRUPTED
from dsrface.events import Note

SMALL = [
    item
    for key, value in {
        "num_persons": 24,
        "images_per_person": 4,
        "dsr_epochs": 1,
        "start_epochs": 1,
        "finetune_epochs": 1,
    }.items()
    for item in ("--set", f"{key}={value}")
]
PARTS = ["prepare", "doctor", "train-dsr", "finetune (start)", "precompute", "finetune", "evaluate"]


@pytest.mark.slow
def test_the_whole_pipeline_ends_with_a_report_and_goes_on_where_it_was(call, tmp_path):
    done = call("demo", "--out", "d", "--json", *SMALL)
    assert done.code == 0, done.err
    document = done.document
    assert list(document["seconds"]) == PARTS
    assert "not accuracy" in document["summary"]
    report = Path(document["location"])
    assert report.is_file()
    html = report.read_text(encoding="utf-8")
    assert "<html" in html
    assert "http://" not in html.replace("http://www.w3.org", "")  # self-contained
    for run in ("dsr", "recogniser", "finetuned"):
        assert (tmp_path / "d" / "runs" / run / "best.json").is_file()
    doctor = document["results"]["doctor"]
    assert doctor["verdict"] != "fail"
    assert {"ds.build": "pass", "ds.items": "pass"}.items() <= {
        check["id"]: check["status"] for check in doctor["checks"]
    }.items()

    # The same command again finds everything done, and says what it would type.
    (tmp_path / "d" / "report" / "report.html").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*.safetensors")}
    again = call("demo", "--out", "d", *SMALL)
    assert again.code == 0, again.err
    assert "$ dsrface train-dsr " in again.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.out.splitlines()[-2].startswith("where  ")

    # Other settings are refused rather than mixed in.
    assert call("demo", "--out", "d", "--seed", "1", "--json").error["error"] == "demo-differs"


def test_a_folder_of_something_else_is_left_alone(call, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("precious", encoding="utf-8")
    done = call("demo", "--out", "d", "--json")
    assert (done.code, done.error["error"]) == (7, "demo-folder")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["thesis.txt"]


def test_interrupted_while_drawing_it_begins_the_drawing_anew(call, tmp_path, monkeypatch):
    import dsrface.commands.demo as command

    def stop(folder, **_):
        folder.mkdir()
        (folder / "half.png").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "draw_dataset", stop)
    assert call("demo", "--out", "d", *SMALL).code == EXIT_INTERRUPTED
    assert not (tmp_path / "d" / "photos").exists()


def test_what_it_says_it_runs_is_what_a_shell_would_run(call, tmp_path, monkeypatch):
    import dsrface.commands.demo as command

    class Result(SimpleNamespace):
        def to_dict(self):
            return {}

    ran = []

    def note_it(config, *, emit):
        del emit
        ran.append(config)
        return Result(summary="done", location="", report=SimpleNamespace(checks=[]), exit_code=0)

    for part in ("prepare", "doctor", "train_dsr", "precompute", "finetune", "evaluate"):
        monkeypatch.setattr(importlib.import_module(f"dsrface.commands.{part}"), "run", note_it)
    monkeypatch.setattr(command, "draw_dataset", lambda folder, **_: folder.mkdir(parents=True))
    notes = []
    config = DemoConfig(out=tmp_path / "Ann's faces", seed=3, device="cpu", vlr_size=24)
    command.run(config, emit=notes.append)
    by_demo = ran.copy()
    ran.clear()

    lines = [note.message for note in notes if isinstance(note, Note) and note.message.startswith("$ ")]
    assert len(lines) == len(PARTS)
    for folder in ("hr_images", "vlr_images_24x24", "dsr_outputs_24x24"):  # as the parts would have left them
        (config.out / "data" / "train" / folder).mkdir(parents=True)
    (config.out / "data" / "train" / "dsr_outputs_24x24" / "manifest.json").write_text("{}")
    for run in ("dsr", "recogniser", "finetuned"):
        (config.out / "runs" / run).mkdir(parents=True)
        (config.out / "runs" / run / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (config.out / "photos" / "a.png").touch()
    monkeypatch.setattr("dsrface.engine.run_claim.claim", lambda *_, **__: False)
    for line in lines:
        done = call(*shlex.split(line, comments=True)[2:], "--json")
        assert done.code == 0, done.err
    assert ran == by_demo
