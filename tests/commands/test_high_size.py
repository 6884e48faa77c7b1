"""HR faces of 128 px, as published tables of face super-resolution have them: photos, training, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsrface.commands import evaluate, prepare, train_dsr
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.prepare import PrepareConfig
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.layout import open_data
from dsrface.data.synthetic.drawing import draw_face
from dsrface.errors import DataError, UsageError
from dsrface.models.weights import load_dsr
from tests.commands.networks import write_dsr


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("high")
    for person in range(6):
        for number in range(2):
            path = folder / "photos" / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_face(person, number, size_px=178)).save(path)
    settings = {"high_size": 128, "align": "resize", "vlr_sizes": (16,), "split": (0.4, 0.3, 0.3)}
    config = {"source": folder / "photos", "data": folder / "data", "workers": 0, **settings}
    prepare.run(PrepareConfig.model_validate(config), emit=lambda _: None)
    return folder


def evaluated(root: Path, out: Path, **settings):
    given = {"vlr_size": 16, "bootstrap": 0, "device": "cpu", "workers": 0, **settings}
    return evaluate.run(EvaluateConfig(data=root / "data", out=out, **given), emit=lambda _: None)


def by_hand(root: Path) -> float:
    """The mean PSNR of Y of Pillow's bicubic from 16 to 128 px."""
    from skimage.color import rgb2ycbcr

    found = []
    for path in sorted((root / "data" / "test" / "hr_images").rglob("*.png")):
        high = Image.open(path)
        assert high.size == (128, 128)
        small = high.resize((16, 16), Image.Resampling.BICUBIC)
        both = (high, small.resize((128, 128), Image.Resampling.BICUBIC))
        lumas = [rgb2ycbcr(np.asarray(image))[..., 0] for image in both]
        found.append(10 * np.log10(255**2 / np.mean((lumas[0] - lumas[1]) ** 2)))
    return float(np.mean(found))


def test_a_dsr_is_trained_and_measured_at_128_px(root, tmp_path) -> None:
    assert open_data(root / "data", high_sizes=(112, 128)).high_px == 128
    config = TrainDsrConfig(
        data=root / "data",
        vlr_size=16,
        run=tmp_path / "run",
        epochs=1,
        workers=0,
        device="cpu",
        model={"arch": "residual", "channels": 8, "blocks": 1},
    )
    trained = train_dsr.run(config, emit=lambda _: None)
    assert trained.next_command.startswith("dsrface evaluate")
    assert load_dsr(tmp_path / "run", high_size=128).high_size == 128
    code = "def net():\n    return lambda x: x.reshape(len(x), 3, 112, 112)[..., ::8, ::8].flatten(1)\n"
    (tmp_path / "pixels_at_112.py").write_text(code, encoding="utf-8")
    recogniser = Path(f"{tmp_path / 'pixels_at_112.py'}:net")
    result = evaluated(root, tmp_path / "out", dsr=tmp_path / "run", recogniser=recogniser)
    assert result.evaluation.high_size == 128
    bicubic, dsr = result.evaluation.quality
    assert bicubic.psnr_y_db.value == pytest.approx(by_hand(root), abs=0.02)
    assert dsr.psnr_y_db.value is not None
    assert {cell.images for cell in result.evaluation.cells} >= {"bicubic", "DSR", "HR"}
    assert "16 to 128 px" in Path(result.location).read_text("utf-8")
    assert "psnr_y_db_DSR" in (tmp_path / "out" / "images.csv").read_text("utf-8")


def test_networks_of_others_are_made_to_give_128_px(root, tmp_path) -> None:
    code = "from torch.nn.functional import interpolate\ndef net():\n    return lambda low: "
    (tmp_path / "eight_times.py").write_text(f"{code}interpolate(low, scale_factor=8)\n", encoding="utf-8")
    result = evaluated(root, tmp_path / "out", dsr=Path(f"{tmp_path / 'eight_times.py'}:net"))
    assert [item.images for item in result.evaluation.quality] == ["bicubic", "DSR"]


def test_what_recognisers_see_stays_at_112_px(root, tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        open_data(root / "data")
    assert caught.value.id == "wrong-hr-size"
    with pytest.raises(UsageError) as refused:
        evaluated(root, tmp_path / "out", dsr=write_dsr(tmp_path / "dsr112.safetensors"))
    assert refused.value.id == "wrong-dsr-size"
    with pytest.raises(DataError) as caught:
        evaluated(root, tmp_path / "out", dsr_outputs=tmp_path)
    assert caught.value.id == "wrong-hr-size"
    with pytest.raises(ValueError, match="no HR twins"):
        PrepareConfig(source=tmp_path, data=tmp_path / "data", native=True, high_size=128)
