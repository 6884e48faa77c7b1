"""dsrface with one more entry in a catalogue; reads command lines as JSON lists, one a line, from stdin."""

from __future__ import annotations

import json
import sys

from pydantic import Field

from dsrface.config import catalogue
from dsrface.config.dsr_networks import DsrTable


class MadeUpTable(DsrTable):
    arch: str = "made_up"
    strength: int = Field(1, ge=1, description="How strong.")


def add(kind: str) -> None:
    networks = "tests.catalogue.made_up_networks"
    if kind == "recogniser":
        catalogue.RECOGNISERS["made_up"] = catalogue.Recogniser("made up", f"{networks}:MadeUpRecogniser")
    elif kind == "head":
        catalogue.HEADS["made_up"] = catalogue.Head("made up", f"{networks}:MadeUpHead", 0.1)
    elif kind == "dsr":
        entry = catalogue.DsrNetwork("made up", MadeUpTable, f"{networks}:MadeUpDsr")
        catalogue.DSR_NETWORKS["made_up"] = entry
    elif kind == "protocol":
        entry = catalogue.Protocol("VLR gallery against HR probes", has_low_gallery=True, has_low_probe=False)
        catalogue.PROTOCOLS["LR-HR"] = entry
    elif kind == "benchmark":
        read = "dsrface.data.benchmarks.verifications:read_lfw"
        entry = catalogue.PublishedBenchmark("made up", read, {"name": "made_up"}, takes_pairs=True)
        catalogue.BENCHMARKS["made_up"] = entry
    else:
        raise ValueError(kind)


if __name__ == "__main__":
    add(sys.argv[1])
    from dsrface.cli.app import run  # after the entry: configurations read the lists when they are defined

    codes = [run(json.loads(line)) for line in sys.stdin.read().splitlines()]
    sys.exit(max(codes))
