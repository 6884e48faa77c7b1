"""dsrface with a published efficient network, built by spandrel, in its catalogue of DSRs.

    python benchmarks/other_networks.py train-dsr DATA --preset tiny --set model.arch=safmn

Importing this adds the entry; it comes before dsrface, whose configurations read the catalogue once.
"""

from __future__ import annotations

from torch import nn

from dsrface.config.catalogue import DSR_NETWORKS, DsrNetwork
from dsrface.config.dsr_networks import DsrTable

LEARNING_RATES = {"safmn": 3e-3}  # the better of 1e-3 and 3e-3 on val persons


def safmn(options: DsrTable, vlr_size: int, high_size: int) -> nn.Module:
    """Return SAFMN (arXiv:2302.13800) with 8 blocks of 36 channels."""
    from spandrel.architectures.SAFMN import SAFMN

    del options
    return SAFMN(dim=36, n_blocks=8, ffn_scale=2.0, upscaling_factor=high_size // vlr_size)


for _name in LEARNING_RATES:
    DSR_NETWORKS[_name] = DsrNetwork(f"{_name}, by spandrel", DsrTable, f"other_networks:{_name}")


if __name__ == "__main__":
    from dsrface.cli import main

    main()
