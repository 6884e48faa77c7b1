"""Small networks as weight files, for tests that need some network but not a good one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_recogniser(path: Path, *, seed: int) -> Path:
    import torch

    from dsrface.config.catalogue import RECOGNISER_INPUT
    from dsrface.models.recognisers import build_recogniser
    from dsrface.models.weights import save_model

    torch.manual_seed(seed)
    model = build_recogniser("edgeface_xxs", layer_scale=0.5)
    save_model(
        path,
        model,
        kind="recogniser",
        config={"variant": "edgeface_xxs"},
        preprocess=RECOGNISER_INPUT,
    )
    return path


def write_dsr(
    path: Path, *, size_px: int = 16, tail: float = 0.0, extra: Mapping[str, str] | None = None
) -> Path:
    """Write a DSR that equals bicubic, or one that adds noise of about `tail` to it."""
    import torch

    from dsrface.config.dsr_model import DsrConfig
    from dsrface.models.dsr import build_dsr
    from dsrface.models.weights import save_model
    from dsrface.types import Preprocess

    torch.manual_seed(0)
    config = DsrConfig(vlr_size=size_px, channels=8, blocks=1)
    model = build_dsr(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("tail"):
                parameter.normal_(0, tail) if tail else parameter.zero_()
    preprocess = Preprocess(size_px=size_px)
    save_model(path, model, kind="dsr", config=config.model_dump(), preprocess=preprocess, extra=extra)
    return path
