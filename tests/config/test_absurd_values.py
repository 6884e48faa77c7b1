"""Values that no run can mean are refused with their key and bound, and nothing is read without an end."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.prepare import PrepareConfig
from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.errors import UsageError

NEEDED = {"data": Path("data"), "vlr_size": 16}


def refused(*assignments: str, schema=TrainDsrConfig, **more) -> str:
    flags = {**({} if schema is PrepareConfig else NEEDED), **more}
    with pytest.raises(UsageError) as caught:
        resolve(schema, assignments=assignments, flags=flags)
    assert caught.value.id in ("bad-config", "bad-set")
    return caught.value.message


NUMBERS = ("optim.lr", "optim.weight_decay", "loss.pixel_weight", "loader.timeout_s")
WHOLE_NUMBERS = ("epochs", "batch_size", "seed", "workers")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *itertools.product(NUMBERS, ["inf", "1e400", "nan", "true"]),
        *itertools.product(WHOLE_NUMBERS, ["true", "99999999999999999999999999", "1e400"]),
    ],
)
def test_no_number_is_infinite_a_truth_value_or_absurd(key, value):
    assert key in refused(f"{key}={value}")


def test_a_list_of_numbers_holds_no_truth_value():
    flags = {"source": Path("a"), "data": Path("b")}
    assert "vlr_sizes" in refused("vlr_sizes=[true]", schema=PrepareConfig, **flags)


@pytest.mark.parametrize("schema", [TrainDsrConfig, FinetuneConfig, EvaluateConfig])
def test_a_path_is_one_that_file_systems_take(schema):
    assert "255" in refused(schema=schema, data=Path("x" * 256) / "y")
    assert "data" in refused(schema=schema, data=Path("山" * 90))
    assert "NUL" in refused(schema=schema, data=Path("a\0b"))


@pytest.mark.parametrize(
    "assignment", [".".join("a" * 3000) + "=1", "epochs=" + "[" * 5000, "optim=" + "{a=" * 3000]
)
def test_deep_nesting_is_refused_and_shown_shortly(assignment):
    assert len(refused(assignment)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "[" + ".".join("a" * 5000) + "]",
        "a." * 50 + "a = 1",
        "x" * 2_000_000,
        "\0",
        "é=1",
    ],
    ids=["brackets", "table", "dots", "large", "nul", "word"],
)
def test_no_configuration_file_is_a_bug_of_ours(tmp_path, text):
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        resolve(TrainDsrConfig, config_file=file, flags=NEEDED)
    assert caught.value.id == "bad-config"
    assert len(caught.value.message) < 600


@pytest.mark.skipif(os.name == "nt", reason="POSIX special files")
def test_special_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(UsageError, match=r"regular file|directory"):
            resolve(TrainDsrConfig, config_file=file, flags=NEEDED)


def test_a_path_below_the_home_folder_is_found_where_no_shell_looked(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    flags = {**NEEDED, "run": Path("~/runs/a")}
    assert resolve(TrainDsrConfig, flags=flags).config.run == tmp_path / "runs" / "a"
    unknown = {**NEEDED, "run": Path("~no-such-user/a")}
    assert resolve(TrainDsrConfig, flags=unknown).config.run == Path("~no-such-user/a")
