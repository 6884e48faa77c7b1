"""EdgeFace against timm's own model, rebuilt here from its description alone."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dsrface.config.catalogue import RECOGNISER_INPUT, RECOGNISERS
from dsrface.errors import UsageError, WeightsError
from dsrface.models.canary import canary_images, canary_recogniser
from dsrface.models.checkpoints import find_network
from dsrface.models.preprocess import normalise
from dsrface.models.recognisers import build_recogniser, expected_layout, load_recogniser_state
from dsrface.models.weights import load_recogniser

MILLIONS = {
    "edgeface_xxs": 1.24,
    "edgeface_xs_gamma_06": 1.77,
    "edgeface_s_gamma_05": 3.65,
    "edgeface_base": 18.23,
}
# As in the official files.
NUM_TENSORS = {
    "edgeface_xxs": 160,
    "edgeface_xs_gamma_06": 257,
    "edgeface_s_gamma_05": 257,
    "edgeface_base": 214,
}
SMALLEST = "edgeface_xxs"


class OfficialLowRank(nn.Module):
    def __init__(self, linear, ratio):
        super().__init__()
        rank = max(2, int(min(linear.in_features, linear.out_features) * ratio))
        self.linear1 = nn.Linear(linear.in_features, rank, bias=False)
        self.linear2 = nn.Linear(rank, linear.out_features, bias=linear.bias is not None)

    def forward(self, x):
        return self.linear2(self.linear1(x))


class Official(nn.Module):
    """As the official file was made: timm's backbone under `model`, linears replaced by name."""

    def __init__(self, variant):
        import timm

        super().__init__()
        options = RECOGNISERS[variant].options
        self.model = timm.create_model(options["timm_name"])
        self.model.reset_classifier(512)
        if options["rank_ratio"] is not None:
            for name, module in list(self.model.named_modules()):
                if isinstance(module, nn.Linear):
                    parent, _, leaf = name.rpartition(".")
                    setattr(
                        self.model.get_submodule(parent), leaf, OfficialLowRank(module, options["rank_ratio"])
                    )

    def forward(self, x):
        return self.model(x)


def official(variant, seed=0):
    torch.manual_seed(seed)
    network = Official(variant).eval()
    for name, parameter in network.named_parameters():
        if "gamma" in name:  # 1e-6 would hide every residual branch from the comparison
            nn.init.uniform_(parameter, 0.1, 0.5)
    return network


@pytest.mark.parametrize("variant", MILLIONS)
def test_official_state_dict__loads_and_gives_timms_embedding(variant, tmp_path):
    network = official(variant)
    torch.save(network.state_dict(), tmp_path / "any_name_at_all.pt")
    found = load_recogniser(tmp_path / "any_name_at_all.pt")
    assert found.name == variant
    loaded = found.model
    assert not loaded.training
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded(faces), network(faces))


class Watch(TorchDispatchMode):
    """Notes where the results of all operations lie."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.devices |= {
            found.device.type for found in tree_leaves(result) if isinstance(found, torch.Tensor)
        }
        return result


def test_forward__makes_nothing_on_the_host():
    """timm's own position encoding begins there: a GPU would be waited for in every pass."""
    import timm

    with torch.device("meta"):
        network, images = build_recogniser(SMALLEST), torch.zeros(2, 3, 112, 112)
        timms = timm.create_model(RECOGNISERS[SMALLEST].options["timm_name"])
    with Watch() as ours:
        network(images)
    assert ours.devices == {"meta"}
    with Watch() as theirs:
        timms(images)
    assert theirs.devices == {"meta", "cpu"}  # else ours is not needed any more


def test_position_encoding__does_not_break_a_compiled_graph():
    found = torch._dynamo.explain(build_recogniser(SMALLEST).eval())(torch.zeros(1, 3, 64, 64))
    assert found.graph_break_count == 0


@pytest.mark.parametrize("variant", MILLIONS)
def test_size__is_the_official_one(variant):
    network = build_recogniser(variant)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(MILLIONS[variant], abs=0.005)
    assert len(network.state_dict()) == NUM_TENSORS[variant]
    assert not list(network.buffers())
    assert all(name.startswith("model.") for name in network.state_dict())


