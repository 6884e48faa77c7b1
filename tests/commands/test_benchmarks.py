"""`dsrface evaluate` on benchmarks in their published layout, against figures made by hand."""

from __future__ import annotations

import functools
import io
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from dsrface.cli.benchmark_table import render_benchmark
from dsrface.commands.evaluate import benchmark, run
from dsrface.commands.evaluate.benchmark import read_benchmark
from dsrface.commands.evaluate.benchmark.features import Embedded
from dsrface.commands.evaluate.benchmark.result import BenchmarkResult
from dsrface.commands.evaluate.benchmark.scoring import pool_templates
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.benchmarks.benchmark import Template
from dsrface.data.benchmarks.searches import read_scface
from dsrface.data.benchmarks.verifications import read_cfp, read_lfw
from dsrface.data.decode import encode_png
from dsrface.data.photos.align import ARCFACE_TEMPLATE, align_face
from dsrface.data.synthetic.drawing import draw_face
from dsrface.errors import DataError
from dsrface.events import Note
from dsrface.models.preprocess import network_input
from dsrface.models.resize import resize_bicubic
from dsrface.models.weights import load_recogniser
from tests.commands.networks import write_dsr

SIZE = 16
RECOGNISER = """
import torch

def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 9, 8), torch.nn.GELU(), torch.nn.Flatten())
"""


def roc_auc_score(labels, scores):
    """The oracle, imported only when a test runs."""
    from sklearn.metrics import roc_auc_score as oracle

    return oracle(labels, scores)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    recogniser = root / "small_recogniser.py"
    recogniser.write_text(RECOGNISER, encoding="utf-8")
    return {
        "dsr": write_dsr(root / "dsr.safetensors", tail=0.02),
        "recogniser": Path(f"{recogniser}:network"),
    }


def evaluate(data: Path, out: Path, networks: dict[str, Path], **settings) -> BenchmarkResult:
    given = {"vlr_size": SIZE, "bootstrap": 100, "device": "cpu", "workers": 0, **networks, **settings}
    result = run(EvaluateConfig(data=data, out=out, **given), emit=lambda _: None)
    assert isinstance(result, BenchmarkResult)
    return result


@functools.cache
def face(person: int, number: int, size_px: int = 112) -> Image.Image:
    image = Image.fromarray(draw_face(person, number))
    return image if size_px == 112 else image.resize((size_px, size_px), Image.Resampling.BICUBIC)


def save(path: Path, person: int, number: int, size_px: int = 112) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    face(person, number, size_px).save(path)


class Oracle:
    """Embeddings of files by hand: Pillow, one resize, the network's own forward."""

    def __init__(self, weights: Path) -> None:
        self.loaded = load_recogniser(weights)

    def high(self, image: Image.Image) -> np.ndarray:
        return self._embed(torch.from_numpy(np.asarray(image)[None].copy()))

    def low(self, image: Image.Image) -> np.ndarray:
        small = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(small)[None].copy())
        return self._embed(to_image_u8(resize_bicubic(to_image01(pixels))))

    def native(self, image: Image.Image) -> np.ndarray:
        return self.high(image.resize((112, 112), Image.Resampling.BICUBIC))

    @torch.inference_mode()
    def _embed(self, images: torch.Tensor) -> np.ndarray:
        found = self.loaded.model(network_input(to_image01(images), self.loaded.preprocess))[0].numpy()
        return found / np.linalg.norm(found)


def figure(result: BenchmarkResult, images: str, search: str = ""):
    (found,) = (
        item
        for item in result.searches
        if (item.images, item.recogniser, item.search) == (images, "frozen", search)
    )
    return found


def cell(result: BenchmarkResult, protocol: str, images: str):
    (found,) = (
        item
        for item in result.cells
        if (item.protocol, item.images, item.recogniser) == (protocol, images, "frozen")
    )
    return found


