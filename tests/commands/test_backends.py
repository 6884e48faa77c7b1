"""Ways to run a DSR: what each gives, which one auto takes, and that stored outputs keep theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dsrface.commands import precompute
from dsrface.commands.shared.outputs import backends
from dsrface.config.catalogue import BACKENDS
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.augment import to_image01
from dsrface.data.decode import write_png
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.synthetic.drawing import draw_face
from dsrface.engine.backends import MirrorEnsemble
from dsrface.errors import DsrfaceError, MachineError, UsageError
from dsrface.models.weights import load_dsr
from dsrface.runtime.devices import choose_device
from tests.commands.networks import write_dsr

CPU = choose_device("cpu")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_dsr(write_dsr(tmp_path_factory.mktemp("dsr") / "dsr.safetensors", tail=0.05))


@pytest.fixture(scope="module")
def low():
    import numpy as np

    kind = Degradation(kind="classic", size_px=16)
    faces = [degrade(draw_face(n, 0), kind, rng=np.random.default_rng(n)) for n in range(8)]
    return torch.from_numpy(np.stack(faces))


def names(*chosen: str) -> dict:
    return {name: replace(BACKENDS[name], min_images=0) for name in chosen}


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in ("fp32", "compile")])
def test_every_backend_gives_the_networks_pixels(loaded, low, name):
    pytest.importorskip("onnxscript")
    plain = backends.build("fp32", loaded, CPU, lambda: low)
    other = backends.build(name, loaded, CPU, lambda: low)
    share = backends.share_within_a_level(plain, other, low)
    assert share >= (backends.NEAR_SHARE if BACKENDS[name].is_near else 0.5)


def test_auto_takes_the_fastest_and_says_so(loaded, low, monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", names("fp32", "bf16"))
    monkeypatch.setattr(backends, "_seconds", lambda *_: {"fp32": 2.0, "bf16": 1.0})
    running, reason = backends.fastest(loaded, CPU, lambda: low, num_images=10)
    assert (running.name, running.device.amp) == ("bf16", "bf16")
    assert "bf16: 2.00x" in reason
    monkeypatch.setattr(backends, "share_within_a_level", lambda *_: 0.99)
    running, reason = backends.fastest(loaded, CPU, lambda: low, num_images=10)
    assert running.name == "fp32"
    assert "only 99.00% within a level" in reason


def test_auto_leaves_out_what_is_not_installed_and_measures_nothing_for_few_images(loaded, low, monkeypatch):
    assert backends.fastest(loaded, CPU, lambda: low, num_images=10)[0].name == "fp32"

    def missing(*_):
        raise MachineError("not here", id="missing-extra")

    monkeypatch.setattr(backends, "BACKENDS", names("fp32", "onnx"))
    monkeypatch.setattr(backends, "load", lambda _: missing)
    running, reason = backends.fastest(loaded, CPU, lambda: low, num_images=10)
    assert running.name == "fp32"
    assert "onnx: missing-extra" in reason


def test_a_network_of_others_runs_as_it_is(loaded, low):
    other = replace(loaded, config={"arch": "upscaler.pt"})
    assert backends.fastest(other, CPU, lambda: low, num_images=10**6)[0].name == "fp32"
    with pytest.raises(UsageError) as caught:
        backends.build("bf16", other, CPU, lambda: low)
    assert caught.value.id == "backend-unavailable"


def test_the_mirror_ensemble_gives_mirrored_faces_mirrored_outputs(loaded, low):
    network, images = MirrorEnsemble(loaded.model), to_image01(low)
    with torch.inference_mode():
        torch.testing.assert_close(network(images.flip(-1)), network(images).flip(-1))
        wanted = (loaded.model(images) + loaded.model(images.flip(-1)).flip(-1)) / 2
        torch.testing.assert_close(network(images), wanted)


def run(tmp_path: Path, weights: Path, **changes):
    config = {"input": tmp_path / "faces", "output": tmp_path / "out", "weights": weights, "batch_size": 4}
    events = []
    return precompute.run(PrecomputeConfig(**config | changes, device="cpu"), emit=events.append), events


def test_outputs_keep_the_backend_they_were_begun_with(loaded, low, tmp_path, monkeypatch):
    for number, image in enumerate(low.numpy()):
        write_png(tmp_path / "faces" / f"{number}.png", image)
    run(tmp_path, loaded.path, backend="bf16")
    key = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["key"]
    assert key["amp"] == "bf16"
    again, _ = run(tmp_path, loaded.path)
    assert again.folders[0].action == "none"
    with pytest.raises(DsrfaceError) as caught:
        run(tmp_path, loaded.path, backend="fp32")
    assert caught.value.id == "stale"
    assert "amp" in caught.value.message
    with pytest.raises(DsrfaceError) as caught:
        run(tmp_path, loaded.path, self_ensemble=True)
    assert "self_ensemble" in caught.value.message


def test_amp_and_backend_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="amp and backend"):
        PrecomputeConfig(
            input=tmp_path / "a", output=tmp_path / "b", weights=tmp_path, amp="bf16", backend="bf16"
        )
