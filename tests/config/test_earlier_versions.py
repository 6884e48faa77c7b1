"""What the version before tables of their own wrote: configurations, records of runs and weight files.

`earlier/` was written by it; of the weight files it holds metadata, names and shapes, not the numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dsrface.config.finetune import FinetuneConfig
from dsrface.config.sources import resolve, to_toml
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.engine.run_folder import open_run
from dsrface.errors import RunError

EARLIER = Path(__file__).with_name("earlier")
ARCHITECTURES = ("residual", "hybrid")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_configuration_file_is_read_and_holds_only_its_networks_options(arch):
    found = resolve(TrainDsrConfig, config_file=EARLIER / arch / "config.toml").config
    assert found.model.arch == arch
    text = to_toml(found)
    assert ("attention_heads" in text, "mixer_rank" in text) == (arch == "hybrid", arch == "residual")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_weight_file_is_loaded(arch, tmp_path):
    from dsrface.models.weights import load_dsr

    stored = json.loads((EARLIER / arch / "weights.json").read_text(encoding="utf-8"))
    tensors = {name: torch.full(shape, 0.01) for name, shape in stored["shapes"].items()}
    save_file(tensors, tmp_path / "model.safetensors", stored["metadata"])
    loaded = load_dsr(tmp_path / "model.safetensors")
    assert (loaded.name, loaded.vlr_size) == (arch, 16)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_run_resumes_and_other_settings_are_still_refused(arch, tmp_path):
    config = resolve(TrainDsrConfig, config_file=EARLIER / arch / "config.toml").config
    run = tmp_path / "run"
    with open_run(config, run=run, resume=False, seed=0):
        checkpoint = run / "checkpoints" / "step_000001"
        checkpoint.mkdir(parents=True)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    earlier = json.loads((EARLIER / arch / "run.json").read_text(encoding="utf-8"))
    assert earlier["config"].keys() - record["config"].keys()
    record["config"] = earlier["config"]
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (run / "last.json").write_text(json.dumps({"checkpoint": "checkpoints/step_000001"}), encoding="utf-8")
    with open_run(config, run=run, resume=True, seed=0) as folder:
        assert folder.record["config"] != earlier["config"]
    wider = config.model_copy(update={"model": config.model.model_copy(update={"blocks": 7})})
    with pytest.raises(RunError, match=r"model\.blocks"), open_run(wider, run=run, resume=True, seed=0):
        pass


def test_a_finetune_configuration_has_its_tables_renamed(tmp_path):
    path = tmp_path / "config.toml"
    tables = "[classifier]\nmargin = 0.3\n[trunk]\nlr_fraction = 0.5\n"
    path.write_text(f"data = 'd'\nvlr_size = 16\nhr_only = true\n{tables}", encoding="utf-8")
    found = resolve(FinetuneConfig, config_file=path, assignments=["trunk.layer_scale=0.2"])
    config, origins = found.config, found.origins
    assert (config.head_options.margin, config.backbone_options.lr_fraction) == (0.3, 0.5)
    assert (config.backbone_options.layer_scale, origins["backbone_options.layer_scale"]) == (0.2, "--set")