@pytest.mark.parametrize("variant", ["edgeface_xs_gamma_06", "edgeface_s_gamma_05"])
def test_embedding_layer__is_low_rank_too(variant):
    assert "model.head.fc.linear1.weight" in expected_layout(variant).shapes
    assert "model.head.fc.linear1.bias" not in expected_layout(variant).shapes


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {k.removeprefix("model."): v for k, v in s.items()},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}},
    ],
)
def test_wrappers__are_taken_off(wrap, tmp_path):
    state = official(SMALLEST).state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    loaded = load_recogniser(tmp_path / "w.pt").model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_renamed_key__is_refused_with_the_nearest_name(tmp_path):
    # mistake 10: strict=False loaded 0 of 160 tensors and said nothing
    state = official(SMALLEST).state_dict()
    state["model.stages.0.blocks.0.mlp.fc_1.weight"] = state.pop("model.stages.0.blocks.0.mlp.fc1.weight")
    torch.save(state, tmp_path / "renamed.pt")
    with pytest.raises(WeightsError) as caught:
        load_recogniser(tmp_path / "renamed.pt")
    assert caught.value.id == "weights-mismatch"
    assert caught.value.exit_code == 4
    assert str(tmp_path / "renamed.pt") in str(caught.value)
    assert "159 of 160" in caught.value.message
    assert "fc1.weight (the file has model.stages.0.blocks.0.mlp.fc_1.weight)" in caught.value.message


@pytest.mark.parametrize(
    "break_it",
    [
        lambda s: s.pop("model.head.fc.bias"),
        lambda s: s.update({"model.extra": torch.zeros(1)}),
        lambda s: s.update({"model.head.fc.weight": torch.zeros(256, 168)}),
    ],
)
def test_anything_but_all_tensors__is_refused(break_it):
    state = dict(official(SMALLEST).state_dict())
    break_it(state)
    with pytest.raises(WeightsError) as caught:
        load_recogniser_state(state)
    assert caught.value.id == "weights-mismatch"


def test_foreign_network__is_refused():
    with pytest.raises(WeightsError, match="0 of"):
        load_recogniser_state({"conv.weight": torch.zeros(3, 3), "bn.running_mean": torch.zeros(3)})


@pytest.mark.parametrize("variant", MILLIONS)
def test_variant__is_told_by_shapes(variant):
    # mistake 11: the architecture guessed from the file's name
    tensors = {
        name: torch.empty(shape, device="meta") for name, shape in expected_layout(variant).shapes.items()
    }
    assert find_network(tensors, {name: expected_layout(name) for name in MILLIONS}, where="")[0] == variant


def test_unknown_variant():
    with pytest.raises(UsageError) as caught:
        build_recogniser("edgeface_xxl")
    assert caught.value.id == "unknown-backbone"
    assert "edgeface_xxs" in caught.value.hint


def test_from_scratch__residual_branches_count():
    torch.manual_seed(0)
    network = build_recogniser(SMALLEST)
    gammas = [p for name, p in network.named_parameters() if "gamma" in name]
    assert all((p == 0.1).all() for p in gammas)
    assert (
        next(p for n, p in build_recogniser(SMALLEST, layer_scale=1e-6).named_parameters() if "gamma" in n)
        < 1e-5
    ).all()


@pytest.mark.parametrize("variant", ["edgeface_xxs", "edgeface_xs_gamma_06"])
def test_from_scratch__gradients_reach_every_parameter(variant):
    torch.manual_seed(0)
    network = build_recogniser(variant)
    network(torch.rand(2, 3, 64, 64) * 2 - 1).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_canary__passes_a_working_network_and_refuses_a_constant_one():
    network = official(SMALLEST)
    canary_recogniser(network, RECOGNISER_INPUT)
    with torch.no_grad():
        network.model.head.fc.weight.zero_()
        network.model.head.fc.bias.fill_(1.0)
    with pytest.raises(WeightsError, match="the same embedding") as caught:
        canary_recogniser(network, RECOGNISER_INPUT)
    assert caught.value.id == "canary"
    with torch.no_grad():
        network.model.head.fc.bias.fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        canary_recogniser(network, RECOGNISER_INPUT)


def test_canary_images__are_fixed_and_in_range():
    images = canary_images(112)
    assert images.shape == (2, 3, 112, 112)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(images, canary_images(112))
    assert normalise(images, RECOGNISER_INPUT).min() >= -1
