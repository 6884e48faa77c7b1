"""Recognisers by name against state dicts and forward passes written here from papers and listings."""

from __future__ import annotations

import argparse
import sys
import types

import pytest
import torch
from torch.nn import functional

from dsrface.config.catalogue import RECOGNISERS
from dsrface.errors import UsageError, WeightsError
from dsrface.models.recognisers import build_recogniser, expected_layout, load_recogniser_state
from dsrface.models.weights import load_recogniser

DEPTHS = {
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "101": (3, 13, 30, 3),
}
WIDTHS = (64, 128, 256, 512)
MILLIONS = {
    "iresnet18": 24.03,
    "iresnet34": 34.14,
    "iresnet50": 43.59,
    "iresnet100": 65.16,
    "adaface_ir18": 24.02,
    "adaface_ir50": 43.59,
    "adaface_ir101": 65.15,
    "mobilefacenet": 2.06,
}


class Maker:
    """Makes the tensors of an official file, and remembers what a forward pass needs."""

    def __init__(self, seed=0):
        self.state = {}
        self.rng = torch.Generator().manual_seed(seed)

    def conv(self, name, out, into, size, groups=1):
        fan_in = into // groups * size * size
        self.state[f"{name}.weight"] = self.draw(out, into // groups, size, size) / fan_in**0.5

    def norm(self, name, width, *, affine=True):
        if affine:
            self.state[f"{name}.weight"] = 1 + 0.1 * self.draw(width)
            self.state[f"{name}.bias"] = 0.1 * self.draw(width)
        self.state[f"{name}.running_mean"] = 0.1 * self.draw(width)
        self.state[f"{name}.running_var"] = 1 + 0.1 * self.draw(width).abs()
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def prelu(self, name, width):
        self.state[f"{name}.weight"] = 0.25 + 0.1 * self.draw(width)

    def linear(self, name, out, into, *, bias=True):
        self.state[f"{name}.weight"] = self.draw(out, into) / into**0.5
        if bias:
            self.state[f"{name}.bias"] = 0.1 * self.draw(out)

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.rng)


