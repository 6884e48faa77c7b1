from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dsrface.data.decode import walk_images
from dsrface.data.layout import FaceSplit, make_split
from dsrface.data.pairs import generate_pairs
from dsrface.data.pairs_file import read_pairs
from dsrface.errors import DataError


def split_of(folder: Path) -> FaceSplit:
    names = [Path(name).with_suffix(".png").as_posix() for name in walk_images(folder)]
    return make_split("test", folder, names, low_folders={})


@pytest.mark.parametrize(("name", "num"), [("london", 140), ("caltech", 300)])
def test_the_given_pairs_files_are_read(faces_dir: Path, name: str, num: int) -> None:
    split = split_of(faces_dir / name)
    pairs = read_pairs(faces_dir / name / "pairs.txt", split)
    labels = split.labels.numpy()
    assert ((labels[pairs.first] == labels[pairs.second]) == pairs.is_same).all()
    assert (np.bincount(pairs.fold) == len(pairs) // pairs.num_folds).all()
    assert len(pairs) == num
    assert pairs.num_skipped == 0


def test_byte_order_mark_and_windows_line_ends_are_fine(bad_dir: Path) -> None:
    pairs = read_pairs(bad_dir / "pairs_crlf_bom.txt", split_of(bad_dir / "tree"))
    assert sorted(pairs.is_same.tolist()) == [False, True]


@pytest.mark.parametrize(("file", "word"), [("count", "promises"), ("fields", "not the number")])
def test_bad_pairs_files_name_the_line(bad_dir: Path, file: str, word: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        read_pairs(bad_dir / f"pairs_bad_{file}.txt", split_of(bad_dir / "tree"))
    assert f"pairs_bad_{file}.txt, line " in caught.value.where


def test_pairs_of_other_splits_are_left_out(faces_dir: Path, bad_dir: Path) -> None:
    whole = split_of(faces_dir / "london")
    part = make_split("test", whole.root, list(whole.names)[:60], low_folders={})
    pairs = read_pairs(faces_dir / "london" / "pairs.txt", part)
    assert len(pairs) + pairs.num_skipped == 140
    assert 0 < len(pairs) < 140
    names = part.names
    for first, second, is_same in zip(pairs.first, pairs.second, pairs.is_same, strict=True):
        assert (names[first].split("/")[0] == names[second].split("/")[0]) == is_same
    pairs = read_pairs(bad_dir / "pairs_bad_missing.txt", split_of(bad_dir / "tree"))
    assert (len(pairs), pairs.num_skipped) == (1, 1)


@pytest.mark.parametrize(
    "text", ["", "ten 3\n", "1 1\nanna 1 1\n", "1 1\nanna 1 2\nanna 1 anna 2\n", "1 1\nanna 1 2 3\na 1 b 1\n"]
)
def test_malformed_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    names = ["anna/anna_0001.png", "anna/anna_0002.png", "a/a_1.png", "b/b_1.png"]
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path / "pairs.txt", make_split("test", tmp_path, names, low_folders={}))
    assert caught.value.id == "bad-pairs"


def test_generated_pairs_are_balanced_distinct_and_share_no_person_between_folds(faces_dir: Path) -> None:
    split = split_of(faces_dir / "orl")
    pairs = generate_pairs(split, seed=1)
    labels = split.labels.numpy()
    assert pairs.num_folds == 10
    owners = np.concatenate([labels[pairs.first], labels[pairs.second]])
    folds_of = {owner: set(np.tile(pairs.fold, 2)[owners == owner]) for owner in owners}
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert pairs.is_same.sum() == (~pairs.is_same).sum()
    assert ((labels[pairs.first] == labels[pairs.second]) == pairs.is_same).all()
    assert (pairs.first != pairs.second).all()
    unordered = {
        tuple(sorted(pair)) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    }
    assert len(unordered) == len(pairs)
    again = generate_pairs(split, seed=1)
    assert (again.first == pairs.first).all()
    assert (again.second == pairs.second).all()
    assert not np.array_equal(generate_pairs(split, seed=2).first, pairs.first)


def test_small_splits_give_fewer_folds_and_tiny_ones_none(tmp_path: Path) -> None:
    names = [f"p{person}/{image}.png" for person in range(3) for image in range(2)]
    pairs = generate_pairs(make_split("test", tmp_path, names, low_folders={}), seed=0)
    assert pairs.num_folds == 1
    assert pairs.is_same.sum() == 3
    for few in (["a/1.png", "a/2.png"], ["a/1.png", "b/1.png"]):
        with pytest.raises(DataError) as caught:
            generate_pairs(make_split("test", tmp_path, few, low_folders={}), seed=0)
        assert caught.value.id == "too-few-persons"
    assert torch.is_tensor(make_split("test", tmp_path, names, low_folders={}).labels)


def test_generated_folds_are_balanced_when_persons_cannot_give_enough_impostors(tmp_path: Path) -> None:
    names = [f"p{person}/{image}.png" for person in range(14) for image in range(8)]
    pairs = generate_pairs(make_split("test", tmp_path, names, low_folders={}), seed=0)
    for fold in range(pairs.num_folds):
        assert pairs.is_same[pairs.fold == fold].mean() == 0.5
