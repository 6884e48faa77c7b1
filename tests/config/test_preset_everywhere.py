"""A preset is applied wherever it is named; what else is given is stronger."""

from __future__ import annotations

import pytest

from dsrface.config.sources import resolve, to_toml
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.errors import UsageError

NEEDED = {"data": "DATA", "vlr_size": 16}


def test_a_preset_in_a_file_and_by_set_is_that_of_the_flag(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('preset = "hybrid"\n', encoding="utf-8")
    flag = resolve(TrainDsrConfig, preset="hybrid", flags=NEEDED)
    by_file = resolve(TrainDsrConfig, config_file=file, flags=NEEDED)
    by_set = resolve(TrainDsrConfig, assignments=["preset=hybrid"], flags=NEEDED)
    assert by_file.config == by_set.config == flag.config
    assert by_file.config.model.arch == "hybrid"
    assert by_file.origins["preset"] == f"config {file}"
    assert by_file.origins["model.arch"] == "preset hybrid"


def test_what_else_the_file_says_is_stronger(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('preset = "tiny"\nepochs = 7\n[model]\nblocks = 2\n', encoding="utf-8")
    config = resolve(TrainDsrConfig, config_file=file, flags=NEEDED).config
    assert (config.epochs, config.model.blocks, config.model.channels) == (7, 2, 32)


def test_a_flag_names_the_preset_over_a_file(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('preset = "hybrid"\n', encoding="utf-8")
    found = resolve(TrainDsrConfig, preset="tiny", config_file=file, flags=NEEDED).config
    assert (found.preset, found.model.arch) == ("tiny", "residual")


def test_an_unknown_preset_is_refused_wherever_it_is_named():
    with pytest.raises(UsageError) as caught:
        resolve(TrainDsrConfig, assignments=["preset=huge"], flags=NEEDED)
    assert caught.value.id == "unknown-preset"


def test_another_network_leaves_the_presets_options_behind(tmp_path):
    found = resolve(TrainDsrConfig, preset="small", assignments=["model.arch=hybrid"], flags=NEEDED).config
    assert (found.preset, found.model.arch) == ("small", "hybrid")
    (tmp_path / "config.toml").write_text(to_toml(found), encoding="utf-8")
    assert resolve(TrainDsrConfig, config_file=tmp_path / "config.toml").config == found