class Runner:
    """Computes with the tensors of a state dict, by name."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1, padding=1, groups=1):
        return functional.conv2d(x, self.state[f"{name}.weight"], None, stride, padding, 1, groups)

    def norm(self, x, name):
        get = self.state.get
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        return functional.batch_norm(x, mean, variance, get(f"{name}.weight"), get(f"{name}.bias"))

    def prelu(self, x, name):
        return functional.prelu(x, self.state[f"{name}.weight"])

    def linear(self, x, name):
        return functional.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))


def make_iresnet(depths):
    make = Maker()
    make.conv("conv1", 64, 3, 3)
    make.norm("bn1", 64)
    make.prelu("prelu", 64)
    into = 64
    for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            make.norm(f"{name}.bn1", into)
            make.conv(f"{name}.conv1", width, into, 3)
            make.norm(f"{name}.bn2", width)
            make.prelu(f"{name}.prelu", width)
            make.conv(f"{name}.conv2", width, width, 3)
            make.norm(f"{name}.bn3", width)
            if block == 0:
                make.conv(f"{name}.downsample.0", width, into, 1)
                make.norm(f"{name}.downsample.1", width)
            into = width
    make.norm("bn2", 512)
    make.linear("fc", 512, 512 * 49)
    make.norm("features", 512)
    return make.state


def run_iresnet(state, x, depths):
    run = Runner(state)
    x = run.prelu(run.norm(run.conv(x, "conv1"), "bn1"), "prelu")
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if block == 0 else 1
            y = run.conv(run.norm(x, f"{name}.bn1"), f"{name}.conv1")
            y = run.prelu(run.norm(y, f"{name}.bn2"), f"{name}.prelu")
            y = run.norm(run.conv(y, f"{name}.conv2", stride), f"{name}.bn3")
            if block == 0:
                x = run.norm(run.conv(x, f"{name}.downsample.0", 2, 0), f"{name}.downsample.1")
            x = x + y
    x = run.linear(run.norm(x, "bn2").flatten(1), "fc")
    return run.norm(x, "features")


def make_adaface(depths):
    make = Maker()
    make.conv("input_layer.0", 64, 3, 3)
    make.norm("input_layer.1", 64)
    make.prelu("input_layer.2", 64)
    make.norm("output_layer.0", 512)
    make.linear("output_layer.3", 512, 512 * 49)
    make.norm("output_layer.4", 512, affine=False)
    into, number = 64, 0
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            name = f"body.{number}"
            if into != width:
                make.conv(f"{name}.shortcut_layer.0", width, into, 1)
                make.norm(f"{name}.shortcut_layer.1", width)
            make.norm(f"{name}.res_layer.0", into)
            make.conv(f"{name}.res_layer.1", width, into, 3)
            make.norm(f"{name}.res_layer.2", width)
            make.prelu(f"{name}.res_layer.3", width)
            make.conv(f"{name}.res_layer.4", width, width, 3)
            make.norm(f"{name}.res_layer.5", width)
            into, number = width, number + 1
    return make.state


def run_adaface(state, x, depths):
    run = Runner(state)
    x = run.prelu(run.norm(run.conv(x, "input_layer.0"), "input_layer.1"), "input_layer.2")
    strides = [2 if block == 0 else 1 for depth in depths for block in range(depth)]
    for number, stride in enumerate(strides):
        name = f"body.{number}"
        y = run.conv(run.norm(x, f"{name}.res_layer.0"), f"{name}.res_layer.1")
        y = run.prelu(run.norm(y, f"{name}.res_layer.2"), f"{name}.res_layer.3")
        y = run.norm(run.conv(y, f"{name}.res_layer.4", stride), f"{name}.res_layer.5")
        if f"{name}.shortcut_layer.0.weight" in state:
            x = run.norm(run.conv(x, f"{name}.shortcut_layer.0", 2, 0), f"{name}.shortcut_layer.1")
        else:
            x = x[:, :, ::stride, ::stride]
        x = x + y
    x = run.linear(run.norm(x, "output_layer.0").flatten(1), "output_layer.3")
    return run.norm(x, "output_layer.4")


# (name, in, out, hidden, stride, is a residual) of the bottlenecks of insightface's mbf
def mobile_blocks():
    plan = [(2, 128, 128, 128, 2, 1), (3, 128, 128, 128, 1, 4), (4, 128, 256, 256, 2, 1)]
    plan += [(5, 256, 256, 256, 1, 6), (6, 256, 256, 512, 2, 1), (7, 256, 256, 256, 1, 2)]
    for layer, into, out, hidden, stride, depth in plan:
        if stride == 2:
            yield f"layers.{layer}", into, out, hidden, 2, False
        else:
            for block in range(depth):
                yield f"layers.{layer}.layers.{block}", into, out, hidden, 1, True


def make_mobilefacenet(_=None):
    make = Maker()

    def unit(name, out, into, size, groups=1, *, is_linear=False):
        make.conv(f"{name}.layers.0", out, into, size, groups)
        make.norm(f"{name}.layers.1", out)
        if not is_linear:
            make.prelu(f"{name}.layers.2", out)

    unit("layers.0", 128, 3, 3)
    unit("layers.1", 128, 128, 3, 64)
    for name, into, out, hidden, _, _ in mobile_blocks():
        unit(f"{name}.layers.0", hidden, into, 1)
        unit(f"{name}.layers.1", hidden, hidden, 3, hidden)
        unit(f"{name}.layers.2", out, hidden, 1, is_linear=True)
    unit("conv_sep", 512, 256, 1)
    unit("features.layers.0", 512, 512, 7, 512, is_linear=True)
    make.linear("features.layers.2", 512, 512, bias=False)
    make.norm("features.layers.3", 512)
    return make.state


def run_mobilefacenet(state, x, _=None):
    run = Runner(state)

    def unit(x, name, stride=1, padding=1, groups=1):
        x = run.norm(run.conv(x, f"{name}.layers.0", stride, padding, groups), f"{name}.layers.1")
        return run.prelu(x, f"{name}.layers.2") if f"{name}.layers.2.weight" in state else x

    x = unit(unit(x, "layers.0", 2), "layers.1", groups=64)
    for name, _, _, hidden, stride, is_residual in mobile_blocks():
        y = unit(x, f"{name}.layers.0", padding=0)
        y = unit(y, f"{name}.layers.1", stride, 1, hidden)
        y = unit(y, f"{name}.layers.2", padding=0)
        x = x + y if is_residual else y
    x = unit(unit(x, "conv_sep", padding=0), "features.layers.0", padding=0, groups=512)
    return run.norm(run.linear(x.flatten(1), "features.layers.2"), "features.layers.3")


OFFICIAL = {
    **{f"iresnet{n}": (make_iresnet, run_iresnet, DEPTHS[n]) for n in ("18", "34", "50", "100")},
    **{f"adaface_ir{n}": (make_adaface, run_adaface, DEPTHS[n]) for n in ("18", "50", "101")},
    "mobilefacenet": (make_mobilefacenet, run_mobilefacenet, None),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_state_dict__loads_strictly_and_gives_the_independent_embedding(name):
    make, run, depths = OFFICIAL[name]
    state = make(depths)
    found, network = load_recogniser_state(state)
    assert found == name
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.005)
    faces = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        wanted, embedding = run(state, faces, depths), network(faces)
    assert embedding.shape == (2, 512)
    torch.testing.assert_close(embedding, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_every_architecture_but_edgeface__has_an_official_listing():
    read_from_a_graph = {"mobilefacenet_tfjs"}  # compared in test_graph_models.py
    names = {name for name in RECOGNISERS if not name.startswith("edgeface")}
    assert set(OFFICIAL) | read_from_a_graph == names


def test_colour__is_that_of_the_published_weights():
    colours = {name: entry.preprocess.colour for name, entry in RECOGNISERS.items()}
    assert {name for name, colour in colours.items() if colour == "BGR"} == {
        "adaface_ir18",
        "adaface_ir50",
        "adaface_ir101",
    }


WRAPPINGS = {
    "plain": lambda s: s,
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "backbone": lambda s: {f"backbone.{k}": v for k, v in s.items()},
    "model.model": lambda s: {f"model.model.{k}": v for k, v in s.items()},
    "key state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: torch.ones(3)}}},
    "key model": lambda s: {"model": s},
    "state_dict + module": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "key backbone": lambda s: {"backbone": s, "head": {"weight": torch.zeros(9, 512)}},
    "key net": lambda s: {"net": s},
    "key state_dict_backbone": lambda s: {
        "state_dict_backbone": s,
        "state_dict_softmax": {"w": torch.ones(2)},
    },
    "key model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.1},
    "key params_ema": lambda s: {"params_ema": s, "params": {k: v + 1 for k, v in s.items()}},
    "key ema_state_dict": lambda s: {"ema_state_dict": s, "state_dict": {k: v + 1 for k, v in s.items()}},
    "Lightning with a head": lambda s: {
        "state_dict": {f"model.{k}": v for k, v in s.items()} | {"head.kernel": torch.zeros(512, 9)},
        "hyper_parameters": argparse.Namespace(lr=0.1, milestones=[12, 20]),
    },
    "without counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["mobilefacenet", "edgeface_xxs"])
def test_wrapped_checkpoint__loads_by_its_tensors(name, wrapping, tmp_path):
    torch.manual_seed(0)
    state = build_recogniser(name).state_dict() if name == "edgeface_xxs" else make_mobilefacenet()
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "w.pt")
    loaded = load_recogniser(tmp_path / "w.pt")
    assert loaded.config == {"variant": name}
    found = loaded.model.state_dict()
    tolerance = 1e-2 if wrapping == "half" else 0.0
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[key], tensor.float(), rtol=tolerance, atol=tolerance)


def test_two_different_networks_of_a_kind__are_refused(tmp_path):
    state = make_mobilefacenet()
    other = {f"student.{k}": v + 1 for k, v in state.items()}
    torch.save({f"teacher.{k}": v for k, v in state.items()} | other, tmp_path / "two.pt")
    with pytest.raises(WeightsError, match=r"below `teacher\.` and below `student\.`") as caught:
        load_recogniser(tmp_path / "two.pt")
    assert caught.value.id == "weights-ambiguous"
    torch.save({"a": state, "b": state}, tmp_path / "copies.pt")
    assert load_recogniser(tmp_path / "copies.pt").name == "mobilefacenet"


def test_mismatch__names_what_is_in_the_file():
    state = {f"backbone.{k}": v for k, v in make_mobilefacenet().items()}
    state["backbone.conv_sep.layers.0.weights"] = state.pop("backbone.conv_sep.layers.0.weight")
    with pytest.raises(WeightsError) as caught:
        load_recogniser_state(state, where="f.pt")
    assert caught.value.id == "weights-mismatch"
    assert "the nearest is mobilefacenet" in caught.value.message
    assert "(the file has backbone.conv_sep.layers.0.weights)" in caught.value.message


def test_trainers_notes_of_a_missing_package__are_passed_over(tmp_path, monkeypatch):
    """AdaFace's files hold a class of pytorch_lightning as a key, which few readers have installed."""
    module = types.ModuleType("pytorch_lightning.callbacks")
    exec("class ModelCheckpoint: pass", module.__dict__)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
        patch.setitem(sys.modules, "pytorch_lightning.callbacks", module)
        noted = {"state_dict": make_mobilefacenet(), "callbacks": {module.ModelCheckpoint: {"best": 0.9}}}
        torch.save(noted, tmp_path / "lightning.ckpt")
    assert load_recogniser(tmp_path / "lightning.ckpt").name == "mobilefacenet"


