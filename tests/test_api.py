"""The public names: pinned, lazy, typed, and their examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsrface

NAMES = [
    "Batch",
    "DsrfaceError",
    "LoadedModel",
    "Preprocess",
    "Report",
    "assert_workers_safe",
    "embed",
    "evaluate",
    "examine",
    "load_dsr",
    "load_recogniser",
    "open_data",
    "open_outputs",
    "super_resolve",
]
FUNCTIONS = [name for name in NAMES if name.islower()]


def test_names_are_the_ones_that_people_import():
    """Names may be added; none may go or be renamed."""
    assert sorted(vars(dsrface)["__all__"]) == NAMES


def test_the_stub_lists_the_same_names():
    stub = ast.parse(Path(dsrface.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = {
        alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(NAMES)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, dsrface; print([n for n in ('torch', 'numpy', 'pydantic', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_doctor_needs_no_package_of_the_pipeline():
    """torchvision pins torch: whoever wants the doctor alone keeps the torch that is there."""
    code = """
import sys
sys.modules["timm"] = sys.modules["torchvision"] = None  # importing them fails
import dsrface
print(dsrface.examine(range(9), probe=False, budget_s=3).exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "0", done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        dsrface.nonsense  # type: ignore[attr-defined] # noqa: B018


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as the examples have it: data/, dsr.safetensors, recogniser.safetensors."""
    from tests.commands.conftest import make_data
    from tests.commands.networks import write_dsr, write_recogniser

    root = tmp_path_factory.mktemp("api")
    make_data(root / "data", persons=(4, 2, 2), images=2)
    write_dsr(root / "dsr.safetensors", tail=0.05)
    write_recogniser(root / "recogniser.safetensors", seed=0)
    return root


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "open_outputs"])
def test_examples_print_what_they_say(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names = {"dsrface": dsrface, "numpy": importlib.import_module("numpy")}
    [found] = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(getattr(dsrface, name), name, globs=names)
        if test.examples
    ]
    assert doctest.DocTestRunner().run(found).failed == 0


def test_the_block_of_the_page_runs_a_command(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(workplace / "data" / "train" / "hr_images", "photos")
    page = Path(__file__).resolve().parents[1] / "docs" / "api.md"
    block = page.read_text(encoding="utf-8").split("```python\n")[1].partition("```")[0]
    exec(compile(block, str(page), "exec"), {})
    assert "dsrface train-dsr data" in capsys.readouterr().out
    assert (tmp_path / "data" / "dataset.json").exists()


def test_outputs_are_what_super_resolve_gives(workplace, monkeypatch):
    import numpy as np
    import torch

    from dsrface.commands.precompute import run
    from dsrface.config.precompute import PrecomputeConfig
    from dsrface.data.decode import read_sized

    monkeypatch.chdir(workplace)
    run(PrecomputeConfig(data=Path("data"), weights=Path("dsr.safetensors"), amp="fp32"), emit=lambda _: None)
    data = dsrface.open_data("data")
    source = dsrface.open_outputs(
        data, "data/train/dsr_outputs_16x16", vlr_size=16, batch_size=3, shuffle=False
    )
    batches = [(batch.inputs.clone(), batch.labels.clone()) for batch in source.epoch(0)]
    assert [len(inputs) for inputs, _ in batches] == [3, 3, 2]
    train = data.splits["train"]
    low = [read_sized(train.low_dir(16) / train.names[k], 16) for k in range(3)]
    made = dsrface.super_resolve(dsrface.load_dsr("dsr.safetensors"), np.stack(low))
    assert torch.equal(batches[0][0], torch.from_numpy(made))


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 16, 17, 3), (2, 24, 24, 3), (0, 16, 16, 3)])
def test_images_that_would_be_misread_are_refused(workplace, shape):
    import numpy as np

    dsr = dsrface.load_dsr(workplace / "dsr.safetensors")
    with pytest.raises(dsrface.DsrfaceError, match=r"uint8 array|16 px"):
        dsrface.super_resolve(dsr, np.zeros(shape, np.uint8))
    with pytest.raises(dsrface.DsrfaceError, match="where a recogniser is wanted"):
        dsrface.embed(dsr, np.zeros((1, 112, 112, 3), np.uint8))
    with pytest.raises(dsrface.DsrfaceError, match="load_recogniser gives one"):
        dsrface.embed("recogniser.safetensors", np.zeros((1, 112, 112, 3), np.uint8))


def test_views_and_images_that_are_read_only_are_taken(workplace):
    import numpy as np

    dsr = dsrface.load_dsr(workplace / "dsr.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    wanted = dsrface.super_resolve(dsr, images[..., ::-1].copy())
    images.flags.writeable = False
    assert np.array_equal(dsrface.super_resolve(dsr, images[..., ::-1]), wanted)


def test_a_device_or_split_that_is_not_there_is_said(workplace):
    with pytest.raises(dsrface.DsrfaceError, match="gpu"):
        dsrface.load_dsr(workplace / "dsr.safetensors", device="gpu")
    with pytest.raises(dsrface.DsrfaceError, match="no dev split"):
        dsrface.open_outputs(dsrface.open_data(workplace / "data"), "outputs", vlr_size=16, split="dev")
