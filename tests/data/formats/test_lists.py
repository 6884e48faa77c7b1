from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsrface.data.formats.lists import majority_splits, read_file_list, split_folders, split_of_word
from dsrface.data.formats.matlab import read_mat
from dsrface.errors import DataError


@pytest.mark.parametrize("separator", [" ", ",", ";", "\t", "  "])
def test_a_list_answers_for_a_path_or_a_name(tmp_path: Path, separator: str) -> None:
    second = "a b.jpg" if separator in ",;\t" else "a_b.jpg"
    rows = [("images/000001.jpg", "2880"), (f"images/{second}", "7"), ("./images/000003.jpg", "2880")]
    (tmp_path / "list.txt").write_text("\r\n".join(separator.join(row) for row in rows))
    found = read_file_list(tmp_path / "list.txt", what="person")
    assert len(found) == 3
    assert found.get("images/000001.jpg") == "2880"
    assert found.get(f"set/images/{second}") == "7"
    assert found.get("elsewhere/000003.jpg") == "2880"
    assert found.get("000004.jpg") is None


def test_a_name_that_means_two_persons_means_nobody(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/1.jpg x\nb/1.jpg y\n")
    found = read_file_list(tmp_path / "list.txt", what="person")
    assert found.get("a/1.jpg") == "x"
    assert found.get("c/1.jpg") is None


@pytest.mark.parametrize(
    "text",
    [
        "image_id,person\na/1.jpg,x\nb/2.jpg,y",  # as CelebA's lists come from Kaggle
        "x a/1.jpg\ny b/2.jpg",
        "0\tx\ta/1.jpg\n1\ty\tb/2.jpg",  # im2rec's .lst
        "1\ta/1.jpg\tx\n1\tb/2.jpg\ty",  # insightface's
    ],
)
def test_lists_in_other_orders(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.lst").write_text(text)
    found = read_file_list(tmp_path / "list.lst", what="person")
    assert [found.get("a/1.jpg"), found.get("b/2.jpg"), len(found)] == ["x", "y", 2]


@pytest.mark.parametrize(
    "text",
    [
        "gender,person,file\nm,anna,a/1.jpg\nf,bo,a/2.jpg\n",
        "file;id;identity;score\na/1.jpg;7;anna;1\na/2.jpg;8;bo;1\n",
        "sep=;\nimage_id;label;split\na/1.jpg;anna;train\na/2.jpg;bo;val\n",
        '{"a/1.jpg": "anna", "a/2.jpg": "bo"}',
        '{"anna": ["a/1.jpg"], "bo": ["a/2.jpg"]}',
        '[{"file": "a/1.jpg", "person": "anna", "age": 30}, {"file": "a/2.jpg", "person": "bo"}]',
        '{"image": "a/1.jpg", "identity": "anna", "split": "train"}\n{"image": "a/2.jpg", "identity": "bo"}',
        '{"a/1.jpg": {"box": [1, 2], "person": "anna"}, "a/2.jpg": {"person": "bo"}}',
        '["a/1.jpg", "anna"]\n\n["a/2.jpg", "bo"]',
        '{"a/1.jpg": "anna"}\n{"a/2.jpg": "bo"}',
        '{"version": 1, "persons": {"anna": ["a/1.jpg"], "bo": ["a/2.jpg"]}}',
        '{"images": [{"id": 1, "file": "a/1.jpg", "person": "anna"}, {"file": "a/2.jpg", "person": "bo"}]}',
        ";;\nfile;person;\na/1.jpg;anna;\n;;\na/2.jpg;bo;\n;;\n",  # as Excel ends a table
        "a/1.jpg,anna,\na/2.jpg,bo,\n",
        "# file person\na/1.jpg anna\n# of another day\na/2.jpg bo\n",
    ],
)
def test_tables_with_headings_and_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text)
    found = read_file_list(tmp_path / "list", what="person")
    assert {file: found.get(file) for file in ("a/1.jpg", "a/2.jpg")} == {"a/1.jpg": "anna", "a/2.jpg": "bo"}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"file": "1.jpg", "person": "a"}\n{"file": "2.jpg"', "line 2"),
        ('{\n"1.jpg": "a",\n"2.jpg": }', "line 3 column"),
        ('{"images": [{"id": 1}], "annotations": []}', "Expected an image and a person"),
        ('[["1.jpg", null]]', "null"),
    ],
)
def test_json_of_another_form_says_what_is_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_file_list(tmp_path / "list.jsonl", what="person")
    assert caught.value.id == "bad-list-file"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.yaml", "anna:\n- a/1.jpg\n- a/2.jpg\n"),
        ("list.YML", "- file: a/1.jpg\n  person: anna\n- {file: a/2.jpg, person: anna}\n"),
        ("list.toml", '[persons]\nanna = ["a/1.jpg", "a/2.jpg"]\n'),
    ],
)
def test_yaml_and_toml_get_the_line_that_converts_them(tmp_path: Path, name: str, text: str) -> None:
    if "toml" not in name:
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="not read") as caught:
        read_file_list(tmp_path / name, what="person")
    _, *arguments = shlex.split(caught.value.hint.partition("Convert it: ")[2])
    subprocess.run([sys.executable, *arguments], check=True)
    found = read_file_list(tmp_path / "list.json", what="person")
    assert [found.get("a/1.jpg"), found.get("a/2.jpg"), len(found)] == ["anna", "anna", 2]


