"""Options take help, choices and bounds from the configuration: no text is written twice."""

from __future__ import annotations

import inspect

import pytest

from dsrface.cli.execute import COMMANDS, schema_of
from dsrface.cli.field_help import texts_of
from dsrface.config.sources import list_presets

OWN_TEXT = {"preset"}  # a flag of the sources: the key only records it


def options(generate):
    """Yield command, schema and each option with its typer information."""
    for path, function in generate.walk():
        name = path.split()[0]
        if name not in COMMANDS:
            continue
        for parameter in inspect.signature(function).parameters.values():
            [info] = [item for item in parameter.annotation.__metadata__ if hasattr(item, "param_decls")]
            yield path, schema_of(name), parameter.name, info


def test_no_option_repeats_or_lacks_the_text_of_its_key(generate):
    wrong = []
    for path, schema, name, info in options(generate):
        field = schema.model_fields.get(name)
        has_key = field is not None and bool(field.description) and name not in OWN_TEXT
        if has_key == bool(info.help):
            wrong.append(f"{path} --{name}: {info.help}")
    assert not wrong


@pytest.mark.parametrize("command", ["evaluate", "embed", "train-dsr"])
def test_workers_says_what_this_command_does_with_them(call, command):
    shown = " ".join(call(command, "--help").out.split())
    assert texts_of(schema_of(command))["workers"].help in shown


def test_another_key_is_named_as_its_flag(call):
    assert "with `--dsr`, of aligned faces" in " ".join(call("embed", "--help").out.split())


def test_choices_and_bounds_are_those_of_the_key(call):
    shown = " ".join(call("finetune", "--help-all").out.split())
    assert "--head arcface|cosface|adaface" in shown
    assert "Epochs that train the head alone (>= 0; default 2)." in shown
    assert f"Named set of values: {', '.join(list_presets('finetune'))}." in shown
