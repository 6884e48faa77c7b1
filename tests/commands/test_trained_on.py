"""What `evaluate` says of networks that have seen the persons, and of those that have not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsrface.commands.evaluate import run
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.evaluate import EvaluateConfig
from dsrface.data.layout import open_data
from dsrface.models.dsr import build_dsr
from dsrface.models.weights import save_model
from dsrface.types import Preprocess


def limits(data: Path, out: Path, split: str, extra: dict[str, str]) -> str:
    shape = DsrConfig(vlr_size=16, channels=4, blocks=1)
    save_model(
        out / "dsr.safetensors",
        build_dsr(shape),
        kind="dsr",
        config=shape.model_dump(),
        preprocess=Preprocess(16),
        extra=extra,
    )
    config = EvaluateConfig(
        data=data,
        vlr_size=16,
        split=split,
        dsr=out / "dsr.safetensors",
        out=out / "ev",
        bootstrap=0,
        device="cpu",
        workers=0,
    )
    return "\n".join(run(config, emit=lambda event: None).evaluation.limits)


@pytest.mark.parametrize(
    ("split", "words"), [("train", "trained on these persons"), ("val", "chosen on the val persons")]
)
def test_only_what_is_recorded_is_said(tiny_data, tmp_path, split, words):
    digest = open_data(tiny_data).source_digest
    assert words in limits(tiny_data, tmp_path / "same", split, {"data_sha256": digest})
    other = limits(tiny_data, tmp_path / "other", split, {"data_sha256": "f" * 64})
    assert words not in other
    assert "Which data set the networks were trained on" not in other
    assert "Which data set the networks were trained on" in limits(tiny_data, tmp_path / "unknown", split, {})


def test_the_test_split_was_seen_by_nobody(tiny_data, tmp_path):
    found = limits(tiny_data, tmp_path / "same", "test", {"data_sha256": open_data(tiny_data).source_digest})
    assert "trained on these persons" not in found