def ranks_by_hand(probes, gallery, probe_persons, gallery_persons) -> list[int]:
    ranks = []
    for features, person in zip(probes, probe_persons, strict=True):
        order = sorted(
            (
                (float(features @ other), owner != person)
                for other, owner in zip(gallery, gallery_persons, strict=True)
            ),
            key=lambda item: (-item[0], not item[1]),
        )
        wrong_before = 0
        for _, is_wrong in order:
            if not is_wrong:
                break
            wrong_before += 1
        ranks.append(1 + wrong_before)
    return ranks


def tinyface(root: Path, *, with_lists: bool) -> Path:
    test = root / "tinyface" / "Testing_Set"
    names: dict[str, tuple[list[str], list[int]]] = {"gallery": ([], []), "probe": ([], [])}
    for person in range(5):
        for part, key, number in (
            ("Gallery_Match", "gallery", 0),
            ("Probe", "probe", 1),
            ("Probe", "probe", 2),
        ):
            name = f"{person + 1}_{number}.png"
            save(test / part / name, person, number, 20)
            names[key][0].append(name)
            names[key][1].append(person + 1)
    for number in range(7):
        save(test / "Gallery_Distractor" / f"x{number}.png", 50 + number, 0, 20)
    if with_lists:
        scipy_io = pytest.importorskip("scipy.io")
        for key, stem in (("gallery", "gallery_match"), ("probe", "probe")):
            table = {
                f"{key}_set": np.array(names[key][0], object).reshape(-1, 1),
                f"{key}_ids": names[key][1],
            }
            scipy_io.savemat(test / f"{stem}_img_ID_pairs.mat", table)
    return root


@pytest.mark.parametrize("with_lists", [False, True])
def test_tinyface__ranks_with_distractors_equal_those_made_by_hand(tmp_path, networks, with_lists) -> None:
    result = evaluate(
        tinyface(tmp_path / "data", with_lists=with_lists), tmp_path / "out", networks, protocol="tinyface"
    )
    found = figure(result, "bicubic")
    assert (found.num_gallery, found.num_known, found.num_unknown) == (12, 10, 0)
    oracle = Oracle(networks["recogniser"])
    gallery = [oracle.native(face(p, 0, 20)) for p in range(5)] + [
        oracle.native(face(50 + k, 0, 20)) for k in range(7)
    ]
    owners = [*range(5), *(50 + k for k in range(7))]
    probe_persons = [p for p in range(5) for _ in range(2)]
    probes = [oracle.native(face(p, n, 20)) for p in range(5) for n in (1, 2)]
    ranks = np.array(ranks_by_hand(probes, gallery, probe_persons, owners))
    assert found.ranks[1].value == pytest.approx(np.mean(ranks <= 1))
    assert found.ranks[5].value == pytest.approx(np.mean(ranks <= 5))
    assert 20 not in found.ranks  # the gallery has fewer
    assert {item.verdict for item in result.comparisons} == {"not judged"}  # five persons
    assert result.num_persons == 5  # distractors are nobody
    assert result.native_px == {16: 22}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.toml",
        "evaluation.json",
        "pictures.png",
    ]


