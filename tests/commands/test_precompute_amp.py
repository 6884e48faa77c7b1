"""What bf16 costs in precomputed pixels, as docs/cache-format.md states it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.dsr_model import DsrConfig
from dsrface.data.degrade import Degradation, degrade
from dsrface.data.synthetic.drawing import draw_face
from dsrface.engine.inference import super_resolve
from dsrface.models.dsr import build_dsr
from dsrface.runtime.devices import choose_device


@pytest.mark.parametrize("arch", DSR_NETWORKS)
def test_bf16_stays_within_the_stated_tolerance_of_fp32(arch: str) -> None:
    torch.manual_seed(0)
    model = build_dsr(
        DsrConfig.model_validate({"arch": arch, "vlr_size": 16, "channels": 16, "blocks": 2})
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    kind = Degradation(kind="classic", size_px=16, seed=0)
    faces = [degrade(draw_face(n, 0), kind, rng=np.random.default_rng(n)) for n in range(8)]
    low = torch.from_numpy(np.stack(faces))
    plain, reduced = (
        super_resolve(model, low, device=choose_device("cpu", amp=amp)).numpy().astype(int)
        for amp in ("fp32", "bf16")
    )
    bicubic_only = super_resolve(build_dsr(DsrConfig(vlr_size=16)).eval(), low, device=choose_device("cpu"))
    assert np.abs(plain - bicubic_only.numpy()).max() > 10  # the network adds something that could differ
    difference = np.abs(plain - reduced)
    assert 0 < difference.max() <= 2
    assert difference.mean() <= 0.25
