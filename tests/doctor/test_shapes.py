"""The doctor on public data set shapes, and on data sets of ours, through the whole command."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from doctor_shapes import write_h5, write_images

from dsrface.commands import doctor
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.report import Finding, Report
from dsrface.runtime.command_line import quoted

HERE = Path(__file__).parent
SCHEMA = json.loads((HERE.parents[1] / "docs" / "doctor.schema.json").read_text(encoding="utf-8"))


def test_our_own_data_set_ends_with_the_launch():
    config = DoctorConfig(data="my faces", purpose="finetune")
    built = Finding("ds.build", "pass", "built", data={"flags": "--vlr-size 16 --no-dsr"})
    report = Report("1", "faces", {}, (built,), {"num_workers": 3}, (), 1.0)
    result = doctor.DoctorResult(report, None, doctor._launch(config, report))
    data = quoted("my faces")
    assert result.next_command == f"dsrface finetune {data} --vlr-size 16 --no-dsr --workers 3"


def examine(name=None, *args, **values):
    if name is not None:
        values["dataset"] = f"{HERE / 'doctor_shapes.py'}:{name}"
        values["dataset_args"] = json.dumps([str(arg) for arg in args])
    result = doctor.run(DoctorConfig(budget_s=40, **values), emit=lambda event: None)
    jsonschema.validate(json.loads(json.dumps(result.to_dict())), SCHEMA)
    return result.report


@pytest.mark.slow
def test_hdf5_opened_in_init(tmp_path):
    write_h5(tmp_path / "faces.h5")
    report = examine("H5Faces", tmp_path / "faces.h5", start_method="spawn", probe=False)
    check = report.check("ds.unpicklable")
    assert check.status == "fail"
    paths = {member["path"] for member in check.data["members"]}
    assert paths == {"dataset.file", "dataset.images"}
    assert "doctor_shapes.py" in check.where
    assert "os.getpid()" in check.fix
    assert report.recommendation["num_workers"] == 0
    assert "dataset.file cannot be sent" in report.recommendation["reason"]
    forked = examine("H5Faces", tmp_path / "faces.h5", start_method="fork", probe=False)
    assert forked.check("ds.open_handles").status == "warn"


@pytest.mark.slow
def test_iterable_without_shards(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("".join(f"{n}\n" for n in range(500)))
    report = examine("Lines", path)
    assert report.check("ds.iterable_shard").status == "fail"
    assert report.exit_code == 1
    assert report.recommendation["num_workers"] <= 1


@pytest.mark.slow
def test_image_folder(tmp_path):
    write_images(tmp_path)
    report = examine("image_folder", tmp_path)
    assert report.verdict in ("pass", "warn")
    assert report.check("worker.consistency").status in ("pass", "info")
    assert report.check("env.storage").data["file_systems"]


FLAGS = {"train-dsr": "--vlr-size 16", "finetune": "--vlr-size 16 --no-dsr", "precompute": "--weights RUN"}


@pytest.mark.slow
@pytest.mark.parametrize("purpose", sorted(FLAGS))
def test_our_own_data_sets(tmp_path, purpose):
    from dsrface.commands import prepare
    from dsrface.config.prepare import PrepareConfig
    from dsrface.data.synthetic.photo_folder import draw_dataset

    draw_dataset(tmp_path / "photos", num_persons=6, images_per_person=4, seed=0)
    config = PrepareConfig(
        source=tmp_path / "photos", data=tmp_path / "data", vlr_sizes=[16], align="none", workers=0
    )
    prepare.run(config, emit=lambda event: None)
    report = examine(data=tmp_path / "data", purpose=purpose)
    assert report.check("ds.build").data["flags"] == FLAGS[purpose]
    assert report.check("ds.build").status == "pass"
    assert report.check("ds.unpicklable").status == "pass"
    assert report.check("ds.open_handles").status == "pass"
    assert report.check("worker.consistency").status == "pass"
    assert report.exit_code == 0
