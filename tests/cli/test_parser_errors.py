"""Mistakes on the command line: what is wrong in plain words, and the very words to type instead."""

from __future__ import annotations

import shlex

import pytest


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("prepare a b --vlr-sizes 16 24", "A list is written with commas: --vlr-sizes 16,24"),
        ("prepare a b --split 0.8 0.1 0.1", "A list is written with commas: --split 0.8,0.1,0.1"),
        ("train-dsr a --vlr-size 16px", "Did you mean --vlr-size 16?"),
        ("train-dsr a --vlr-size=16,24", "--vlr-size '16,24': must be a whole number."),
        ("enrol a --far 1%", "Did you mean --far 0.01?"),
        ("doctor --step-ms 20ms", "Did you mean --step-ms 20?"),
        ("train-dsr a --vlr-size 16 --lr 1e-4", "Did you mean --set optim.lr=1e-4?"),
        ("train-dsr a --vlr-size 16 --learning-rate 1e-4", "Did you mean --set optim.lr=1e-4?"),
        ("finetune a --vlr-size 16 --epochs 3", "Did you mean --stage1-epochs or --stage2-epochs?"),
        ("precompute a --weight w", "Did you mean --weights?"),
        ("doctor python train.py --epochs 5", "dsrface doctor -- python train.py --epochs 5"),
        ("doctor --scan", "dsrface doctor --help"),
        ("train-dsr a --vlr-size 16x16", "Did you mean --vlr-size 16?"),
        ("train-dsr a --vlr-size", "--vlr-size needs a value: PX."),
        ("train-dsr a --vlr-size 16 --preset", "--preset needs a value: base, hybrid, small, tiny."),
        ("train-dsr a --vlr-size 16 --out runs/x", "Did you mean --run?"),
        ("demo --run x", "Did you mean --out?"),
        ("prepare a b --force", "Nothing is overwritten"),
        ("precompute a --resume", "the same command goes on"),
        ("enrol a --gallery b", "GALLERY is given without a flag: dsrface enrol b"),
        ("data train-dsr --vlr-size 16", "The command comes first: dsrface train-dsr data --vlr-size 16"),
        ("prepare a b --scan x", "It is an option of dsrface doctor."),
        ("prepare a b --far 0.1", "It is an option of dsrface enrol, dsrface verify."),
        ("-q prepare a b", "The command comes first: dsrface prepare -q a b"),
        ("-v", "It comes behind a command, and most have it: dsrface demo -v"),
        ("enrol a people.npz --weights w", "Did you mean --out people.npz?"),
        ("precompute a --weights w --force yes", "--force takes no value."),
        ("train-dsr a 16", "Did you mean --vlr-size 16?"),
        ("enrol a --gallery b.npz", "Did you mean --out b.npz?"),
        ("doctor --continue", "dsrface doctor -- python train.py"),
        ("doctor --prove", "--prove needs a command to launch, after --"),
        ("train-dsr a --vlr-size 16 --set model.arch=hybird", "Did you mean 'hybrid'?"),
        ("help", "dsrface --help"),
        ("help train-dsr", "dsrface train-dsr --help"),
        ("version", "dsrface --version"),
        ("-V", "dsrface --version"),
        ("Train-DSR a --vlr-size 16", "Did you mean dsrface train-dsr a --vlr-size 16?"),
        ("train-dsr a -vlr-size 16", "Did you mean --vlr-size?"),
        ("train-dsr a \N{EM DASH}vlr-size 16", "The dash is not that of a keyboard: --vlr-size"),
        ("train-dsr '' --vlr-size 16", "A word of the command line is empty: dsrface train-dsr"),
        ("train-dsr a --vlr-size 16 --run ''", "Is a variable of the shell not set?"),
        ("train-dsr a --set optim.lr = 1e-3", "Without blanks: --set optim.lr=1e-3"),
        ("train-dsr a optim.lr=1e-3", "Did you mean --set optim.lr=1e-3?"),
        ("prepare --source a --data b", "SOURCE is given without a flag: dsrface prepare a b"),
        ("precompute --data a --weights w", "without a flag: dsrface precompute a --weights w"),
        ("export --run a", "RUN is given without a flag: dsrface export a"),
        ("cache verify a b c d e", "b c d and 1 more: more than this command takes."),
        ("demo 'no such'", "For example dsrface demo --out demo"),
        ("demo extra", "For example dsrface demo --out demo"),
        ("explain", "For example dsrface explain bad-config"),
        ("cache", "Choose one of: ls, verify, gc."),
    ],
)
def test_what_the_parser_refuses_is_met_with_what_to_type(call, line, expected):
    done = call(*shlex.split(line))
    assert done.code == 2
    assert expected in done.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("prepare a b --workers two", "--workers 'two': must be a whole number or 'auto'."),
        ("prepare a b --workers -1", "--workers '-1': must be at least 0 or 'auto'."),
        ("prepare a b --on-bad-image SKIP", "Did you mean 'skip'?"),
        ("prepare a b --set vlr_sizes=16", "vlr_sizes = 16 (from --set): must be a list such as [16, 24]."),
        ("finetune a --vlr-size 16", "Give exactly one of --dsr-outputs"),
        ("train-dsr a --vlr-size 16 --set learning_rate=1", "Did you mean 'optim.lr'?"),
        ("train-dsr a --vlr-size 16 --set optim.learning_rate=1", "Did you mean 'optim.lr'?"),
        ("finetune a --vlr-size 16 --no-dsr --hr-only", "here are --no-dsr and --hr-only."),
        ("finetune a --vlr-size 16 --no-dsr --backbone edgeface", "Did you mean 'edgeface_xxs'?"),
        (
            "prepare a b --split 80,10,10",
            "sum to 1; did you mean 0.8,0.1,0.1?",
        ),
        ("prepare a b --vlr-sizes 200", "--vlr-sizes 200: each size"),
        ("embed a --out e.csv", "did you mean e.npz?"),
        ("doctor --html r.pdf", "did you mean r.html?"),
        ("precompute a --input b --output c --weights w", "not both"),
        ("cache ls", "For example dsrface cache ls data/"),
        ("precompute a --weights w --verify --force", "give one of them"),
        ("export run --out model.pt", "--out must end in .safetensors"),
        ("doctor --write-patch x.patch", "--write-patch needs a command to launch"),
        ("doctor --output r.html", "the page is --html FILE"),
    ],
)
def test_what_the_configuration_refuses_is_said_in_plain_words(call, line, expected):
    done = call(*line.split())
    assert done.code == 2
    assert expected in done.err
    assert "nput should" not in done.err


def test_mistakes_in_a_file_are_named_with_their_lines(call, tmp_path):
    (tmp_path / "c.toml").write_text('epocks = 5\n\n[optim]\nlr = "fast"\n', encoding="utf-8")
    shown = call("config", "validate", "train-dsr", "c.toml").err
    assert "Unknown key 'epocks' (from config c.toml:1). Did you mean 'epochs'?" in shown
    assert "optim.lr = 'fast' (from config c.toml:4): must be a number." in shown


def test_the_hint_of_a_wrong_value_does_not_speak_of_the_vlr_size(call, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text('{"sizes": {"vlr_px": [16]}}', encoding="utf-8")
    assert "--vlr-size" not in call("precompute", "data", "--weights", "w", "--format", "jpg").err
