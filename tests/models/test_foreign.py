"""Networks of others, loaded by what a user names them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dsrface.engine.teacher import Teacher
from dsrface.errors import DsrfaceError, MachineError, UsageError, WeightsError
from dsrface.models import judge, judge_files
from dsrface.models.preprocess import network_input, read_preprocess
from dsrface.models.weights import load_dsr, load_recogniser
from dsrface.types import Preprocess

PROGRAM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 7, 16)

    def forward(self, x):
        return self.conv(x).flatten(1)

def network():
    return Net()

def noted():
    return Net(), {"colour": "BGR", "mean": (0, 0, 0), "std": (1, 1, 1), "size_px": 96}

def function():
    return lambda x: x.mean(dim=(2, 3)) + x[:, :, 0, 0]

def misspelt():
    return Net(), {"color": "BGR"}

def number():
    return 3

def breaks():
    def run(x):
        raise RuntimeError("only greyscale")
    return run

def image():
    return lambda x: x

def stops():
    raise OSError("no weights here")

def arrays():
    return lambda x: x.mean(dim=(2, 3)).numpy()

def needs(depth):
    return Net()

def forgets():
    return lambda x: None

def without_norm():
    return lambda x: (Net()(x), None)

def several():
    net = Net()
    return lambda x: (net(x).norm(dim=1), net(x))

def named():
    net = Net()
    return lambda x: {"norm": net(x).norm(dim=1), "embedding": net(x)}

def double():
    return nn.Upsample(scale_factor=2)
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    path = tmp_path / "own_nets.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    sys.modules.pop("own_nets", None)


def refused(source, load=load_recogniser) -> DsrfaceError:
    with pytest.raises(DsrfaceError) as caught:
        load(Path(source))
    return caught.value


def faces(num=3, size_px=112):
    return torch.rand(num, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def embed(loaded, images):
    with torch.inference_mode():
        return loaded.model(network_input(images, loaded.preprocess))


def test_callable__is_called_and_embeds(nets):
    loaded = load_recogniser(Path(f"{nets}:network"))
    conv = loaded.model.network.conv
    with torch.no_grad():
        wanted = conv(faces() * 2 - 1).flatten(1)
    torch.testing.assert_close(embed(loaded, faces()), wanted)
    assert loaded.has_gradient
    assert loaded.name.endswith("own_nets.py:network")
    assert len(loaded.sha256) == 64


def test_callable__may_say_how_it_wants_its_images(nets):
    loaded = load_recogniser(Path(f"{nets}:noted"))
    assert (loaded.preprocess.colour, loaded.preprocess.size_px) == ("BGR", 96)
    given = network_input(faces(), loaded.preprocess)
    assert given.shape == (3, 3, 96, 96)
    smaller = torch.nn.functional.interpolate(
        faces().flip(1), size=(96, 96), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(given, smaller)


def test_callable__may_give_a_function(nets):
    found = embed(load_recogniser(Path(f"{nets}:function")), faces())
    assert found.shape == (3, 3)
    assert torch.is_tensor(embed(load_recogniser(Path(f"{nets}:arrays")), faces()))


@pytest.mark.parametrize(
    ("name", "id", "text"),
    [
        ("misspelt", "bad-target", "unknown key 'color'"),
        ("number", "bad-target", "which is no network"),
        ("nothing", "bad-target", "has no 'nothing'"),
        ("stops", "bad-target", "stopped with OSError: no weights here"),
        ("breaks", "network-interface", "only greyscale"),
        ("image", "network-interface", "not two rows"),
        ("needs", "bad-target", "missing a required argument: 'depth'"),
        ("forgets", "network-interface", "what it gives is a NoneType, not a tensor"),
    ],
)
def test_callable__that_is_no_recogniser_is_refused(nets, name, id, text):
    error = refused(f"{nets}:{name}")
    assert error.id == id
    assert text in error.message


def test_callable__of_a_file_that_is_not_there(tmp_path):
    assert refused(tmp_path / "none.py:network").id == "bad-target"
    assert refused("no_such_package_at_all:network").id == "bad-target"


def test_callable__as_super_resolution(nets):
    loaded = load_dsr(Path(f"{nets}:double"), vlr_size=24)
    assert loaded.vlr_size is None
    low = faces(2, 24)
    with torch.no_grad():
        high = loaded.model(low)
    assert high.shape == (2, 3, 112, 112)
    doubled = low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    wanted = torch.nn.functional.interpolate(
        doubled, size=(112, 112), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(high, wanted)


def export_onnx(path, network, size_px, **options):
    torch.onnx.export(network.eval(), (torch.rand(2, 3, size_px, size_px),), path, dynamo=True, **options)


def free_batch():
    return {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},), "verbose": False}


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 7, 16), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten()).eval()
    path = tmp_path_factory.mktemp("onnx") / "w600k_mbf.onnx"
    export_onnx(path, network, 112, **free_batch())
    return path, network


def test_onnx__gives_what_torch_gives(onnx_file):
    path, network = onnx_file
    loaded = load_recogniser(path)
    assert not loaded.has_gradient
    assert loaded.name == "w600k_mbf.onnx"
    with torch.no_grad():
        wanted = network(faces(5) * 2 - 1)
    torch.testing.assert_close(embed(loaded, faces(5)), wanted, rtol=1e-3, atol=1e-4)


def test_onnx__note_and_a_batch_that_is_fixed(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 28, 28), nn.Flatten()).eval()
    export_onnx(tmp_path / "two.onnx", network, 56, verbose=False)
    (tmp_path / "two.onnx.toml").write_text('colour = "BGR"\nmean = [0, 0, 0]\nstd = [1, 1, 1]')
    loaded = load_recogniser(tmp_path / "two.onnx")
    assert (loaded.preprocess.size_px, loaded.preprocess.colour) == (56, "BGR")
    images = faces(5, 56)  # three calls of two, the last filled up
    with torch.no_grad():
        wanted = network(images.flip(1))
    torch.testing.assert_close(embed(loaded, images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "note", ["size_px = 0", "mean = [0, 0]", "std = [1, 1, 0]", 'colour = "GBR"', "std = [nan, 1, 1]"]
)
def test_note__of_what_no_network_wants_is_refused(tmp_path, note):
    (tmp_path / "net.onnx.toml").write_text(note)
    with pytest.raises(WeightsError, match=note.partition(" ")[0]) as caught:
        read_preprocess(tmp_path / "net.onnx", Preprocess(112))
    assert caught.value.id == "weights-metadata"


def test_onnx__of_bytes_with_a_norm_before_the_embedding(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["faces"], ["floats"], to=kind.FLOAT),
        helper.make_node("GlobalMaxPool", ["floats"], ["most"]),
        helper.make_node("Flatten", ["most"], ["norm"]),
        helper.make_node("Flatten", ["floats"], ["embedding"]),
    ]
    given = helper.make_tensor_value_info("faces", kind.UINT8, ["b", 8, 8, 3])
    made = [helper.make_tensor_value_info(name, kind.FLOAT, ["b", None]) for name in ("norm", "embedding")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], made), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "bytes.onnx")
    images = (faces(3, 8) * 255).round() / 255
    found = embed(load_recogniser(tmp_path / "bytes.onnx"), images)
    torch.testing.assert_close(found, (images * 255).permute(0, 2, 3, 1).flatten(1))


def test_onnx__has_no_gradient_to_train_with(onnx_file):
    with pytest.raises(UsageError) as caught:
        load_recogniser(onnx_file[0]).require_gradient("tuned")
    assert caught.value.id == "no-gradient"


def test_onnx__damaged(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 this is no graph")
    error = refused(tmp_path / "bad.onnx")
    assert error.id == "weights-damaged"
    assert "onnxruntime" in error.message


def test_onnx__as_super_resolution_of_one_size(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_onnx(tmp_path / "x2.onnx", nn.Upsample(scale_factor=2), 24, **free_batch())
    loaded = load_dsr(tmp_path / "x2.onnx")
    assert loaded.vlr_size == 24
    assert loaded.model(faces(1, 24)).shape == (1, 3, 112, 112)
    with pytest.raises(UsageError) as caught:
        load_dsr(tmp_path / "x2.onnx", vlr_size=16)
    assert caught.value.id == "wrong-vlr-size"


@pytest.mark.parametrize("name", ["several", "named", "without_norm"])
def test_of_several_outputs_the_largest_is_the_embedding(nets, name):
    loaded, plain = load_recogniser(Path(f"{nets}:{name}")), load_recogniser(Path(f"{nets}:network"))
    torch.testing.assert_close(embed(loaded, faces()), embed(plain, faces()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript__runs_only_when_asked_for(tmp_path, nets):
    network = load_recogniser(Path(f"{nets}:network")).model
    program = torch.jit.trace(network, torch.rand(2, 3, 112, 112))
    program.save(str(tmp_path / "net.pt"))
    error = refused(tmp_path / "net.pt")
    assert error.id == "torchscript"
    assert "torchscript:" in error.hint
    loaded = load_recogniser(Path(f"torchscript:{tmp_path / 'net.pt'}"))
    with torch.no_grad():
        torch.testing.assert_close(embed(loaded, faces()), network(faces() * 2 - 1))
    teacher = Teacher(loaded.model, loaded.preprocess)
    assert float(teacher(torch.rand(3, 512), faces()).detach()) > 0
    assert refused(f"torchscript:{tmp_path / 'gone.pt'}").id == "weights-missing"
    (tmp_path / "bad.pt").write_bytes(b"PK nothing")
    assert refused(f"torchscript:{tmp_path / 'bad.pt'}").id == "weights-damaged"


class OfAGpu(torch.nn.Module):
    """What a trace on a GPU leaves behind: a constant with its name."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean([2, 3]) + torch.zeros(3, device=torch.device("cuda:7"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript__that_names_a_gpu_is_met_with_how_to_save_it(tmp_path):
    torch.jit.script(OfAGpu()).save(str(tmp_path / "net.pt"))
    error = refused(f"torchscript:{tmp_path / 'net.pt'}")
    assert (error.id, "\n" in error.message) == ("network-interface", False)
    assert "model.cpu()" in error.hint


