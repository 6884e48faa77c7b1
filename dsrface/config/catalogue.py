"""What can be chosen by name: recognisers, networks, heads, protocols and benchmarks, each listed once.

The command line, the configuration, the loaders of weight files, the report and the documentation read these
lists, and the contract tests run over them. No torch here: an entry names its code as `module:callable`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dsrface.config.dsr_networks import AnySizeTable, DsrTable, HybridTable, ResidualTable
from dsrface.types import EMBEDDING_DIM, HIGH_SIZE_PX, Preprocess

_HALF = (0.5, 0.5, 0.5)
RECOGNISER_INPUT = Preprocess(HIGH_SIZE_PX, _HALF, _HALF)  # unless more is known
_BGR = Preprocess(HIGH_SIZE_PX, _HALF, _HALF, "BGR")


@dataclass(frozen=True)
class Recogniser:
    """A recogniser that is built by name.

    Args:
        meaning: One line, human-readable.
        build: `module:callable`; takes `options`, returns the network with random weights.
        options: Keyword arguments of `build`.
        preprocess: How its published weights want images.
        root: Prefix of all its tensors that a file may lack.
        has_layer_scale: Whether `build` takes `layer_scale` as well.
        embedding_dim: Length of its embeddings.
    """

    meaning: str
    build: str
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = RECOGNISER_INPUT
    root: str = ""
    has_layer_scale: bool = False
    embedding_dim: int = EMBEDDING_DIM


@dataclass(frozen=True)
class DsrNetwork:
    """An architecture of super-resolution network.

    Args:
        meaning: One line, human-readable.
        table: Its options.
        build: `module:callable`; takes the options and both sizes, returns an untrained network.
        takes_any_size: It is trained on many sizes and both degradations; else on one VLR size.
    """

    meaning: str
    table: type[DsrTable]
    build: str
    takes_any_size: bool = False


@dataclass(frozen=True)
class Head:
    """A margin loss of the head.

    Args:
        meaning: One line, human-readable.
        build: `module:class` of a `MarginHead`.
        margin: The published margin.
    """

    meaning: str
    build: str
    margin: float


@dataclass(frozen=True)
class Protocol:
    """Which faces verification compares.

    Args:
        meaning: One line, human-readable.
        has_low_gallery: The first face of a pair is a VLR face; else an HR face.
        has_low_probe: The second face is a VLR face; else an HR face.
    """

    meaning: str
    has_low_gallery: bool
    has_low_probe: bool

    @property
    def is_ceiling(self) -> bool:
        """No VLR face takes part: what no super-resolution can pass."""
        return not (self.has_low_gallery or self.has_low_probe)


@dataclass(frozen=True)
class PublishedBenchmark:
    """A published benchmark that `evaluate --protocol` measures, in the layout of its archive.

    Args:
        meaning: One line, human-readable.
        read: `module:callable`; takes the folder, or the file, and `options`, returns a `Benchmark`.
        options: Keyword arguments of `read`.
        is_file: It comes as one file.
        takes_pairs: `read` takes the list given with `--pairs` as `pairs`.
        sign: Pattern of a name that only this layout has; empty: no name shows it.
    """

    meaning: str
    read: str
    options: Mapping[str, Any] = field(default_factory=dict)
    is_file: bool = False
    takes_pairs: bool = False
    sign: str = ""


@dataclass(frozen=True)
class Backend:
    """A way to run a super-resolution network on a CPU.

    Args:
        meaning: One line, human-readable.
        build: `module:callable`; takes the network and some of its images, returns the network to run.
        amp: Number format of the forward passes.
        is_near: Its pixels may be those of fp32 to a level; `auto` tries it, and measures whether they are.
        min_images: With fewer, making it takes longer than it saves.
    """

    meaning: str
    build: str
    amp: Literal["fp32", "bf16"] = "fp32"
    is_near: bool = True
    min_images: int = 2_000


def _edgeface(meaning: str, timm_name: str, rank_ratio: float | None = None) -> Recogniser:
    options = {"timm_name": timm_name, "rank_ratio": rank_ratio}
    build = "dsrface.models.edgeface:make_edgeface"
    return Recogniser(meaning, build, options, root="model.", has_layer_scale=True)


def _iresnet(meaning: str, *blocks: int) -> Recogniser:
    return Recogniser(meaning, "dsrface.models.iresnet:IResNet", {"depths": blocks})


def _adaface(meaning: str, *blocks: int) -> Recogniser:
    return Recogniser(meaning, "dsrface.models.adaface_ir:AdaFaceIr", {"depths": blocks}, _BGR)


TIMM = "timm:"  # in front of the name of a network of timm, which is a recogniser as well


RECOGNISERS: dict[str, Recogniser] = {
    "edgeface_xxs": _edgeface("EdgeFace, 1.24 M weights", "edgenext_xx_small"),
    "edgeface_xs_gamma_06": _edgeface("EdgeFace with low-rank layers, 1.77 M", "edgenext_x_small", 0.6),
    "edgeface_s_gamma_05": _edgeface("EdgeFace with low-rank layers, 3.65 M", "edgenext_small", 0.5),
    "edgeface_base": _edgeface("EdgeFace, 18.23 M", "edgenext_base"),
    "iresnet18": _iresnet("IResNet of InsightFace, 18 layers", 2, 2, 2, 2),
    "iresnet34": _iresnet("IResNet of InsightFace, 34 layers", 3, 4, 6, 3),
    "iresnet50": _iresnet("IResNet of InsightFace, 50 layers", 3, 4, 14, 3),
    "iresnet100": _iresnet("IResNet of InsightFace, 100 layers", 3, 13, 30, 3),
    "adaface_ir18": _adaface("IR network of AdaFace, 18 layers", 2, 2, 2, 2),
    "adaface_ir50": _adaface("IR network of AdaFace, 50 layers", 3, 4, 14, 3),
    "adaface_ir101": _adaface("IR network of AdaFace, 101 layers", 3, 13, 30, 3),
    "mobilefacenet": Recogniser("MobileFaceNet", "dsrface.models.mobilefacenet:MobileFaceNet"),
    "mobilefacenet_tfjs": Recogniser(
        "slim MobileFaceNet of TensorFlow.js, 0.55 M weights",
        "dsrface.models.mobilefacenet_tfjs:MobileFaceNetTfjs",
        embedding_dim=256,
    ),
}

DSR_NETWORKS: dict[str, DsrNetwork] = {
    "residual": DsrNetwork("convolutions at the VLR size", ResidualTable, "dsrface.models.dsr:ResidualDsr"),
    "any_size": DsrNetwork(
        "one network for faces of 8 to 48 px", AnySizeTable, "dsrface.models.any_size:AnySizeDsr", True
    ),
    "hybrid": DsrNetwork("max-feature-map CNN and attention", HybridTable, "dsrface.models.hybrid:HybridDsr"),
}

_BACKENDS = "dsrface.engine.backends"
BACKENDS: dict[str, Backend] = {
    "fp32": Backend("torch, as it was trained", f"{_BACKENDS}:as_it_is"),
    "bf16": Backend("torch in bf16, for processors that have it", f"{_BACKENDS}:as_it_is", amp="bf16"),
    "compile": Backend("torch.compile, which takes half a minute", f"{_BACKENDS}:compiled", min_images=10**5),
    "onnx": Backend("ONNX Runtime, the extra `onnx`", f"{_BACKENDS}:onnx_runtime", min_images=20_000),
    "int8": Backend("ONNX Runtime in int8, its scales from the images", f"{_BACKENDS}:int8", is_near=False),
}

HEADS: dict[str, Head] = {
    "arcface": Head("margin on the angle, in rad", "dsrface.models.heads:ArcFaceHead", 0.5),
    "cosface": Head("margin on the cosine", "dsrface.models.heads:CosFaceHead", 0.35),
    "adaface": Head("margin that follows the norm", "dsrface.models.heads:AdaFaceHead", 0.4),
}

# In the order of the tables.
PROTOCOLS: dict[str, Protocol] = {
    "HR-LR": Protocol("HR gallery against VLR probes", has_low_gallery=False, has_low_probe=True),
    "LR-LR": Protocol("VLR against VLR", has_low_gallery=True, has_low_probe=True),
    "HR-HR": Protocol("HR against HR: the ceiling", has_low_gallery=False, has_low_probe=False),
}
MAIN_PROTOCOL = "HR-LR"  # what the answer of an evaluation is about

_SEARCHES, _VERIFICATIONS = "dsrface.data.benchmarks.searches", "dsrface.data.benchmarks.verifications"
BENCHMARKS: dict[str, PublishedBenchmark] = {
    "tinyface": PublishedBenchmark(
        "TinyFace: native faces, rank k", f"{_SEARCHES}:read_tinyface", sign="Gallery_Distractor"
    ),
    "scface": PublishedBenchmark(
        "SCface: cameras at three distances", f"{_SEARCHES}:read_scface", sign="[0-9][0-9][0-9]_frontal.*"
    ),
    "survface": PublishedBenchmark(
        "QMUL-SurvFace: open set and pairs", f"{_SEARCHES}:read_survface", sign="Face_*ification_Test_Set"
    ),
    "xqlfw": PublishedBenchmark(
        "XQLFW: pairs of unlike quality",
        f"{_VERIFICATIONS}:read_lfw",
        {"name": "xqlfw"},
        takes_pairs=True,
        sign="xqlfw*pairs.txt",
    ),
    "lfw": PublishedBenchmark(
        "LFW: pairs, ten folds", f"{_VERIFICATIONS}:read_lfw", takes_pairs=True, sign="*pairs.txt"
    ),
    "cfp_ff": PublishedBenchmark(
        "CFP: frontal against frontal, ten folds", f"{_VERIFICATIONS}:read_cfp", {"kind": "FF"}
    ),
    "cfp_fp": PublishedBenchmark(
        "CFP: frontal against profile, ten folds",
        f"{_VERIFICATIONS}:read_cfp",
        {"kind": "FP"},
        sign="Pair_list_P.txt",
    ),
    "bin": PublishedBenchmark(
        "a .bin file of InsightFace", f"{_VERIFICATIONS}:read_bin", is_file=True, sign="*.bin"
    ),
    "ijb": PublishedBenchmark(
        "IJB-B, IJB-C: templates", f"{_VERIFICATIONS}:read_ijb", sign="*face_tid_mid.txt"
    ),
}


def load(entry: str) -> Any:
    """Return what an entry's `module:callable` names; imports torch."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
