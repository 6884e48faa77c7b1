import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.dsr_networks import AnySizeTable
from dsrface.config.sources import list_presets, load_preset
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.models.dsr import build_dsr, count_parameters
from dsrface.models.resize import resize_bicubic

SIZES = (16, 24, 32)
# Millions of parameters and GMAC at 16, 24 and 32 px.
BUDGET_PARAMETERS = 5.5
BUDGET_GMACS = {16: 1.48, 24: 2.80, 32: 4.93}
USERS_HYBRID = {16: (5.18, 1.48), 24: (5.31, 2.80), 32: (5.62, 4.93)}


def preset(name, size):
    return DsrConfig(vlr_size=size, **load_preset(TrainDsrConfig, name)["model"])


def small(arch, size=16):
    fields = DSR_NETWORKS[arch].table.model_fields
    sizes = {"channels": 8, "blocks": 2, "mixer_rank": 4, "gate_hidden": 8, "tail_channels": 4}
    return DsrConfig(arch=arch, vlr_size=size, **{key: sizes[key] for key in sizes.keys() & fields})


def count_macs(model, *, input_size):
    """Multiply-accumulates of one image; the counter counts two operations for each."""
    # the fused attention kernels of the CPU are unknown to the counter, the plain one is two matrix products
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_size))
    return counter.get_total_flops() // 2


def cost(config):
    model = build_dsr(config)
    size = config.vlr_size
    return count_parameters(model) / 1e6, count_macs(model, input_size=(3, size, size)) / 1e9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list_presets("train-dsr"))
def test_preset__is_within_the_budget(name, size):
    parameters, gmacs = cost(preset(name, size))
    assert parameters < BUDGET_PARAMETERS
    assert round(gmacs, 2) <= BUDGET_GMACS[size]


def test_presets__grow_from_tiny_to_base():
    assert set(list_presets("train-dsr")) >= {"tiny", "small", "base", "hybrid"}
    sizes = [cost(preset(name, 16)) for name in ("tiny", "small", "base")]
    assert sizes == sorted(sizes)
    assert sizes[0][0] < 0.2


@pytest.mark.parametrize("size", SIZES)
def test_hybrid__has_the_size_of_the_users_network(size):
    parameters, gmacs = cost(preset("hybrid", size))
    assert parameters == pytest.approx(USERS_HYBRID[size][0], rel=0.04)
    assert gmacs == pytest.approx(USERS_HYBRID[size][1], rel=0.03)


def test_count_macs__of_a_known_convolution():
    assert count_macs(nn.Conv2d(3, 8, 3, padding=1), input_size=(3, 16, 16)) == 3 * 8 * 9 * 16 * 16


@pytest.mark.parametrize(("size", "high"), [*((size, 112) for size in SIZES), (16, 128)])
@pytest.mark.parametrize("arch", DSR_NETWORKS)
def test_untrained_network__is_bicubic_and_learns_at_once(arch, size, high):
    torch.manual_seed(0)
    model = build_dsr(small(arch, size).model_copy(update={"high_size": high}))
    low = torch.rand(2, 3, size, size)
    output = model(low)
    assert output.shape == (2, 3, high, high)
    assert torch.equal(output, resize_bicubic(low, size_px=high))
    (output - torch.rand_like(output)).abs().mean().backward()
    assert model.tail.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("arch", DSR_NETWORKS)
def test_every_parameter_gets_a_gradient(arch):
    torch.manual_seed(0)
    model = build_dsr(small(arch))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    without = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("arch", DSR_NETWORKS)
def test_no_batch_norm_and_no_clamp(arch):
    # mistake 7: a clamp in forward leaves a third of the outputs at exactly 0, without a gradient
    torch.manual_seed(0)
    model = build_dsr(small(arch))
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        model.tail.bias.copy_(torch.linspace(-3, 3, len(model.tail.bias)))
    output = model(torch.rand(1, 3, 16, 16))
    assert output.min() < 0
    assert output.max() > 1
    output.retain_grad()
    output.sum().backward()
    assert (output.grad != 0).all()


@pytest.mark.parametrize("arch", DSR_NETWORKS)
def test_images_do_not_influence_each_other(arch):
    torch.manual_seed(0)
    model = build_dsr(small(arch)).eval()
    nn.init.normal_(model.tail.weight, std=0.05)
    low = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        together = model(low)
        alone = torch.cat([model(image[None]) for image in low])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_hybrid__attention_reaches_every_pixel():
    torch.manual_seed(0)
    model = build_dsr(small("hybrid")).eval()
    nn.init.normal_(model.tail.weight, std=0.5)
    low = torch.rand(1, 3, 16, 16, requires_grad=True)
    model(low)[0, :, 0, 0].sum().backward()
    assert low.grad[0, :, 15, 15].abs().sum() > 0


@pytest.mark.slow
def test_tiny__overfits_eight_real_faces(faces_dir):
    import numpy as np
    from PIL import Image

    photos = [Image.open(p).convert("RGB") for p in sorted((faces_dir / "london").glob("*/*.jpg"))[:8]]
    high = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in photos]).float() / 255
    small_photos = [p.resize((16, 16), Image.Resampling.BICUBIC) for p in photos]
    low = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in small_photos]).float() / 255
    torch.manual_seed(0)
    model = build_dsr(preset("tiny", 16))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        (model(low) - high).abs().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    def psnr(output):
        return float(-10 * torch.log10((output.clamp(0, 1) - high).square().mean((1, 2, 3))).mean())

    with torch.no_grad():
        assert psnr(model(low)) > psnr(resize_bicubic(low)) + 2.0


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"vlr_size": 17}, "vlr_size"),
        ({"channels": 0}, "channels"),
        ({"arch": "hybrid", "channels": 10, "attention_heads": 4}, "does not divide"),
        ({"depth": 3}, "depth"),
    ],
)
def test_config__refuses(values, problem):
    with pytest.raises(ValidationError, match=problem):
        DsrConfig(**values)


@pytest.mark.parametrize("size_px", [16, 28])
def test_any_size__a_face_moved_by_a_vlr_pixel_gets_its_detail_moved(size_px: int) -> None:
    """On a grid that is not the face's own, each place between two pixels would have to be learned."""
    torch.manual_seed(0)
    table = AnySizeTable(channels=8, blocks=1, mixer_rank=0)
    model = build_dsr(DsrConfig(network=table, vlr_size=16, high_size=112))
    torch.nn.init.normal_(model.tail.weight)
    low, step = torch.rand(1, 3, size_px, size_px), 112 // size_px
    with torch.no_grad():
        moved = model(low.roll((1, 1), (2, 3)))
        wanted = model(low).roll((step, step), (2, 3))
    inside = slice(6 * step, 112 - 6 * step)  # away from the border, whose padding does not move
    torch.testing.assert_close(moved[..., inside, inside], wanted[..., inside, inside], atol=1e-4, rtol=1e-4)
