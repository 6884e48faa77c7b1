"""The training commands' settings: presets validate, defaults are the default preset, checks name keys."""

from __future__ import annotations

import pytest

from dsrface.config.finetune import FinetuneConfig
from dsrface.config.sources import list_presets, resolve, to_toml
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.errors import UsageError

NEEDED = {
    TrainDsrConfig: {"data": "DATA", "vlr_size": 16},
    FinetuneConfig: {"data": "DATA", "vlr_size": 16, "no_dsr": True},
}


@pytest.mark.parametrize("schema", NEEDED)
def test_every_preset_validates_and_round_trips(schema, tmp_path):
    names = list_presets(schema.command)
    wanted = ["base", "hybrid", "small", "tiny"] if schema is TrainDsrConfig else ["default", "tiny"]
    assert names == wanted
    for name in names:
        config = resolve(schema, preset=name, flags=NEEDED[schema]).config
        (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
        assert resolve(schema, config_file=tmp_path / "config.toml").config == config


@pytest.mark.parametrize(("schema", "default"), [(TrainDsrConfig, "small"), (FinetuneConfig, "default")])
def test_the_defaults_are_the_default_preset(schema, default):
    plain = resolve(schema, flags=NEEDED[schema]).config
    assert plain.preset == default
    assert resolve(schema, preset=default, flags=NEEDED[schema]).config == plain


@pytest.mark.parametrize(
    ("schema", "flags", "words"),
    [
        (FinetuneConfig, {"live": "x"}, "exactly one"),
        (FinetuneConfig, {"stage1_epochs": 0, "stage2_epochs": 0}, "nothing to train"),
        (FinetuneConfig, {"batch_size": 30, "images_per_person": 4}, "multiple of images_per_person"),
        (FinetuneConfig, {"write_through": True}, "--write-through goes with --live"),
        (FinetuneConfig, {"workers": -1}, "workers"),
        (TrainDsrConfig, {"loss.vgg_weight": 0.1}, "loss.vgg_weights"),
        (TrainDsrConfig, {"vlr_size": 20}, "vlr_size"),
        (TrainDsrConfig, {"model.chanels": 20}, "model.channels"),
    ],
)
def test_refusals_name_the_keys(schema, flags, words):
    with pytest.raises(UsageError, match=words):
        resolve(schema, flags=NEEDED[schema] | flags)


def test_mode_is_one_word():
    assert resolve(FinetuneConfig, flags=NEEDED[FinetuneConfig]).config.mode == "bicubic"
    shared = {"data": "D", "vlr_size": 16}
    assert resolve(FinetuneConfig, flags=shared | {"live": "x"}).config.mode == "live"
    assert resolve(FinetuneConfig, flags=shared | {"dsr_outputs": "x"}).config.mode == "cached"
    assert resolve(FinetuneConfig, flags=shared | {"hr_only": True}).config.mode == "hr"


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "wanted"),
    [("auto", 1, 200), ("auto", 30, 200), ("auto", 60, 100), ("auto", 3000, 60), (7, 30, 7)],
)
def test_small_sets_get_more_epochs_within_bounds(epochs, steps_per_epoch, wanted):
    config = resolve(TrainDsrConfig, flags=NEEDED[TrainDsrConfig] | {"epochs": epochs}).config
    assert config.num_epochs(steps_per_epoch) == wanted
