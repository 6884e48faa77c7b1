import dataclasses
import json
import shlex
import sys

import numpy as np
import pytest
import torch
from torch import nn

from dsrface.commands import export
from dsrface.commands.export import ParityCheck
from dsrface.config.catalogue import RECOGNISER_INPUT
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.export import ExportConfig
from dsrface.errors import MachineError, RunError, UsageError
from dsrface.events import Note
from dsrface.metrics.bootstrap import Estimate
from dsrface.metrics.thresholds import StoredThresholds, Threshold
from dsrface.models import onnx_file
from dsrface.models.dsr import build_dsr
from dsrface.models.loaded import LoadedModel
from dsrface.models.preprocess import normalise
from dsrface.models.recognisers import build_recogniser
from dsrface.models.weights import load_dsr, load_recogniser, save_model
from dsrface.types import Preprocess


def silent(event):
    del event


def dsr_run(tmp_path, arch="residual", size=16):
    torch.manual_seed(0)
    options = {"residual": {"mixer_rank": 4}, "hybrid": {"gate_hidden": 8, "tail_channels": 4}}[arch]
    config = DsrConfig.model_validate({"arch": arch, "vlr_size": size, "channels": 8, "blocks": 2, **options})
    model = build_dsr(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)  # the zero-initialised tail would make every graph equal bicubic
    run = tmp_path / "run"
    path = run / "checkpoints" / "step_000001" / "model.safetensors"
    save_model(path, model, kind="dsr", config=config.model_dump(), preprocess=Preprocess(size))
    (run / "best.json").write_text(json.dumps({"checkpoint": "checkpoints/step_000001"}))
    return run


def test_safetensors__is_the_same_network_in_one_file(tmp_path):
    run = dsr_run(tmp_path)
    result = export.run(ExportConfig(source=run), emit=silent)
    assert result.exit_code == 0
    assert result.path == run / "export" / "dsr.safetensors"
    assert result.max_abs_diff == 0.0
    original, copy = load_dsr(run), load_dsr(result.path)
    assert copy.config == original.config
    assert copy.metadata["source_sha256"] == original.sha256
    assert result.sha256 == copy.sha256
    document = json.loads(json.dumps(result.to_dict()))
    assert document["parity"] is True
    assert all(document[key] for key in ("summary", "location", "next_command"))


def test_safetensors__turns_an_official_pt_file_into_a_safe_one(tmp_path):
    torch.manual_seed(0)
    torch.save(build_recogniser("edgeface_xxs").state_dict(), tmp_path / "official.pt")
    result = export.run(
        ExportConfig(source=tmp_path / "official.pt", out=tmp_path / "x.safetensors"), emit=silent
    )
    assert load_recogniser(result.path).config == {"variant": "edgeface_xxs"}


def test_existing_file__needs_force(tmp_path):
    run = dsr_run(tmp_path)
    config = ExportConfig(source=run, out=tmp_path / "m.safetensors")
    export.run(config, emit=silent)
    with pytest.raises(RunError) as caught:
        export.run(config, emit=silent)
    assert caught.value.id == "exists"
    export.run(config.model_copy(update={"force": True}), emit=silent)
    source = run / "checkpoints" / "step_000001" / "model.safetensors"
    with pytest.raises(RunError, match="source itself"):
        export.run(ExportConfig(source=source, out=source, force=True), emit=silent)


def test_missing_extra__names_the_pip_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError) as caught:
        export.run(ExportConfig(source=dsr_run(tmp_path), format="onnx"), emit=silent)
    assert caught.value.id == "missing-extra"
    assert caught.value.exit_code == 5
    assert 'pip install ".[onnx]"' in caught.value.hint
    assert "onnxruntime" in caught.value.message


