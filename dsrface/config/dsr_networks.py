"""Options of each super-resolution network: the `[model]` table of a train-dsr preset (no torch here)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dsrface.config.sources import Config

_ARCH = "Which network; each has options of its own."


class DsrTable(Config):
    """What every super-resolution network has."""

    arch: str = Field(description=_ARCH)
    channels: int = Field(32, ge=4, le=1024, description="Feature channels of every block.")
    blocks: int = Field(6, ge=1, le=128, description="Number of residual blocks.")


class ResidualTable(DsrTable):
    """Options of `residual`."""

    arch: Literal["residual"] = Field("residual", description=_ARCH)
    positions: bool = Field(
        True,
        description="A learned value per VLR position and channel, as aligned faces have fixed places.",
    )
    mixer_rank: int = Field(
        0, ge=0, le=1024, description="Hidden units of a block's map over all VLR positions; 0: none."
    )


class AnySizeTable(DsrTable):
    """Options of `any_size`."""

    arch: Literal["any_size"] = Field("any_size", description=_ARCH)
    mixer_rank: int = Field(
        32, ge=0, le=1024, description="Hidden units of a block's map over all positions; 0: none."
    )


class HybridTable(DsrTable):
    """Options of `hybrid`."""

    arch: Literal["hybrid"] = Field("hybrid", description=_ARCH)
    attention_layers: int = Field(3, ge=1, le=32, description="Self-attention layers over all VLR tokens.")
    attention_heads: int = Field(4, ge=1, le=32, description="Heads of each layer; divides `channels`.")
    gate_hidden: int = Field(1024, ge=1, le=4096, description="Hidden units of each block's gate.")
    tail_channels: int = Field(32, ge=4, le=512, description="Feature channels at 112x112.")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.channels % self.attention_heads:
            raise ValueError(
                f"attention_heads = {self.attention_heads} does not divide channels = {self.channels}"
            )
        return self
