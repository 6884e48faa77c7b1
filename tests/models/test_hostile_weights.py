"""Weight files made to hang, to fill memory or to mislead: refused soon, and for the right reason."""

from __future__ import annotations

import json
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from dsrface.config.catalogue import DSR_NETWORKS
from dsrface.config.dsr_model import DsrConfig
from dsrface.errors import MachineError, WeightsError
from dsrface.models.dsr import build_dsr
from dsrface.models.weight_files import read_tensors
from dsrface.models.weights import load_any, load_dsr, save_model
from dsrface.types import Preprocess

CONFIG = DsrConfig(vlr_size=16, channels=4, blocks=1)


def refused(call, path: Path) -> WeightsError:
    before = psutil.Process().memory_info().rss
    with pytest.raises(WeightsError) as caught:
        call(path)
    assert psutil.Process().memory_info().rss - before < 300 * 1024**2
    assert "weights_only=False" not in caught.value.hint
    return caught.value


def claim(path: Path, **metadata: str) -> Path:
    """Write a small file that says of itself what it likes."""
    save_file(dict(build_dsr(CONFIG).state_dict()), path, metadata=metadata)
    return path


def ours(**changes: str) -> dict[str, str]:
    config = json.dumps(CONFIG.model_dump())
    return {
        "format": "dsrface",
        "schema": "1",
        "kind": "dsr",
        "config": config,
        "preprocess": Preprocess(16).to_json(),
    } | changes


@pytest.mark.parametrize("key", ["state_dict", "model"])
@pytest.mark.timeout(60)
def test_a_dict_that_holds_itself_has_no_tensors(tmp_path, key):
    loop: dict[str, object] = {}
    loop[key] = {"state_dict": loop}
    torch.save(loop, tmp_path / "x.pt")
    assert refused(read_tensors, tmp_path / "x.pt").id == "weights-no-tensors"


@pytest.mark.parametrize("entry", ["x/data/0", "x/data.pkl", "x/version"])
@pytest.mark.timeout(60)
def test_an_archive_that_unpacks_to_more_than_it_is_is_not_unpacked(tmp_path, entry):
    path = tmp_path / "bomb.pt"
    torch.save(OrderedDict(a=torch.zeros(3)), path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(entry, "w", force_zip64=True) as handle,
    ):
        for _ in range(400):
            handle.write(bytes(2**20))
    error = refused(read_tensors, path)
    assert error.id == "weights-damaged"
    assert "compresses nothing" in error.message


@pytest.mark.parametrize("arch", DSR_NETWORKS)
@pytest.mark.timeout(60)
def test_a_small_file_cannot_ask_for_a_huge_network(tmp_path, arch):
    sizes = {"channels": 1024, "blocks": 128, "gate_hidden": 4096, "attention_layers": 32}
    own = DSR_NETWORKS[arch].table.model_fields
    huge = {"arch": arch, "vlr_size": 16} | {key: sizes[key] for key in sizes.keys() & own}
    path = claim(tmp_path / "huge.safetensors", **ours(config=json.dumps(huge)))
    assert refused(load_dsr, path).id == "weights-mismatch"


@pytest.mark.parametrize("start", [b"\x80", b"\x80\x02", b"PK", b"PK\x03\x04"])
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_damage(tmp_path, start, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (5000,), dtype=torch.uint8, generator=generator).numpy().tobytes()
    (tmp_path / "noise.pt").write_bytes(start + noise)
    error = refused(load_any, tmp_path / "noise.pt")
    assert error.id == "weights-damaged"
    assert "weights_only" not in error.message  # torch's advice for such a file


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run > pwned",)


@pytest.mark.parametrize("version", ["2.4.1", "2.5.1+cu124"])
def test_a_torch_that_would_run_code_reads_no_pickle_at_all(tmp_path, monkeypatch, version):
    torch.save({"a": torch.zeros(3)}, tmp_path / "plain.pt")
    assert set(read_tensors(tmp_path / "plain.pt")[0]) == {"a"}
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(MachineError, match="CVE-2025-32434"):
        read_tensors(tmp_path / "plain.pt")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_calls_is_called_unsafe_and_never_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"state_dict": Evil()}, protocol=protocol)
    if protocol:  # the oldest has no mark of its own: it is no weight file at all
        (tmp_path / "evil.pt").write_bytes(data)
        assert refused(load_any, tmp_path / "evil.pt").id == "unsafe-pickle"
        (tmp_path / "evil.pt").write_bytes(data[: len(data) // 2])
    else:
        (tmp_path / "evil.pt").write_bytes(data)
    assert refused(load_any, tmp_path / "evil.pt").id == "weights-damaged"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": "[" * 100_000},
        {"config": '{"a":' * 100_000},
        {"preprocess": "[" * 100_000},
        {"preprocess": "1"},
        *(
            {
                "preprocess": json.dumps(
                    {"size_px": 16, "mean": [0, 0, 0], "std": [1, 1, 1], "colour": "RGB"} | change
                )
            }
            for change in (
                {"mean": [math.nan, 0, 0]},
                {"std": [0, 1, 1]},
                {"std": [1, 1]},
                {"size_px": 10**9},
                {"size_px": True},
                {"size_px": 16.5},
                {"colour": "\x1b[31m"},
            )
        ),
    ],
)
def test_metadata_that_no_network_can_have_is_refused(tmp_path, changes):
    error = refused(load_dsr, claim(tmp_path / "m.safetensors", **ours(**changes)))
    assert error.id == "weights-metadata"
    assert error.hint


def test_a_network_of_zeros_is_no_network(tmp_path):
    model = build_dsr(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    save_model(
        tmp_path / "z.safetensors", model, kind="dsr", config=CONFIG.model_dump(), preprocess=Preprocess(16)
    )
    error = refused(load_dsr, tmp_path / "z.safetensors")
    assert (error.id, "zero" in error.message) == ("canary", True)