def test_scface__mugshots_against_each_distance(tmp_path, networks) -> None:
    root = tmp_path / "data"
    for person in range(4):
        save(root / "mugshot_frontal_cropped_all" / f"{person + 1:03d}_frontal.png", person, 0)
        for distance in (1, 2):
            for camera in (1, 2):
                name = f"{person + 1:03d}_cam{camera}_{distance}.png"
                size_px = 12 * distance + 8
                save(
                    root / f"surveillance_cameras_distance_{distance}" / f"cam_{camera}" / name,
                    person,
                    camera,
                    size_px,
                )
    result = evaluate(root, tmp_path / "out", networks, protocol="scface")
    oracle = Oracle(networks["recogniser"])
    gallery = [oracle.high(face(person, 0)) for person in range(4)]
    every: list[int] = []
    for distance, metres in ((1, "4.2 m"), (2, "2.6 m")):
        probes = [oracle.native(face(p, c, 12 * distance + 8)) for p in range(4) for c in (1, 2)]
        ranks = ranks_by_hand(probes, gallery, [p for p in range(4) for _ in range(2)], range(4))
        every += ranks
        found = figure(result, "bicubic", f"distance {distance} ({metres})")
        assert found.ranks[1].value == pytest.approx(np.mean(np.array(ranks) <= 1))
    whole = figure(result, "bicubic", "all distances")
    assert whole.ranks[1].value == pytest.approx(np.mean(np.array(every) <= 1))
    assert "all distances" in result.summary
    assert not any("not 112x112" in line for line in result.limits)
    # The whole mugshots of the archive, which show the same persons, are not enrolled with the cropped ones.
    save(root / "mugshot_frontal_original_all" / "001_frontal.png", 0, 0)
    found = read_scface(root)
    assert [face.name for face in found.faces if not face.is_low] == [
        f"mugshot_frontal_cropped_all/{person + 1:03d}_frontal.png" for person in range(4)
    ]


@pytest.mark.parametrize(("takes_any", "expected"), [(False, {16: 4, 112: 4}), (True, {12: 2, 20: 2, 48: 4})])
def test_native_faces_go_to_the_nearest_size_that_the_dsr_takes(
    tmp_path, networks, takes_any, expected
) -> None:
    for person in range(2):
        for number, (part, size_px) in enumerate((("Gallery_Match", 48), ("Probe", 12), ("Probe", 20))):
            save(tmp_path / "Testing_Set" / part / f"{person}_{number}.png", person, number, size_px)
        save(tmp_path / "Testing_Set" / "Gallery_Distractor" / f"x{person}.png", 9 + person, 0, 48)
    if takes_any:
        code = "from torch.nn.functional import interpolate\ndef network():\n    return lambda low: "
        (tmp_path / "twice_as_large.py").write_text(
            f"{code}interpolate(low, scale_factor=2)\n", encoding="utf-8"
        )
        networks = networks | {"dsr": Path(f"{tmp_path / 'twice_as_large.py'}:network")}
    result = evaluate(tmp_path, tmp_path / "out", networks, protocol="tinyface")
    assert result.native_px == expected
    # Bicubic enlarges the pixels that the faces have, whatever the DSR takes.
    oracle = Oracle(networks["recogniser"])
    gallery = [oracle.native(face(p, 0, 48)) for p in (0, 1, 9, 10)]
    probes = [oracle.native(face(p, n, size)) for p in (0, 1) for n, size in ((1, 12), (2, 20))]
    ranks = np.array(ranks_by_hand(probes, gallery, [0, 0, 1, 1], [0, 1, 9, 10]))
    assert figure(result, "bicubic").ranks[1].value == pytest.approx(np.mean(ranks <= 1))