@pytest.mark.parametrize(("name", "said"), [("list.xml", "list.csv"), ("list.npy", "Write it as CSV")])
def test_what_is_no_list_says_what_is_one(tmp_path: Path, name: str, said: str) -> None:
    np.save(tmp_path / "list.npy", np.zeros(3))
    (tmp_path / "list.xml").write_text('<?xml version="1.0"?>')
    with pytest.raises(DataError) as caught:
        read_file_list(tmp_path / name, what="person")
    assert said in caught.value.hint


def test_names_may_begin_with_a_bracket(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("[1] a.jpg,anna\n{2} b.jpg,bo\n")
    assert read_file_list(tmp_path / "list.csv", what="person").get("[1] a.jpg") == "anna"


def test_a_table_of_splits_may_name_persons(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("person,age,split\nanna,30,train\nbo,40,test\n")
    found = read_file_list(tmp_path / "list", what="split")
    assert [found.get("anna"), found.get("bo"), len(found)] == ["train", "test", 2]


def test_fields_may_be_quoted(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('"file","person"\n"a, b/1.jpg","Núñez, J."\n', encoding="utf-8")
    assert read_file_list(tmp_path / "list.csv", what="person").get("a, b/1.jpg") == "Núñez, J."


def test_names_and_persons_may_have_blanks(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("my photos/a 1.JPG Ada L\nmy photos/b.png Bo\n")
    found = read_file_list(tmp_path / "list.txt", what="person")
    assert [found.get("my photos/a 1.JPG"), found.get("my photos/b.png")] == ["Ada L", "Bo"]


def test_paths_of_another_machine_and_case_are_known_by_their_ends(tmp_path: Path) -> None:
    rows = ["C:\\me\\photos\\a\\1.JPG x", "C:\\me\\photos\\b\\1.JPG y", "C:\\me\\photos\\c\\1.JPG x"]
    (tmp_path / "list.txt").write_text("\r\n".join(rows), encoding="utf-16")
    found = read_file_list(tmp_path / "list.txt", what="person")
    assert [found.get(file) for file in ("a/1.jpg", "photos/b/1.JPG", "c/1.JPG")] == ["x", "y", "x"]
    assert found.get("1.jpg") is None  # of two persons


def test_suffixes_differ_where_images_were_converted(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("000001.jpg x\n000002.jpg y\nother/000002.jpg z\n")
    found = read_file_list(tmp_path / "list.txt", what="person")
    assert found.get("img_align_celeba_png/000001.png") == "x"
    assert found.get("img_align_celeba_png/000002.png") is None  # of two persons


@pytest.mark.parametrize("text", ["", "\n\n", "only_a_name.jpg\n", "a.jpg,1,2\n"])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        read_file_list(tmp_path / "list.txt", what="person")
    assert caught.value.id == "bad-list-file"


def test_split_words_and_folders() -> None:
    assert [split_of_word(word) for word in ("0", "Val", "testing", "n000001")] == [
        "train",
        "val",
        "test",
        None,
    ]
    assert split_folders(["train/a/1.jpg", "test/b/1.jpg"]) == {"train": "train", "test": "test"}
    assert split_folders(["train/a/1.jpg", "other/b/1.jpg"]) == {}
    assert split_folders(["train/a/1.jpg"]) == {}
    assert split_folders(["0/a.jpg", "1/b.jpg", "2/c.jpg"]) == {}


def test_a_person_of_two_splits_goes_where_most_images_are() -> None:
    given = [("a", "train"), ("a", "train"), ("a", "test"), ("b", "val"), ("c", "train"), ("c", "test")]
    chosen, several = majority_splits(given)
    assert chosen == {"a": "train", "b": "val", "c": "test"}
    assert several == ["a", "c"]


def test_matlab_lists(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    table = {"gallery_set": np.array([["1_1.jpg"], ["2.jpg"]], object), "gallery_ids": np.array([[1], [22]])}
    scipy_io.savemat(tmp_path / "list.mat", table)
    assert read_mat(tmp_path / "list.mat") == {
        "gallery_set": [["1_1.jpg"], ["2.jpg"]],
        "gallery_ids": [["1"], ["22"]],
    }
    (tmp_path / "bad.mat").write_bytes(b"nothing")
    with pytest.raises(DataError):
        read_mat(tmp_path / "bad.mat")


@pytest.mark.parametrize(
    ("lines", "files", "found"),
    [
        ("cy/1.jpg cy\n", ["anna/1.jpg", "bo/1.jpg"], {}),
        ("cy/1.jpg cy\n", ["anna/1.jpg", "set/cy/1.jpg"], {"set/cy/1.jpg": "cy"}),
        ("cy/1.jpg cy\n", ["1.png"], {"1.png": "cy"}),
        ("cy/1.jpg cy\n", ["all/1.png", "all/1.jpg"], {"all/1.png": "cy", "all/1.jpg": "cy"}),
        ("cy/1.jpg cy\n", ["16/cy/1.jpg", "24/cy/1.jpg"], {"16/cy/1.jpg": "cy", "24/cy/1.jpg": "cy"}),
        ("1.jpg cy\n2.jpg bo\n", ["x/1.png", "x/2.png"], {"x/1.png": "cy", "x/2.png": "bo"}),
    ],
)
def test_a_line_says_nothing_of_images_that_only_share_its_last_name(lines, files, found, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(lines, encoding="utf-8")
    assert read_file_list(path, what="person").of(files) == found
