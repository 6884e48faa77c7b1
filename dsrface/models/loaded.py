"""A loaded network with what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.errors import UsageError
from dsrface.types import HIGH_SIZE_PX, Preprocess


@dataclass(frozen=True)
class LoadedModel:
    """A network that passed every check, in evaluation mode.

    Args:
        model: The network, on the device that was asked for.
        kind: `"dsr"` or `"recogniser"`.
        config: What rebuilds it: DsrConfig's fields, or `{"variant": ...}`.
        preprocess: How it wants its images; the size is that of its input.
        sha256: Of the file's bytes, in hex.
        path: The file, or what was named instead of one.
        metadata: Everything the file says about itself; empty for files of others.
        has_gradient: Whether it can be differentiated; an ONNX graph cannot.
    """

    model: nn.Module
    kind: str
    config: dict[str, Any]
    preprocess: Preprocess
    sha256: str
    path: Path
    metadata: dict[str, str]
    has_gradient: bool = True

    @property
    def name(self) -> str:
        """Name of the architecture, or what was named instead of one."""
        return str(self.config.get("variant") or self.config["arch"])

    def require_gradient(self, purpose: str) -> None:
        """Refuse a network that cannot be differentiated.

        Args:
            purpose: What it was to be used for, for the message.

        Raises:
            UsageError: id `no-gradient`.
        """
        if not self.has_gradient:
            raise UsageError(
                f"{self.name} has no gradient, so it cannot be {purpose}; it can only measure.",
                id="no-gradient",
                where=self.path,
                hint="Use a checkpoint of a known architecture, TorchScript or a torch module of your own.",
            )

    @property
    def vlr_size(self) -> int | None:
        """Side of the images that a DSR takes, in pixels; None when it takes any."""
        network = DSR_NETWORKS.get(str(self.config.get("arch")))
        if network is not None and network.takes_any_size:
            return None
        size = self.config.get("vlr_size")
        return None if size is None else int(size)

    @property
    def high_size(self) -> int:
        """Side of the images that a DSR gives, in pixels; networks of others give what they are asked for."""
        return int(self.config.get("high_size", HIGH_SIZE_PX))