def test_missed_parity__exits_1_and_the_file_does_not_get_its_name(tmp_path, monkeypatch):
    wrong = lambda model: lambda batch: model(batch).detach() + 0.01  # noqa: E731
    real = export._torch_predictor
    calls = []

    def predictor(model):
        calls.append(model)
        return wrong(model) if len(calls) == 1 else real(model)

    monkeypatch.setattr(export, "_torch_predictor", predictor)
    events = []
    result = export.run(
        ExportConfig(source=dsr_run(tmp_path), out=tmp_path / "m.safetensors"), emit=events.append
    )
    assert result.exit_code == 1
    assert result.max_abs_diff == pytest.approx(0.01, rel=1e-3)
    assert "MISSED" in result.summary
    assert not (tmp_path / "m.safetensors").exists()
    assert result.path == tmp_path / "m.safetensors.unproven"
    assert any(isinstance(event, Note) and event.is_warning for event in events)


def test_the_difference_that_is_shown_is_the_one_that_the_tolerance_is_for(tmp_path):
    check = ParityCheck("val faces", 5, 2.76e-2, 1.5e-3)
    result = export.ExportResult(
        path=tmp_path / "m.onnx",
        kind="recogniser",
        format="onnx",
        sha256="",
        num_bytes=1,
        source=tmp_path / "run",
        source_sha256="",
        opset=18,
        tolerance=1e-2,
        checks=[check],
        max_abs_diff=2.76e-2,
        parity=True,
        input="",
        precision="int8",
    )
    assert "1.50e-03 of the largest value (val faces, batch 5), tolerance 1e-02" in result.summary
    assert "onnxruntime" in result.next_command
    failed = dataclasses.replace(result, parity=False)
    assert failed.next_command.endswith("--format onnx --precision fp16 --data DATA")
    image = dataclasses.replace(result, kind="dsr")
    assert "2.76e-02 (val faces" in image.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "size"), [("residual", 16), ("residual", 24), ("residual", 32), ("hybrid", 32)]
)
def test_onnx__dsr_in_a_real_onnxruntime(arch, size, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run = dsr_run(tmp_path, arch, size)
    result = export.run(ExportConfig(source=run, format="onnx"), emit=silent)
    assert result.exit_code == 0
    assert {check.batch_size for check in result.checks} == {1, 2, 5}
    assert 0 < result.max_abs_diff < 1e-4
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert Preprocess.from_json(metadata["preprocess"]) == Preprocess(size)
    assert metadata["kind"] == "dsr"
    low = torch.rand(7, 3, size, size)  # a batch size that the gate did not try
    with torch.inference_mode():
        wanted = load_dsr(run).model(low).numpy()
    found = session.run(["high"], {"low": low.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert wanted.min() < 0 or wanted.max() > 1  # no clamp crept in


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["edgeface_xxs", "edgeface_xs_gamma_06"])
def test_onnx__recogniser_in_a_real_onnxruntime(variant, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = build_recogniser(variant).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    result = export.run(
        ExportConfig(source=tmp_path / "w.pt", format="onnx", out=tmp_path / "r.onnx"), emit=silent
    )
    assert result.exit_code == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "r.onnx"), providers=["CPUExecutionProvider"])
    preprocess = Preprocess.from_json(session.get_modelmeta().custom_metadata_map["preprocess"])
    assert preprocess == RECOGNISER_INPUT
    faces = normalise(torch.rand(3, 3, 112, 112), preprocess)
    with torch.inference_mode():
        wanted = network(faces).numpy()
    found = session.run(["embedding"], {"image": faces.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def small_recogniser(path, preprocess=RECOGNISER_INPUT):
    """Return a recogniser of a few layers, which exports in no time."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 8, stride=8), nn.ReLU(), nn.Conv2d(16, 16, 7), nn.Flatten(), nn.Linear(1024, 512)
    )
    return LoadedModel(network.eval(), "recogniser", {"variant": "small"}, preprocess, "0" * 64, path, {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["recogniser", "dsr"])
def test_onnx__rounded_networks_are_smaller_and_judged_on_val_faces(kind, tiny_data, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    source = dsr_run(tmp_path)
    loaded = load_dsr(source) if kind == "dsr" else small_recogniser(source)
    monkeypatch.setattr(export, "load_any", lambda source: loaded)
    graph = onnx_file.onnx_graph(loaded, opset=18)  # once, as it takes long
    monkeypatch.setattr(export, "onnx_graph", lambda loaded, opset: graph)
    for precision in ("fp16", "int8"):
        limits = {"max_eer_loss": 1.0, "max_psnr_loss_db": 3.0, "tolerance": 0.5}
        shared = {"source": source, "format": "onnx", "data": tiny_data, **limits}
        config = ExportConfig(**shared, precision=precision, out=tmp_path / f"{precision}.onnx")
        result = export.run(config, emit=silent)
        assert result.exit_code == 0, result.summary
        assert result.accuracy.metric == {"recogniser": "eer", "dsr": "psnr_db"}[kind]
        assert result.accuracy.num_images == 12
        assert result.max_abs_diff > 0
        assert result.num_bytes < len(graph)
        assert result.accuracy.text in result.summary
        session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].type == "tensor(float)"


def test_onnx__lost_accuracy_exits_1_and_the_file_does_not_get_its_name(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "require_onnx", lambda: None)
    monkeypatch.setattr(export, "onnx_graph", lambda loaded, opset: b"graph")
    monkeypatch.setattr(export, "in_fp16", lambda graph: graph)
    run = dsr_run(tmp_path)
    model = load_dsr(run).model

    def predictor(path, kind):
        return lambda batch: model(batch).detach() * 0.99

    monkeypatch.setattr(export, "onnx_predictor", predictor)
    config = ExportConfig(
        source=run, format="onnx", precision="fp16", data=tiny_data, tolerance=1.0, max_psnr_loss_db=0.0
    )
    events = []
    result = export.run(config, emit=events.append)
    accuracy = result.accuracy
    assert result.parity
    assert accuracy.loss == pytest.approx(accuracy.fp32 - accuracy.rounded)
    assert result.is_good == (accuracy.rounded >= accuracy.fp32)
    forced = config.model_copy(update={"max_psnr_loss_db": abs(accuracy.loss) + 1, "force": True})
    assert export.run(forced, emit=silent).exit_code == 0


@pytest.mark.slow
def test_onnx__pixels_are_normalised_inside(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    bgr = Preprocess(112, (0.5,) * 3, (0.25,) * 3, "BGR")
    small = small_recogniser(tmp_path, bgr)
    monkeypatch.setattr(export, "load_any", lambda source: small)
    config = ExportConfig(source=tmp_path, format="onnx", pixels=True, out=tmp_path / "p.onnx")
    result = export.run(config, emit=silent)
    assert result.exit_code == 0
    assert "RGB [B, 3, 112, 112], pixels in [0, 255]" in result.summary
    pixels = torch.randint(0, 256, (2, 3, 112, 112)).float()
    with torch.inference_mode():
        wanted = small.model(normalise(pixels / 255, bgr)).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "p.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": pixels.numpy()})[0], wanted, atol=1e-4)
    loaded = load_recogniser(tmp_path / "p.onnx")  # and dsrface itself knows how the file wants its images
    found = loaded.model(normalise(pixels / 255, loaded.preprocess)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_options_that_do_not_go_together(tmp_path, tiny_data):
    for options in ({"precision": "int8"}, {"format": "onnx", "precision": "fp16"}, {"pixels": True}):
        with pytest.raises(ValueError, match="go with"):
            ExportConfig(source=tmp_path, **options)
    pytest.importorskip("onnxruntime")
    with pytest.raises(UsageError, match="nothing that the file could normalise"):
        export.run(ExportConfig(source=dsr_run(tmp_path), format="onnx", pixels=True), emit=silent)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_a_program_of_others_is_refused_as_a_mistake(format, tmp_path):
    pytest.importorskip("onnxruntime")
    network = nn.Sequential(nn.Conv2d(3, 8, 9, 16), nn.Flatten())
    program = torch.jit.trace(network, torch.zeros(1, 3, 112, 112))
    program.save(str(tmp_path / "net.pt"))
    source = f"torchscript:{tmp_path / 'net.pt'}"
    with pytest.raises(UsageError, match=r"net\.pt") as caught:
        export.run(ExportConfig(source=source, format=format, out=tmp_path / f"out.{format}"), emit=silent)
    assert caught.value.id == "not-exportable"
    assert not list(tmp_path.glob("out*"))


def test_the_next_command_takes_any_path(tmp_path):
    for kind, format in (("dsr", "onnx"), ("dsr", "safetensors"), ("recogniser", "safetensors")):
        path = tmp_path / "Ann's runs" / f"{kind}.{format}"
        result = export.ExportResult(
            path,
            kind,
            format,
            "",
            0,
            path,
            "",
            None,
            1e-4,
            checks=[],
            max_abs_diff=0.0,
            parity=True,
            input="",
        )
        assert str(path) in shlex.split(result.next_command)


def test_card__says_what_the_run_knows(tmp_path):
    run = dsr_run(tmp_path)
    (run / "run.json").write_text(json.dumps({"seed": 7, "config": {"data": "somewhere/faces"}}))
    manifest = run / "checkpoints" / "step_000001" / "checkpoint.json"
    manifest.write_text(json.dumps({"metrics": {"psnr_db": 23.7255, "psnr_gain_db": 1.2791}}))
    result = export.run(ExportConfig(source=run), emit=silent)
    card = (run / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert load_dsr(run).sha256 in card
    for text in ("data set: faces", "seed: 7", "| psnr_db | 23.73 |", "A reconstruction is not evidence"):
        assert text in card
    assert "somewhere" not in card
    assert "RGB [B, 3, 16, 16] in [0, 1]" in card
    assert "RGB [B, 3, 16, 16] in [0, 1]" in result.summary


@pytest.mark.parametrize("metrics", [{"psnr_db": "", "ssim": None, "gain": 0.5}, None, [1]])
def test_card__says_what_it_can_of_a_record_that_was_changed(tmp_path, metrics):
    run = dsr_run(tmp_path)
    (run / "run.json").write_text(json.dumps({"seed": 7, "config": None}))
    (run / "checkpoints" / "step_000001" / "checkpoint.json").write_text(json.dumps({"metrics": metrics}))
    export.run(ExportConfig(source=run), emit=silent)
    card = (run / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert ("| gain | 0.5 |" in card) == isinstance(metrics, dict)


def test_card__of_a_recogniser_has_its_thresholds(tmp_path):
    chosen = (Threshold(0.01, Estimate(0.4, 0.3, 0.5), 0.9, 1000, 12),)
    stored = StoredThresholds({"vlr_size": 16, "images": "DSR"}, chosen)
    torch.manual_seed(0)
    save_model(
        tmp_path / "r.safetensors",
        build_recogniser("edgeface_xxs"),
        kind="recogniser",
        config={"variant": "edgeface_xxs"},
        preprocess=Preprocess(112, (0.5,) * 3, (0.5,) * 3, "BGR"),
        extra={"thresholds": stored.to_json(), "mode": "live"},
    )
    result = export.run(
        ExportConfig(source=tmp_path / "r.safetensors", out=tmp_path / "out" / "x.safetensors"), emit=silent
    )
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| 0.01 | 0.400 | 0.300 to 0.500 | 0.900 |" in card
    assert "float BGR [B, 3, 112, 112]" in result.summary
    assert "the file does not normalise" in card


def test_card__of_another_file_in_the_folder_stays(tmp_path):
    run = dsr_run(tmp_path)
    for name in ("one.safetensors", "two.safetensors", "one.safetensors"):
        out = tmp_path / "out" / name
        export.run(ExportConfig(source=run, out=out, force=True), emit=silent)
    cards = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("*.md")}
    assert sorted(cards) == ["MODEL_CARD.md", "two.safetensors.MODEL_CARD.md"]
    assert "# one.safetensors" in cards["MODEL_CARD.md"]
    assert "# two.safetensors" in cards["two.safetensors.MODEL_CARD.md"]


def test_card__of_somebody_else_stays(tmp_path):
    run = dsr_run(tmp_path)
    (run / "export").mkdir()
    (run / "export" / "MODEL_CARD.md").write_text("# Mine")
    events = []
    export.run(ExportConfig(source=run), emit=events.append)
    assert (run / "export" / "MODEL_CARD.md").read_text() == "# Mine"
    assert any("stays as it is" in getattr(event, "message", "") for event in events)
