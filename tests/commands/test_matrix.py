"""The matrix of super-resolution networks over degradations and sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dsrface.cli.evaluate_table import render_evaluation
from dsrface.commands.evaluate import run
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.decode import read_image
from dsrface.data.layout import open_data
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr


def test_a_network_that_is_named_twice_is_measured_once(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", persons=(2, 2, 3), images=2)
    dsr = write_dsr(tmp_path / "dsr.safetensors")
    config = EvaluateConfig(
        data=data, out=tmp_path / "out", vlr_size=16, dsr=dsr, matrix=(dsr,), device="cpu", bootstrap=0
    )
    result = run(config, emit=lambda _: None)
    assert len(result.evaluation.matrix) == 2 * 3
    console = Console(width=80, record=True, file=io.StringIO())
    render_evaluation(result, console)
    shown = console.export_text()
    assert "…" not in shown
    assert "16 px 24 px 32 px" in shown


def test_every_network_is_measured_on_every_degradation_and_size(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", persons=(2, 2, 3), images=2)
    same = write_dsr(tmp_path / "same.safetensors")  # equals bicubic from 16 px
    small = write_dsr(tmp_path / "small.safetensors", size_px=24)
    config = EvaluateConfig(
        data=data, out=tmp_path / "out", vlr_size=16, dsr=same, matrix=(small,), device="cpu", bootstrap=0
    )
    found = run(config, emit=lambda _: None).evaluation.matrix
    assert len(found) == 2 * 2 * 3
    gains = {(Path(cell.network).stem, cell.degradation, cell.size_px): cell.gain_db.value for cell in found}
    for kind in ("classic", "realistic"):
        assert gains["same", kind, 16] == pytest.approx(0, abs=1e-6)
        assert gains["small", kind, 24] == pytest.approx(0, abs=1e-6)
    assert {cell.trained_on for cell in found} == {"not recorded, 16 px", "not recorded, 24 px"}
    # By hand: faces of 32 px are reduced to 16 for the first network, which then is bicubic.
    split = open_data(data).split("test")
    expected = []
    for name in split.names:
        high = Image.fromarray(read_image(split.high_dir / name))
        low = high.resize((32, 32), Image.Resampling.BICUBIC)
        made = [
            np.asarray(image.resize((112, 112), Image.Resampling.BICUBIC), float)
            for image in (low.resize((16, 16), Image.Resampling.BICUBIC), low)
        ]
        errors = [np.mean((image - np.asarray(high, float)) ** 2) for image in made]
        expected.append(10 * np.log10(errors[1] / errors[0]))
    assert gains["same", "classic", 32] == pytest.approx(np.mean(expected), abs=0.02)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Trained on one degradation and size, tested on another" in page