def test_timm__with_weights_from_a_file(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=512).eval()
    torch.save({"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "t.pt")
    loaded = load_recogniser(Path(f"timm:resnet10t@{tmp_path / 't.pt'}"))
    assert loaded.config == {"variant": "timm:resnet10t"}
    with torch.no_grad():
        torch.testing.assert_close(embed(loaded, faces()), network(faces() * 2 - 1))
    assert refused(f"timm:resnet18@{tmp_path / 't.pt'}").id == "weights-mismatch"
    error = refused("timm:resnetten")
    assert error.id == "unknown-backbone"


def test_timm__without_a_network_only_the_cache_is_looked_into(monkeypatch):
    import timm
    from huggingface_hub import constants

    def no_name(*_):
        raise OSError("Name or service not known")

    def create(name, **options):
        assert constants.HF_HUB_OFFLINE
        raise OSError("not in the cache")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(timm, "create_model", create)
    assert refused("timm:resnet18").id == "weights-unreachable"


def test_timm__weights_that_cannot_be_reached(monkeypatch):
    import timm

    def create(name, **options):
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", create)
    error = refused("timm:resnet18")
    assert isinstance(error, MachineError)
    assert error.id == "weights-unreachable"
    assert "timm:resnet18@" in error.hint


def test_judge__without_the_extra(monkeypatch):
    monkeypatch.setattr(judge_files, "weights_of_judge", lambda: None)
    assert not judge_files.is_available()
    error = refused("judge")
    assert error.id == "missing-extra"
    assert "judge" in error.hint


def test_judge__that_sees_another_range_is_refused():
    class Stand(torch.nn.Module):
        def forward(self, image):
            return image.mean(dim=(2, 3)) * 0.405 / 3.9114  # the canary's images are 3.9114 apart in 0..255

    preprocess = judge._PREPROCESS
    judge.require_known_distance(Stand(), preprocess)
    with pytest.raises(WeightsError) as caught:
        judge.require_known_distance(Stand(), Preprocess(150))
    assert caught.value.id == "canary"


@pytest.mark.skipif(not judge_files.is_available(), reason="the extra `judge` is not installed")
def test_judge__equals_dlib_by_hand():
    import dlib
    from PIL import Image

    loaded = load_recogniser(Path("judge"))
    assert not loaded.has_gradient
    pixels = (faces(2, 150) * 255).round()
    network = dlib.face_recognition_model_v1(str(judge_files.weights_of_judge()))
    by_hand = [
        network.compute_face_descriptor(np.asarray(Image.fromarray(image.permute(1, 2, 0).byte().numpy())))
        for image in pixels
    ]
    np.testing.assert_allclose(embed(loaded, pixels / 255).numpy(), np.array(by_hand), atol=1e-5)


def test_a_plain_missing_file__is_still_a_missing_file(tmp_path):
    error = refused(tmp_path / "weights.pt")
    assert isinstance(error, WeightsError)
    assert error.id == "weights-missing"
