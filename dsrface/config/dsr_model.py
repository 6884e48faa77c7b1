"""The shape of a super-resolution network, as presets and weight files hold it (no torch here)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dsrface.config.fields import VlrSize
from dsrface.config.sources import Config


class DsrTable(Config):
    """Size of the super-resolution network: the `[model]` table of a train-dsr preset."""

    arch: Literal["residual", "hybrid"] = Field(
        "residual",
        description="`residual`: convolutions at the VLR size; `hybrid`: max-feature-map CNN and attention.",
    )
    channels: int = Field(32, ge=4, le=1024, description="Feature channels of every block.")
    blocks: int = Field(6, ge=1, le=128, description="Number of residual blocks.")
    positions: bool = Field(
        True,
        description="residual: a learned value per VLR position and channel, as aligned faces have fixed "
        "places.",
    )
    mixer_rank: int = Field(
        0,
        ge=0,
        le=1024,
        description="residual: hidden units of a block's map over all VLR positions; 0: none.",
    )
    attention_layers: int = Field(
        3, ge=1, le=32, description="hybrid: self-attention layers over all VLR tokens."
    )
    attention_heads: int = Field(
        4, ge=1, le=32, description="hybrid: heads of each layer; divides `channels`."
    )
    gate_hidden: int = Field(1024, ge=1, le=4096, description="hybrid: hidden units of each block's gate.")
    tail_channels: int = Field(32, ge=4, le=512, description="hybrid: feature channels at 112x112.")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.arch == "hybrid" and self.channels % self.attention_heads:
            raise ValueError(
                f"attention_heads = {self.attention_heads} does not divide channels = {self.channels}"
            )
        return self


class DsrConfig(DsrTable):
    """Everything that `build_dsr` needs; stored in the weight file."""

    vlr_size: VlrSize = Field(16, description="Side of the low-resolution input, in pixels.")
