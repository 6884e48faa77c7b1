"""`dsrface config`: what it writes can be fed back, and what is wrong is found."""

from __future__ import annotations

import tomllib

import pytest

from dsrface.cli.execute import COMMANDS, schema_of
from dsrface.config.describe import keys
from dsrface.config.keys import key_meanings
from dsrface.config.sources import list_presets, resolve
from dsrface.runtime.command_line import quoted


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_has_a_meaning_and_schema_command_and_file_agree(call, command):
    schema = schema_of(command)
    assert schema.command == command
    described = list(keys(schema))
    assert sorted(key.name for key in described) == sorted(key_meanings(schema))
    for key in described:
        assert key.meaning.endswith((".", ")")), f"{key.name}: {key.meaning!r}"
    text = call("config", "init", command).out
    values = tomllib.loads(text)
    assert values.pop("command") == command
    assert all(key in key_meanings(schema) for key in _flat(values))


@pytest.mark.parametrize(
    ("command", "preset"), [(command, name) for command in COMMANDS for name in list_presets(command)]
)
def test_every_preset_is_valid(call, command, preset):
    shown = call("config", "show", command, "--preset", preset, "--json")
    assert shown.code == 0, shown.err
    rows = {row["key"]: row for row in shown.document["values"]}
    assert any(row["origin"] == f"preset {preset}" for row in rows.values())


def test_what_init_writes_is_valid_and_changes_nothing(call, tmp_path):
    required = {"data": "d", "vlr_size": 16}
    made = call("config", "init", "train-dsr", "--out", "c.toml")
    assert made.code == 0
    assert "dsrface train-dsr --config c.toml" in made.out
    text = (tmp_path / "c.toml").read_text(encoding="utf-8")
    schema = schema_of("train-dsr")
    from_file = resolve(schema, config_file=tmp_path / "c.toml", flags=required).config
    assert "# data = ...  # required" in text
    assert from_file == resolve(schema, flags=required).config
    assert call("config", "init", "train-dsr", "--out", "c.toml").code == 7


def test_show_names_the_origin_of_every_value(call, tmp_path):
    (tmp_path / "c.toml").write_text("epochs = 7\n[optim]\nlr = 0.002\n", encoding="utf-8")
    shown = call(
        "config",
        "show",
        "train-dsr",
        "--preset",
        "tiny",
        "--config",
        "c.toml",
        "--set",
        "optim.lr=1e-4",
        "--json",
    )
    rows = {row["key"]: (row["value"], row["origin"]) for row in shown.document["values"]}
    assert rows["epochs"] == (7, "config c.toml")
    assert rows["optim.lr"] == (1e-4, "--set")
    assert rows["model.arch"][1] == "preset tiny"
    assert rows["seed"] == (0, "default")
    assert rows["data"] == (None, "required")


def test_validate_accepts_a_complete_file_and_names_what_is_wrong(call, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('data = "d"\nvlr_size = 16\n', encoding="utf-8")
    assert call("config", "validate", "train-dsr", file).code == 0
    file.write_text('data = "d"\nvlr_size = 17\nepochz = 1\n', encoding="utf-8")
    done = call("config", "validate", "train-dsr", file)
    assert done.code == 2
    assert "vlr_size = 17" in done.err
    assert "'epochz'" in done.err
    assert "'epochs'" in done.err
    file.write_text("epochs = \n", encoding="utf-8")
    assert call("config", "validate", "train-dsr", file, "--json").error["error"] == "bad-config"


def test_what_is_wrong_is_met_with_the_command_to_type_next(call, tmp_path):
    file = tmp_path / "none.toml"
    assert f"config init train-dsr --out {quoted(file)}" in call("config", "validate", "train-dsr", file).err
    assert "dsrface config show evaluate" in call("config", "show", "evaluate", "--set", "x=1").err


def test_schema_is_a_json_schema(call):
    schema = call("config", "schema", "finetune").document
    assert schema["properties"]["batch_size"]["minimum"] == 2
    assert "data" in schema["required"]


def test_an_unknown_command_is_answered_with_the_known_ones(call):
    done = call("config", "show", "nonsense")
    assert done.code == 2
    assert "train-dsr" in done.err


def _flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
