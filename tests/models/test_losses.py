import numpy as np
import pytest
import torch
from torch import nn

from dsrface.config.catalogue import RECOGNISER_INPUT
from dsrface.config.dsr_model import DsrConfig
from dsrface.errors import WeightsError
from dsrface.models.dsr import build_dsr
from dsrface.models.losses import IdentityLoss, VggLoss, charbonnier, l1
from dsrface.models.recognisers import build_recogniser
from dsrface.types import Preprocess


@pytest.fixture(scope="module")
def recogniser():
    torch.manual_seed(0)
    return build_recogniser("edgeface_xxs")


def test_pixel_losses__equal_their_formulas():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 8, 8)), rng.random((2, 3, 8, 8))
    left, right = torch.from_numpy(a).float(), torch.from_numpy(b).float()
    assert float(l1(left, right)) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    assert float(charbonnier(left, right)) == pytest.approx(np.sqrt((a - b) ** 2 + 1e-6).mean(), rel=1e-5)


def test_charbonnier__has_a_finite_gradient_where_output_equals_target():
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    charbonnier(image, image.detach().clone()).backward()
    assert torch.isfinite(image.grad).all()


def test_pixel_losses__are_fp32_for_half_inputs():
    image = torch.rand(1, 3, 4, 4).bfloat16()
    assert l1(image, image).dtype == torch.float32
    assert charbonnier(image, image).dtype == torch.float32


def test_pixel_losses__feel_values_outside_the_range():
    # mistake 7, on the loss's side
    output = torch.full((1, 3, 4, 4), 1.5, requires_grad=True)
    charbonnier(output, torch.ones(1, 3, 4, 4)).backward()
    assert (output.grad > 0).all()


def test_identity_loss__gradient_flows_to_the_image_and_one_step_raises_the_cosine(recogniser):
    # mistake 1: the identity loss ran under no_grad and never moved a weight
    torch.manual_seed(1)
    loss = IdentityLoss(recogniser, RECOGNISER_INPUT)
    target = torch.rand(2, 3, 112, 112)
    output = (target + 0.3 * torch.randn_like(target)).requires_grad_()
    before = loss.cosine(output, target)
    loss(output, target).backward()
    assert output.grad.abs().amax((1, 2, 3)).min() > 0
    step = 0.02 * output.grad / output.grad.abs().amax((1, 2, 3), keepdim=True)
    with torch.no_grad():
        after = loss.cosine(output - step, target)
    assert (after > before.detach()).all()


def test_identity_loss__moves_a_dsrs_weights(recogniser):
    torch.manual_seed(0)
    dsr = build_dsr(DsrConfig(channels=8, blocks=1))
    loss = IdentityLoss(recogniser, RECOGNISER_INPUT)
    low, high = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 112, 112)
    optimiser = torch.optim.SGD(dsr.parameters(), lr=1.0)
    first = loss(dsr(low), high)
    first.backward()
    assert dsr.tail.weight.grad.abs().max() > 0
    scale = 1e-3 / dsr.tail.weight.grad.abs().max()
    optimiser.param_groups[0]["lr"] = float(scale)
    optimiser.step()
    with torch.no_grad():
        assert loss(dsr(low), high) < first


def test_identity_loss__is_zero_for_the_same_face_and_leaves_the_recogniser_alone(recogniser):
    loss = IdentityLoss(recogniser, RECOGNISER_INPUT).train()
    assert not recogniser.training
    face = torch.rand(2, 3, 112, 112, requires_grad=True)
    value = loss(face, face.detach())
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-5)
    assert all(not p.requires_grad and p.grad is None for p in recogniser.parameters())


def test_identity_loss__normalises_as_the_recogniser_wants():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    seen = IdentityLoss(Mean(), Preprocess(112, (0.5, 0.0, 0.0), (0.5, 1.0, 2.0)))
    image = torch.tensor([1.0, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    target = torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    a, b = np.array([1.0, 0.4, 0.3]), np.array([0.0, 1.0, 0.0])
    assert float(seen(image, target)) == pytest.approx(1 - a @ b / np.linalg.norm(a), rel=1e-5)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    torch.manual_seed(0)
    import torchvision

    state = torchvision.models.vgg16(weights=None).features.half().state_dict()
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save({f"features.{name}": tensor for name, tensor in state.items()}, path)
    return path


def test_vgg_loss__gradient_and_zero(vgg_file):
    loss = VggLoss(vgg_file).train()
    assert not loss.features.training
    assert isinstance(list(loss.features)[-1], nn.Conv2d)
    assert len(list(loss.features)) == 29  # up to conv5_3, before its activation
    high = torch.rand(1, 3, 48, 48)
    output = torch.rand(1, 3, 48, 48, requires_grad=True)
    value = loss(output, high)
    value.backward()
    assert value > 0
    assert output.grad.abs().sum() > 0
    assert float(loss(high, high)) == 0.0


def test_vgg_loss__refuses_another_networks_file(tmp_path, vgg_file):
    torch.save({"features.0.weight": torch.zeros(1, 1, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError) as caught:
        VggLoss(tmp_path / "other.pth")
    assert caught.value.id == "not-a-vgg"
    state = torch.load(vgg_file, weights_only=True)
    state["features.0.weights"] = state.pop("features.0.weight")
    torch.save(state, tmp_path / "renamed.pth")
    with pytest.raises(WeightsError) as caught:
        VggLoss(tmp_path / "renamed.pth")
    assert caught.value.id == "weights-mismatch"
