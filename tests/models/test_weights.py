import json
import os
import pickle
import sys
import zipfile

import pytest
import torch
from safetensors import safe_open
from torch import nn

from dsrface.config.catalogue import RECOGNISER_INPUT
from dsrface.config.dsr_model import DsrConfig
from dsrface.errors import WeightsError
from dsrface.models.dsr import build_dsr
from dsrface.models.preprocess import normalise
from dsrface.models.recognisers import build_recogniser
from dsrface.models.sources import resolve_source
from dsrface.models.weight_files import read_tensors
from dsrface.models.weights import (
    load_any,
    load_dsr,
    load_recogniser,
    save_model,
)
from dsrface.runtime.files import sha256_file
from dsrface.types import Preprocess

CONFIG = DsrConfig(vlr_size=24, channels=8, blocks=2, mixer_rank=4)


def dsr(seed=0):
    torch.manual_seed(seed)
    model = build_dsr(CONFIG)
    nn.init.normal_(model.tail.weight, std=0.1)
    return model


def save_dsr(path, model=None, **changes):
    values = {"kind": "dsr", "config": CONFIG.model_dump(), "preprocess": Preprocess(24)} | changes
    save_model(path, model or dsr(), **values)
    return path


def save_recogniser(path, network):
    config = {"variant": "edgeface_xxs"}
    save_model(path, network, kind="recogniser", config=config, preprocess=RECOGNISER_INPUT)
    return path


@pytest.fixture(scope="module")
def edgeface():
    torch.manual_seed(0)
    return build_recogniser("edgeface_xxs").eval()


def refused(call, *args):
    with pytest.raises(WeightsError) as caught:
        call(*args)
    assert caught.value.exit_code == 4
    assert str(args[0]) in caught.value.where
    return caught.value


def test_dsr__file_alone_rebuilds_the_network(tmp_path):
    model = dsr()
    loaded = load_dsr(save_dsr(tmp_path / "model.safetensors", model, extra={"run": "abc"}))
    low = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        # not bit-equal: the loaded one is laid out channels_last, and sums in another order
        torch.testing.assert_close(loaded.model(low), model(low), rtol=0, atol=1e-5)
    assert loaded.kind == "dsr"
    assert DsrConfig(**loaded.config) == CONFIG
    assert loaded.preprocess == Preprocess(24)
    assert loaded.metadata["run"] == "abc"
    assert loaded.sha256 == sha256_file(tmp_path / "model.safetensors")
    assert not loaded.model.training


def test_recogniser__file_alone_rebuilds_the_network(tmp_path, edgeface):
    loaded = load_recogniser(save_recogniser(tmp_path / "m.safetensors", edgeface))
    face = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(loaded.model(face), edgeface(face))
    assert loaded.config == {"variant": "edgeface_xxs"}
    assert loaded.preprocess == RECOGNISER_INPUT


def test_recogniser__official_pt_file(tmp_path, edgeface):
    torch.save(edgeface.state_dict(), tmp_path / "edgeface_xxs.pt")
    loaded = load_recogniser(tmp_path / "edgeface_xxs.pt")
    assert loaded.config == {"variant": "edgeface_xxs"}
    assert loaded.preprocess == RECOGNISER_INPUT
    assert load_any(tmp_path / "edgeface_xxs.pt").kind == "recogniser"


def test_save__same_network_same_bytes_and_no_wrappers_names(tmp_path):
    save_dsr(tmp_path / "a")
    save_dsr(tmp_path / "b", dsr(1))
    wrapped = nn.Module()
    wrapped.module = dsr()
    save_dsr(tmp_path / "c", wrapped)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes() != (tmp_path / "b").read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_save__metadata_is_readable_by_anybody(tmp_path):
    with safe_open(save_dsr(tmp_path / "m.safetensors"), framework="np") as handle:
        metadata = handle.metadata()
    assert metadata["format"] == "dsrface"
    assert metadata["kind"] == "dsr"
    assert json.loads(metadata["config"])["channels"] == 8
    assert Preprocess.from_json(metadata["preprocess"]) == Preprocess(24)


def test_save__programming_mistakes(tmp_path):
    with pytest.raises(ValueError, match="kind"):
        save_dsr(tmp_path / "m", kind="gan")
    with pytest.raises(ValueError, match="reuses"):
        save_dsr(tmp_path / "m", extra={"config": "{}"})


