"""`dsrface embed` on drawn faces."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dsrface.commands.embed import run
from dsrface.config.embed import EmbedConfig
from dsrface.data.decode import write_png
from dsrface.errors import DataError, ImageError, WeightsError
from dsrface.metrics.verification import auc
from tests.commands.networks import write_dsr, write_recogniser


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Path:
    return write_recogniser(tmp_path_factory.mktemp("embed") / "r.safetensors", seed=0)


@pytest.fixture
def faces(tiny_data, tmp_path) -> Path:
    shutil.copytree(tiny_data / "test" / "hr_images", tmp_path / "faces")
    return tmp_path / "faces"


def embed(faces: Path, recogniser: Path, out: Path, **settings) -> tuple:
    events = []
    config = EmbedConfig(images=faces, weights=recogniser, out=out, device="cpu", **settings)
    result = run(config, emit=events.append)
    with np.load(out, allow_pickle=False) as stored:
        return result, stored["names"], stored["embeddings"], events


def test_embed__names_and_unit_embeddings(faces, recogniser, tmp_path) -> None:
    result, names, embeddings, _ = embed(faces, recogniser, tmp_path / "e.npz")
    expected = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.png"))
    assert names.tolist() == expected
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (8, 512)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert (result.num_images, result.dim, result.skipped) == (8, 512, ())
    assert "8 embeddings" in result.summary
    assert result.to_dict()["is_normalised"] is True


def test_embed__equals_the_network_by_hand(faces, recogniser, tmp_path) -> None:
    import torch
    from PIL import Image

    from dsrface.models.weights import load_recogniser

    _, names, embeddings, _ = embed(faces, recogniser, tmp_path / "e.npz", normalize=False)
    loaded = load_recogniser(recogniser)
    pixels = np.asarray(Image.open(faces / names[3])).astype(np.float32)
    with torch.no_grad():
        expected = loaded.model(torch.from_numpy(pixels / 255 * 2 - 1).permute(2, 0, 1)[None])[0]
    np.testing.assert_allclose(embeddings[3], expected.numpy(), rtol=1e-3, atol=1e-4)
    assert abs(np.linalg.norm(embeddings[3]) - 1) > 0.01


def test_embed__batches_and_threads_change_nothing(faces, recogniser, tmp_path) -> None:
    _, _, one, _ = embed(faces, recogniser, tmp_path / "a.npz", batch_size=3, workers=1)
    _, _, other, _ = embed(faces, recogniser, tmp_path / "b.npz", batch_size=64, workers=4)
    np.testing.assert_allclose(one, other, atol=1e-5)
    embed(faces, recogniser, tmp_path / "c.npz", batch_size=64, workers=0)
    assert (tmp_path / "c.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_embed__wrong_size_is_refused_by_name_and_writes_nothing(faces, recogniser, tmp_path) -> None:
    write_png(faces / "zoe" / "big.png", np.zeros((120, 112, 3), np.uint8))
    with pytest.raises(ImageError) as caught:
        embed(faces, recogniser, tmp_path / "out" / "e.npz")
    assert caught.value.id == "wrong-size"
    assert "--dsr" in caught.value.hint
    assert "112x120" in caught.value.message
    assert caught.value.where.endswith("big.png")
    assert not list(tmp_path.glob("out/*"))


def test_embed__skip_lists_bad_images_and_goes_on(faces, recogniser, tmp_path) -> None:
    write_png(faces / "zoe" / "big.png", np.zeros((120, 112, 3), np.uint8))
    (faces / "a_broken.png").write_bytes(b"\x89PNG nothing")
    (faces / "empty.jpg").write_bytes(b"")
    result, names, embeddings, events = embed(
        faces, recogniser, tmp_path / "e.npz", on_bad_image="skip", batch_size=2
    )
    assert len(names) == len(embeddings) == 8
    assert {item["name"]: item["reason"] for item in result.skipped} == {
        "a_broken.png": "not-an-image",
        "empty.jpg": "empty-file",
        "zoe/big.png": "wrong-size",
    }
    assert "3 left out" in result.summary
    assert sum("skipped" in getattr(event, "message", "") for event in events) == 3


def test_embed__nothing_usable(recogniser, tmp_path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no")
    with pytest.raises(DataError) as caught:
        embed(tmp_path / "bad", recogniser, tmp_path / "e.npz", on_bad_image="skip")
    assert caught.value.id == "nothing-usable"


@pytest.mark.parametrize(("make", "error_id"), [(True, "no-images"), (False, "folder-missing")])
def test_embed__no_images(recogniser, tmp_path, make, error_id) -> None:
    if make:
        (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        embed(tmp_path / "none", recogniser, tmp_path / "e.npz")
    assert caught.value.id == error_id


def test_embed__one_image_and_odd_names(faces, recogniser, tmp_path) -> None:
    odd = tmp_path / "ünïcode [x] name.png"
    shutil.copy(next(faces.rglob("*.png")), odd)
    _, names, embeddings, _ = embed(odd, recogniser, tmp_path / "e.npz")
    assert names.tolist() == [odd.name]
    assert embeddings.shape == (1, 512)


def test_embed__a_dsr_is_no_recogniser(faces, tmp_path) -> None:
    with pytest.raises(WeightsError) as caught:
        embed(faces, write_dsr(tmp_path / "d.safetensors"), tmp_path / "e.npz")
    assert caught.value.id == "weights-wrong-kind"


def test_embed__the_output_is_an_npz() -> None:
    with pytest.raises(ValueError, match=r"\.npz"):
        EmbedConfig(images=Path("a"), weights=Path("b"), out=Path("c.npy"))


def test_embed__embeddings_tell_drawn_persons_apart(faces, recogniser, tmp_path) -> None:
    """Even a random network keeps some of what it sees; the names are in the order of the rows."""
    _, names, embeddings, _ = embed(faces, recogniser, tmp_path / "e.npz")
    persons = np.array([name.split("/")[0] for name in names])
    first, second = np.triu_indices(len(names), 1)
    scores = np.sum(embeddings[first] * embeddings[second], axis=1)
    assert auc(scores, persons[first] == persons[second]) > 0.6


def test_embed__dsr_takes_small_faces(tiny_data, recogniser, tmp_path) -> None:
    from dsrface.data.augment import to_image01
    from dsrface.data.decode import read_image
    from dsrface.engine.inference import embed as embed_images
    from dsrface.engine.inference import super_resolve
    from dsrface.models.weights import load_dsr, load_recogniser
    from dsrface.runtime.devices import choose_device

    dsr = write_dsr(tmp_path / "d.safetensors", tail=0.05)
    small = tiny_data / "test" / "vlr_images_16x16"
    with pytest.raises(ImageError):
        embed(small, recogniser, tmp_path / "e.npz")
    _, names, embeddings, _ = embed(small, recogniser, tmp_path / "e.npz", dsr=dsr)
    device = choose_device("cpu", amp="fp32")
    low = torch.from_numpy(read_image(small / names[2]))[None]
    high = to_image01(super_resolve(load_dsr(dsr).model, low, device=device))
    loaded = load_recogniser(recogniser)
    wanted = embed_images(loaded.model, high, loaded.preprocess, device=device)[0]
    np.testing.assert_allclose(embeddings[2], wanted.numpy(), atol=1e-5)