def test_survface__open_set_rates_and_pairs(tmp_path, networks) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    root = tmp_path / "data"
    test = root / "Face_Identification_Test_Set"
    for person in range(6):
        save(test / "gallery" / f"{person}_cam1_1.png", person, 0, 22)
        save(test / "mated_probe" / f"{person}_cam2_2.png", person, 1, 22)
    for number in range(30):
        save(test / "unmated_probe" / f"{100 + number}_cam1_1.png", 100 + number, 0, 22)
    check = root / "Face_Verification_Test_Set"
    rows = {"positive": [], "negative": []}
    for person in range(6):
        for number in (1, 2):
            save(check / "verification_images" / f"{person}_cam1_{number}.png", person, number, 22)
        rows["positive"].append([f"{person}_cam1_1.png", f"{person}_cam1_2.png"])
        rows["negative"].append([f"{person}_cam1_1.png", f"{(person + 1) % 6}_cam1_2.png"])
    for kind, table in rows.items():
        scipy_io.savemat(check / f"{kind}_pairs_names.mat", {f"{kind}_pairs_names": np.array(table, object)})
    names = np.array([[file.name] for file in sorted((test / "unmated_probe").iterdir())], object)
    scipy_io.savemat(test / "unmated_probe_img_ID_pairs.mat", {"unmated_probe_set": names})  # without ids
    result = evaluate(root, tmp_path / "out", networks, protocol="survface")
    oracle = Oracle(networks["recogniser"])
    gallery = np.stack([oracle.native(face(person, 0, 22)) for person in range(6)])
    known = np.stack([oracle.native(face(person, 1, 22)) for person in range(6)]) @ gallery.T
    unknown = (np.stack([oracle.native(face(100 + k, 0, 22)) for k in range(30)]) @ gallery.T).max(axis=1)
    own = known[np.arange(6), np.arange(6)]
    limit = np.sort(unknown)[::-1][3]  # of 30 unknown probes 3 may pass at 10 %
    found = figure(result, "bicubic")
    assert found.num_unknown == 30
    assert found.tpirs[0.1].value == pytest.approx(np.mean(own > limit))
    assert found.tpirs[0.01].value is None
    assert any("FPIR of 0.01" in line for line in result.limits)
    first = [oracle.native(face(p, 1, 22)) for p in range(6)] * 2
    second = [oracle.native(face(p, 2, 22)) for p in [*range(6), *((p + 1) % 6 for p in range(6))]]
    scores = [float(a @ b) for a, b in zip(first, second, strict=True)]
    assert cell(result, "LR-LR", "bicubic").auc.value == pytest.approx(
        roc_auc_score([1] * 6 + [0] * 6, scores)
    )