def run_folder(tmp_path):
    run = tmp_path / "run"
    save_dsr(run / "checkpoints" / "step_000100" / "model.safetensors", dsr(1))
    save_dsr(run / "checkpoints" / "step_000200" / "model.safetensors", dsr(2))
    (run / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/step_000100"}))
    (run / "last.json").write_text(json.dumps({"checkpoint": "checkpoints/step_000200"}))
    return run


def test_source__run_folder_gives_the_best_else_the_last(tmp_path):
    run = run_folder(tmp_path)
    assert load_dsr(run).path.parent.name == "step_000100"
    assert load_dsr(run / "checkpoints" / "step_000200").path.parent.name == "step_000200"
    assert load_dsr(run / "last.json").path.parent.name == "step_000200"
    (run / "best.json").unlink()
    assert load_dsr(run).path.parent.name == "step_000200"


def test_source__pointer_to_nothing_damaged_pointer_empty_folder_no_file(tmp_path):
    run = run_folder(tmp_path)
    (run / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/step_000900"}))
    assert refused(resolve_source, run).id == "weights-missing"
    (run / "best.json").write_text("{")
    assert refused(resolve_source, run).id == "weights-damaged"
    (tmp_path / "empty").mkdir()
    assert refused(resolve_source, tmp_path / "empty").id == "weights-missing"
    assert refused(resolve_source, tmp_path / "nowhere").id == "weights-missing"


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run > pwned",)


@pytest.mark.parametrize("kind", ["zip", "old", "bare", "module"])
def test_unsafe_pickle__is_refused_and_not_run(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    if kind == "bare":
        path.write_bytes(pickle.dumps(Evil()))
    elif kind == "module":
        torch.save(nn.Linear(2, 2), path)
    else:
        torch.save({"state_dict": Evil()}, path, _use_new_zipfile_serialization=kind == "zip")
    error = refused(load_recogniser, path)
    assert error.id == "unsafe-pickle"
    assert "torch.save(" in error.hint
    assert not (tmp_path / "pwned").exists()


def test_torchscript__is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
        archive.writestr("program/code/__torch__.py", b"")
    assert refused(load_recogniser, tmp_path / "program.pt").id == "torchscript"


def test_damaged_files__are_named(tmp_path, edgeface):
    torch.save(edgeface.state_dict(), tmp_path / "whole.pt")
    save_dsr(tmp_path / "whole.safetensors")
    whole = {name: (tmp_path / name).read_bytes() for name in ("whole.pt", "whole.safetensors")}
    damaged = {
        "cut.pt": whole["whole.pt"][: len(whole["whole.pt"]) // 2],
        "cut.safetensors": whole["whole.safetensors"][:-100],
        "header.safetensors": whole["whole.safetensors"][:40],
        "empty.pt": b"",
        "page.pt": b"<!DOCTYPE html><html>404</html>",
        "lfs.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "text.safetensors": b"not weights at all",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        assert refused(read_tensors, tmp_path / name).id == "weights-damaged", name
    assert "web page" in refused(read_tensors, tmp_path / "page.pt").message
    assert "git lfs pull" in refused(read_tensors, tmp_path / "lfs.pt").hint


def test_file_without_tensors(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "trainer.pt")
    error = refused(read_tensors, tmp_path / "trainer.pt")
    assert error.id == "weights-no-tensors"
    assert "'epoch'" in error.message


def test_format__is_told_by_content_not_by_name(tmp_path, edgeface):
    torch.save(edgeface.state_dict(), tmp_path / "a.safetensors")
    save_recogniser(tmp_path / "b.pt", edgeface)
    assert load_recogniser(tmp_path / "a.safetensors").metadata == {}
    assert load_recogniser(tmp_path / "b.pt").metadata["kind"] == "recogniser"


def test_wrong_kind_foreign_file_other_schema(tmp_path, edgeface, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)  # which might know the file
    recogniser = save_recogniser(tmp_path / "r.safetensors", edgeface)
    assert refused(load_dsr, recogniser).id == "weights-wrong-kind"
    assert refused(load_recogniser, save_dsr(tmp_path / "d.safetensors")).id == "weights-wrong-kind"
    torch.save(dsr().state_dict(), tmp_path / "plain.pt")
    assert refused(load_dsr, tmp_path / "plain.pt").id == "weights-no-metadata"
    data = (tmp_path / "d.safetensors").read_bytes().replace(b'"schema":"1"', b'"schema":"9"')
    (tmp_path / "new.safetensors").write_bytes(data)
    assert refused(load_dsr, tmp_path / "new.safetensors").id == "weights-schema"


def test_metadata_that_lies__is_refused(tmp_path):
    other = CONFIG.model_dump() | {"blocks": 3}
    error = refused(load_dsr, save_dsr(tmp_path / "m.safetensors", config=other))
    assert error.id == "weights-mismatch"
    assert "missing (" in error.message
    unknown = CONFIG.model_dump() | {"depth": 4}
    assert refused(load_dsr, save_dsr(tmp_path / "u.safetensors", config=unknown)).id == "weights-metadata"


def test_non_finite_network__is_refused_by_the_canary(tmp_path):
    model = dsr()
    nn.init.constant_(model.tail.bias, float("nan"))
    assert refused(load_dsr, save_dsr(tmp_path / "nan.safetensors", model)).id == "canary"


def test_normalise__mean_std_and_colour_order():
    image = torch.stack([torch.full((2, 2), value) for value in (0.0, 0.5, 1.0)])[None]
    rgb = normalise(image, RECOGNISER_INPUT)
    assert rgb[0, :, 0, 0].tolist() == [-1.0, 0.0, 1.0]
    bgr = normalise(image, Preprocess(112, (0.0, 0.0, 1.0), (1.0, 2.0, 1.0), "BGR"))
    assert bgr[0, :, 0, 0].tolist() == [1.0, 0.25, -1.0]