def test_note_beside_the_file__says_the_colour_order(tmp_path):
    torch.save(make_mobilefacenet(), tmp_path / "m.pt")
    assert load_recogniser(tmp_path / "m.pt").preprocess.colour == "RGB"
    (tmp_path / "m.pt.toml").write_text('colour = "BGR"\nstd = [0.25, 0.25, 0.25]\n')
    found = load_recogniser(tmp_path / "m.pt").preprocess
    assert (found.colour, found.mean, found.std) == ("BGR", (0.5,) * 3, (0.25,) * 3)
    for text in ('colour = "GBR"', "std = [1, 0, 1]", "mean = 3", 'color = "BGR"', "x ="):
        (tmp_path / "m.pt.toml").write_text(text)
        with pytest.raises(WeightsError) as caught:
            load_recogniser(tmp_path / "m.pt")
        assert caught.value.id == "weights-metadata"
        assert caught.value.where.endswith("m.pt.toml")


def test_unknown_name():
    with pytest.raises(UsageError, match="iresnet99") as caught:
        build_recogniser("iresnet99")
    assert "iresnet18" in caught.value.hint


def test_layouts__are_told_apart():
    layouts = [frozenset(expected_layout(name).shapes.items()) for name in RECOGNISERS]
    assert len(set(layouts)) == len(RECOGNISERS)