def lfw(root: Path, *, aligned: str = "") -> Path:
    lines = ["2\t3"]
    for person in range(6):
        for number in (1, 2):
            save(root / aligned / f"P_{person}" / f"P_{person}_{number:04d}.png", person, number)
    for fold in range(2):
        lines += [f"P_{3 * fold + k}\t1\t2" for k in range(3)]
        lines += [f"P_{3 * fold + k}\t1\tP_{(3 * fold + k + 1) % 6}\t2" for k in range(3)]
    (root / "x_pairs.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("protocol", ["lfw", "xqlfw"])
def test_lfw__three_ways_to_compare(tmp_path, networks, protocol) -> None:
    root = lfw(tmp_path / "data", aligned="xqlfw_aligned_112" if protocol == "xqlfw" else "")
    result = evaluate(root, tmp_path / "out", networks, protocol=protocol)
    assert (result.num_genuine, result.num_impostor, result.num_persons) == (6, 6, 6)
    oracle = Oracle(networks["recogniser"])
    pairs = [(p, p) for p in range(6)] + [(p, (p + 1) % 6) for p in range(6)]
    answers = [a == b for a, b in pairs]
    high = [float(oracle.high(face(a, 1)) @ oracle.high(face(b, 2))) for a, b in pairs]
    mixed = [float(oracle.high(face(a, 1)) @ oracle.low(face(b, 2))) for a, b in pairs]
    mixed += [float(oracle.low(face(a, 1)) @ oracle.high(face(b, 2))) for a, b in pairs]
    assert cell(result, "HR-HR", "HR").auc.value == pytest.approx(roc_auc_score(answers, high))
    assert cell(result, "HR-LR", "bicubic").auc.value == pytest.approx(roc_auc_score(answers * 2, mixed))
    assert cell(result, "HR-HR", "HR").accuracy.num_folds == 2


@pytest.mark.parametrize("folder", ["", "aligned images"])
@pytest.mark.parametrize("name", ["P_{}_{:04d}", "{1}_P{0}_f"])
def test_persons_of_images_in_one_folder_are_told_by_names_or_pairs(tmp_path, folder, name) -> None:
    lines = []
    for person in range(3):
        for number in (1, 2):
            save(tmp_path / folder / f"{name.format(person, number)}.png", person, number)
            lines.append(f"{name.format(person, number)}.png 1")
    for person in range(3):
        lines += [f"{name.format(person, 1)}.png 0", f"{name.format((person + 1) % 3, 2)}.png 0"]
    (tmp_path / "pairs_CALFW.txt").write_text("\n".join(lines))
    found = read_lfw(tmp_path, tmp_path / "pairs_CALFW.txt")
    assert [len(found.faces), len({face.person for face in found.faces})] == [6, 3]


def cfp(root: Path, images: str = "Data/Images") -> Path:
    """Write 4 persons with 2 frontal and 1 profile image in CFP's layout, 2 folds."""
    lists: dict[str, list[str]] = {"F": [], "P": []}
    for person in range(1, 5):
        for letter, pose, numbers in (("F", "frontal", (1, 2)), ("P", "profile", (3,))):
            for number in numbers:
                name = f"{person:03d}/{pose}/{number:02d}"
                save(root / images / f"{name}.png", person, number)
                lists[letter].append(f"{len(lists[letter]) + 1} ../Data/Images/{name}.jpg")
    for letter, lines in lists.items():
        path = root / "Protocol" / f"Pair_list_{letter}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    for fold in (0, 1):
        own = [2 * fold + 1, 2 * fold + 2]  # persons
        for kind, same, diff in (
            (
                "FF",
                [(2 * p - 1, 2 * p) for p in own],
                [(2 * own[0] - 1, 2 * own[1]), (2 * own[1], 2 * own[0])],
            ),
            ("FP", [(2 * p, p) for p in own], [(2 * own[0], own[1]), (2 * own[1], own[0])]),
        ):
            folder = root / "Protocol" / "Split" / kind / f"{fold + 1:02d}"
            folder.mkdir(parents=True)
            for name, pairs in (("same.txt", same), ("diff.txt", diff)):
                (folder / name).write_text("".join(f"{a},{b}\n" for a, b in pairs))
    return root


@pytest.mark.parametrize("images", ["Data/Images", "aligned_112"])
def test_cfp__frontal_against_profile_in_its_folds(tmp_path, networks, images) -> None:
    result = evaluate(cfp(tmp_path / "cfp", images), tmp_path / "out", networks, protocol="cfp_fp")
    assert (result.num_genuine, result.num_impostor, result.num_persons) == (4, 4, 4)
    oracle = Oracle(networks["recogniser"])
    pairs = [(1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (4, 4), (3, 4), (4, 3)]
    answers = [a == b for a, b in pairs]
    high = [float(oracle.high(face(a, 2)) @ oracle.high(face(b, 3))) for a, b in pairs]
    assert cell(result, "HR-HR", "HR").auc.value == pytest.approx(roc_auc_score(answers, high))
    assert cell(result, "HR-HR", "HR").accuracy.num_folds == 2


def test_cfp__frontal_pairs_and_a_list_that_names_what_is_not_there(tmp_path) -> None:
    found = read_cfp(cfp(tmp_path), kind="FF")
    pairs = found.pair_tests[0].pairs
    names = [face.name for face in found.faces]
    assert [(names[a], names[b]) for a, b in zip(pairs.first, pairs.second, strict=True)][:3] == [
        ("001/frontal/01", "001/frontal/02"),
        ("002/frontal/01", "002/frontal/02"),
        ("001/frontal/01", "002/frontal/02"),
    ]
    assert list(pairs.fold) == [0] * 4 + [1] * 4
    (tmp_path / "Data" / "Images" / "001" / "frontal" / "01.png").unlink()
    with pytest.raises(DataError, match="001/frontal/01"):
        read_cfp(tmp_path, kind="FF")


def test_images_that_are_no_aligned_faces_are_said(tmp_path) -> None:
    save(tmp_path / "P_1" / "P_1_0001.png", 1, 1, 250)
    save(tmp_path / "P_1" / "P_1_0002.png", 1, 2, 250)
    (tmp_path / "pairs.txt").write_text("P_1\t1\t2\n", encoding="utf-8")
    found = benchmark._not_aligned(read_lfw(tmp_path, None), Embedded({}, {}, {}))
    assert "250x250, not 112x112" in found[0]


@pytest.mark.parametrize("by", ["protocol", "pairs"])
def test_bin__is_read_by_protocol_or_as_pairs(tmp_path, networks, by) -> None:
    pairs = [(p, p) for p in range(10)] + [(p, (p + 1) % 10) for p in range(10)]
    images = [encode_png(np.asarray(face(q, n))) for a, b in pairs for q, n in ((a, 1), (b, 2))]
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((images, [a == b for a, b in pairs])))
    settings = {"protocol": "bin"} if by == "protocol" else {"pairs": path}
    result = evaluate(path if by == "protocol" else tmp_path, tmp_path / "out", networks, **settings)
    assert (result.num_genuine, result.num_impostor) == (10, 10)
    # Each person's two images are linked by a genuine pair, and each image comes twice.
    assert result.num_persons == 10
    oracle = Oracle(networks["recogniser"])
    scores = [float(oracle.high(face(a, 1)) @ oracle.high(face(b, 2))) for a, b in pairs]
    expected = roc_auc_score([a == b for a, b in pairs], scores)
    assert cell(result, "HR-HR", "HR").auc.value == pytest.approx(expected)


def test_ijb__templates_of_aligned_crops(tmp_path, networks) -> None:
    root = tmp_path / "ijbc"
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    members, points, number = "", "", 0
    place = ARCFACE_TEMPLATE + np.array([14, 19])
    aligned = {}
    for template in range(6):
        for medium in range(2):
            number += 1
            canvas = Image.new("RGB", (140, 150))
            canvas.paste(face(template // 2, number), (14, 19))
            canvas.save(root / "loose_crop" / f"{number}.png")
            marks = " ".join(f"{value:.3f}" for value in place.reshape(-1))
            crop = align_face(np.asarray(canvas), np.round(place, 3))
            aligned[template, medium] = Image.fromarray(crop)
            points += f"{number}.png {marks} 0.99\n"
            members += f"{number}.png {template} {medium}\n"
    pairs = [(0, 1, 1), (2, 3, 1), (4, 5, 1), (0, 2, 0), (1, 4, 0), (3, 5, 0)]
    (root / "meta" / "ijbc_face_tid_mid.txt").write_text(members)
    (root / "meta" / "ijbc_name_5pts_score.txt").write_text(points)
    (root / "meta" / "ijbc_template_pair_label.txt").write_text(
        "".join(f"{a} {b} {same}\n" for a, b, same in pairs)
    )
    result = evaluate(root, tmp_path / "out", networks, protocol="ijb")
    oracle = Oracle(networks["recogniser"])
    pooled = []
    for template in range(6):
        both = [oracle.high(aligned[template, medium]) for medium in range(2)]
        pooled.append(sum(both) / np.linalg.norm(sum(both)))
    scores = [float(pooled[a] @ pooled[b]) for a, b, _ in pairs]
    expected = roc_auc_score([same for _, _, same in pairs], scores)
    assert cell(result, "HR-HR", "HR").auc.value == pytest.approx(expected)


def test_false_accept_rates_are_the_published_ones_unless_others_are_given(tmp_path, networks) -> None:
    root = lfw(tmp_path / "data")
    rates = [
        [item.far for item in cell(evaluate(root, tmp_path / name, networks, **given), "HR-HR", "HR").tars]
        for name, given in (("a", {"protocol": "lfw"}), ("b", {"protocol": "lfw", "fars": (0.2, 0.05)}))
    ]
    assert rates == [[0.1, 0.01, 0.001, 0.0001], [0.2, 0.05]]
    for part in ("Gallery_Match/1_0", "Gallery_Distractor/2_0", "Probe/1_1"):
        save(tmp_path / "faces" / "Testing_Set" / f"{part}.png", 1, 0, 22)
    config = EvaluateConfig(data=tmp_path / "faces", vlr_size=SIZE, protocol="tinyface", fars=(0.2,))
    assert "tinyface compares no pairs, so there is no rate for fars" in read_benchmark(config).notes


def test_frames_of_one_video_count_as_one_image() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 8)).astype(np.float32)
    template = Template(np.array([0, 1, 2, 4]), np.array([7, 7, 7, 9]), "anna")
    expected = features[:3].mean(axis=0) + features[4]
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(pool_templates(features, [template])[0], expected, rtol=1e-5)


def test_flip__adds_the_mirrored_faces_embedding(tmp_path, networks) -> None:
    root = lfw(tmp_path / "data")
    plain = evaluate(root, tmp_path / "a", networks, protocol="lfw")
    both = evaluate(root, tmp_path / "b", networks, protocol="lfw", flip=True)
    oracle = Oracle(networks["recogniser"]).loaded
    scores = []
    pairs = [(p, p) for p in range(6)] + [(p, (p + 1) % 6) for p in range(6)]
    with torch.inference_mode():
        for pair in pairs:
            summed = []
            for person, number in zip(pair, (1, 2), strict=True):
                image = to_image01(torch.from_numpy(np.asarray(face(person, number))[None].copy()))
                views = (image, image.flip(-1))
                found = sum(oracle.model(network_input(view, oracle.preprocess))[0] for view in views)
                summed.append((found / found.norm()).numpy())
            scores.append(float(summed[0] @ summed[1]))
    expected = roc_auc_score([a == b for a, b in pairs], scores)
    assert cell(both, "HR-HR", "HR").auc.value == pytest.approx(expected)
    assert plain.settings["flip"] is False
    console = Console(width=80, record=True, file=io.StringIO())
    render_benchmark(both, console)
    shown = " ".join(console.export_text().split())
    assert "mirrored faces added" in shown
    assert "TAR@" not in shown  # of columns without a figure
    assert "fewer than 3 / FAR" in shown


def test_native_data__probes_against_its_hr_faces_by_size_and_condition(tmp_path, networks) -> None:
    from dsrface.commands import prepare, train_dsr
    from dsrface.config.prepare import PrepareConfig
    from dsrface.config.train_dsr import TrainDsrConfig

    for person in range(4):
        save(tmp_path / "photos" / f"{person}_mug.png", person, 0)
        for camera, size_px in ((1, 20), (2, 31)):
            save(tmp_path / "photos" / f"{person}_cam{camera}.png", person, camera, size_px)
    config = {
        "source": tmp_path / "photos",
        "data": tmp_path / "data",
        "native": True,
        "align": "none",
        "split": (0, 0, 1),
        "persons": r"(?P<person>\d)_(cam)?(?P<camera>\d|mug)",
    }
    prepare.run(PrepareConfig.model_validate(config), emit=lambda _: None)
    result = evaluate(tmp_path / "data", tmp_path / "out", networks)
    titles = list(dict.fromkeys(item.search for item in result.searches))
    assert titles == ["all", "size 24 px", "size 32 px", "camera 1", "camera 2"]
    found = figure(result, "bicubic", "all")
    assert (found.num_gallery, found.num_known) == (4, 8)
    oracle = Oracle(networks["recogniser"])
    gallery = [oracle.high(face(person, 0)) for person in range(4)]
    probes = [
        oracle.native(face(p, c, size).resize((stored, stored), Image.Resampling.BICUBIC))
        for c, size, stored in ((1, 20, 24), (2, 31, 32))
        for p in range(4)
    ]
    ranks = np.array(ranks_by_hand(probes, gallery, [*range(4)] * 2, range(4)))
    assert found.ranks[1].value == pytest.approx(np.mean(ranks <= 1))
    assert {item.protocol for item in result.cells} == {"HR-LR", "LR-LR"}
    with pytest.raises(DataError) as caught:
        evaluate(tmp_path / "data", tmp_path / "other", {"dsr_outputs": tmp_path})
    assert caught.value.id == "no-twins"
    with pytest.raises(DataError) as caught:  # and not that there is no train split
        train_dsr.run(TrainDsrConfig(data=tmp_path / "data", vlr_size=24), emit=lambda _: None)
    assert caught.value.id == "no-twins"


def test_pairs_of_an_image_that_cannot_be_read_are_not_counted(tmp_path, networks) -> None:
    root = lfw(tmp_path / "data")
    (root / "P_0" / "P_0_0002.png").write_bytes(b"nothing")
    result = evaluate(root, tmp_path / "out", networks, protocol="lfw")
    assert (result.num_genuine, result.num_impostor) == (5, 5)


def test_an_image_that_cannot_be_read_is_left_out_and_named(tmp_path, networks) -> None:
    root = tinyface(tmp_path / "data", with_lists=False)
    (root / "tinyface" / "Testing_Set" / "Probe" / "1_1.png").write_bytes(b"nothing")
    notes: list[str] = []
    config = EvaluateConfig(
        data=root,
        out=tmp_path / "out",
        vlr_size=SIZE,
        device="cpu",
        bootstrap=0,
        protocol="tinyface",
        **networks,
    )
    result = run(config, emit=lambda event: notes.append(event.message) if isinstance(event, Note) else None)
    assert list(result.bad_images) == ["1_1.png"]
    assert figure(result, "bicubic").num_known == 9
    assert any(note.startswith("left out 1_1.png") for note in notes)


def test_probes_of_nobody_in_the_gallery_are_refused(tmp_path, networks) -> None:
    root = tinyface(tmp_path / "data", with_lists=False)
    for path in (root / "tinyface" / "Testing_Set" / "Gallery_Match").iterdir():
        path.rename(path.with_name(f"id{path.name}"))
    with pytest.raises(DataError, match="No person of the probes is in the gallery") as caught:
        evaluate(root, tmp_path / "out", networks, protocol="tinyface")
    assert caught.value.id == "too-few-persons"


@pytest.mark.parametrize(
    "protocol", ["tinyface", "scface", "survface", "lfw", "xqlfw", "cfp_fp", "bin", "ijb"]
)
def test_another_layout_is_refused(tmp_path, networks, protocol) -> None:
    (tmp_path / "data").mkdir()
    for data in (tmp_path / "data", tmp_path / "absent"):
        with pytest.raises(DataError) as caught:
            evaluate(data, tmp_path / "out", networks, protocol=protocol)
        assert caught.value.id in {"other-layout", "no-data-set"}


def test_a_bin_file_as_data_needs_no_protocol(tmp_path, networks) -> None:
    path = tmp_path / "few.bin"
    images = [
        encode_png(draw_face(person, number))
        for person, number in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (1, 0)]
    ]
    path.write_bytes(pickle.dumps((images, [True, True, False])))
    assert evaluate(path, tmp_path / "out", networks, bootstrap=0).protocol == "bin"
    with pytest.raises(DataError) as caught:
        evaluate(path, tmp_path / "other", networks, protocol="lfw")
    assert "without --protocol" in caught.value.hint


def test_the_next_command_measures_the_same_with_super_resolution(tmp_path) -> None:
    config = EvaluateConfig(data=tmp_path, vlr_size=SIZE, protocol="bin", recogniser=Path("net.pt"))
    again = ["dsrface", "evaluate", str(tmp_path), "--vlr-size", str(SIZE), "--dsr", "RUN"]
    options = ["--recogniser", "net.pt", "--protocol", "bin"]
    found = benchmark._next_command(config, tmp_path, has_recogniser=True)
    assert found == shlex.join([*again, *options])
    bare = config.model_copy(update={"recogniser": None, "dsr": Path("runs/dsr")})
    found = benchmark._next_command(bare, tmp_path, has_recogniser=False)
    assert "--recogniser WEIGHTS --dsr runs/dsr" in found
