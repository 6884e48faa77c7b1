"""Super-resolution checkpoints of others, with spandrel."""

from __future__ import annotations

import pytest
import torch

from dsrface.errors import WeightsError
from dsrface.models.weights import load_dsr


@pytest.fixture(autouse=True)
def spandrel():
    """The extra; imported by the tests, not while they are collected, because it takes seconds."""
    return pytest.importorskip("spandrel")


def compact(scale):
    """Return a small Real-ESRGAN network of spandrel's own making."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=scale).eval()


@pytest.mark.parametrize("wrap", ["plain", "params_ema", "state_dict.module"])
def test_checkpoint__is_told_by_its_tensors_and_made_112(wrap, tmp_path):
    network = compact(4)
    state = network.state_dict()
    wrapped = {
        "plain": state,
        "params_ema": {"params_ema": state, "params": {key: value + 1 for key, value in state.items()}},
        "state_dict.module": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    }
    torch.save(wrapped[wrap], tmp_path / "x4.pth")
    loaded = load_dsr(tmp_path / "x4.pth", vlr_size=16)
    assert loaded.vlr_size is None
    assert loaded.name.endswith("x4")
    low = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        wanted = torch.nn.functional.interpolate(
            network(low).clamp(0, 1), size=(112, 112), mode="bicubic", antialias=True, align_corners=False
        )
    torch.testing.assert_close(loaded.model(low), wanted, rtol=1e-4, atol=1e-5)


def test_checkpoint__of_a_network_that_keeps_the_size_gets_112(tmp_path):
    torch.save(compact(1).state_dict(), tmp_path / "x1.pth")
    loaded = load_dsr(tmp_path / "x1.pth")
    seen = []
    loaded.model.network.register_forward_hook(lambda module, given, output: seen.append(given[0].shape[-1]))
    assert loaded.model(torch.rand(1, 3, 24, 24)).shape == (1, 3, 112, 112)
    assert seen == [112]


def test_checkpoint__that_nobody_knows(tmp_path):
    torch.save({"a.weight": torch.ones(3), "b": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        load_dsr(tmp_path / "x.pth")
    assert caught.value.id == "weights-mismatch"
    assert "neither dsrface nor spandrel" in caught.value.message


def test_checkpoint__of_a_known_network_whose_tensors_do_not_fit(tmp_path):
    state = compact(4).state_dict()
    state["body.1.weight"] = torch.ones(5)
    torch.save({"params": state}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"SRVGGNetCompact: size mismatch for body\.1\.weight") as caught:
        load_dsr(tmp_path / "x.pth")
    assert caught.value.id == "weights-mismatch"


def test_checkpoint__of_a_face_restorer_is_given_512_and_reduced(tmp_path, monkeypatch):
    """As GFPGAN has it: faces of 512 px in and out."""
    import spandrel

    from dsrface.models import upscaler

    network = torch.nn.Conv2d(3, 3, 1)
    made_up = spandrel.ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=spandrel.MAIN_REGISTRY.get("Compact").architecture,
        purpose="FaceSR",
        tags=[],
        supports_half=False,
        supports_bfloat16=False,
        scale=1,
        input_channels=3,
        output_channels=3,
        size_requirements=spandrel.SizeRequirements(minimum=512),
    )
    monkeypatch.setattr(upscaler, "_recognised", lambda *_: made_up)
    torch.save({"w": torch.ones(1)}, tmp_path / "restorer.pth")
    loaded = load_dsr(tmp_path / "restorer.pth", vlr_size=16)
    seen = []
    made_up.model.register_forward_hook(lambda module, given, output: seen.append(tuple(output.shape)))
    low = torch.rand(7, 3, 16, 16)
    found = loaded.model(low)
    assert seen == [(3, 3, 512, 512), (3, 3, 512, 512), (1, 3, 512, 512)]  # few at once: memory
    torch.testing.assert_close(found, torch.cat([loaded.model(image[None]) for image in low]))
