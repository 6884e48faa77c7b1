"""The shape of a super-resolution network, as presets and weight files hold it (no torch here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_serializer, model_validator

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.dsr_networks import DsrTable, HybridTable, ResidualTable
from dsrface.config.fields import HighSize, VlrSize
from dsrface.config.sources import Config
from dsrface.types import HIGH_SIZE_PX

DEFAULT_ARCH = "residual"
_SIZES = ("vlr_size", "high_size")
# A table with all of these was written by a version that stored the options of both networks in one.
_BOTH = ResidualTable.model_fields.keys() | HybridTable.model_fields.keys()


def _own_options(value: object) -> object:
    """Name the network of a table, and drop the other one's options where an earlier version stored them."""
    if not isinstance(value, dict):
        return value
    table = {"arch": DEFAULT_ARCH, **value}
    network = DSR_NETWORKS.get(str(table["arch"]))
    if network is None or not table.keys() >= _BOTH:
        return table
    return {key: item for key, item in table.items() if key in network.table.model_fields}


def _arch_of(value: object) -> str:
    return str(value.get("arch") if isinstance(value, dict) else getattr(value, "arch", None))


if TYPE_CHECKING:
    AnyDsrTable = DsrTable
else:
    _TAGGED = tuple(Annotated[network.table, Tag(name)] for name, network in DSR_NETWORKS.items())
    AnyDsrTable = Annotated[
        Union[_TAGGED],  # noqa: UP007 - of a list
        Discriminator(
            _arch_of,
            custom_error_type="unknown_arch",
            custom_error_message=f"arch should be one of: {', '.join(DSR_NETWORKS)}",
        ),
        BeforeValidator(_own_options),
    ]


class DsrConfig(Config):
    """Everything that `build_dsr` needs; given and stored flat, as the weight file has it."""

    vlr_size: VlrSize = Field(16, description="Side of the low-resolution input, in pixels.")
    high_size: HighSize = Field(HIGH_SIZE_PX, description="Side of the output, in pixels.")
    network: AnyDsrTable

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "network" in values:
            return values
        table = {key: value for key, value in values.items() if key not in _SIZES}
        return {"network": table} | {key: values[key] for key in _SIZES if key in values}

    @model_serializer(mode="plain")
    def _flat(self) -> dict[str, Any]:
        return {
            "vlr_size": self.vlr_size,
            "high_size": self.high_size,
            **self.network.model_dump(mode="json"),
        }

    @property
    def arch(self) -> str:
        """Name of the architecture."""
        return self.network.arch
