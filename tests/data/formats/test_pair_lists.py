from __future__ import annotations

from pathlib import Path

import pytest

from dsrface.data.formats.pair_lists import PairLine, read_pair_list
from dsrface.errors import DataError

FOLDS = [
    [(("anna", 1), ("anna", 2), True), (("bo", 1), ("cy", 3), False)],
    [(("bo", 1), ("bo", 2), True), (("anna", 2), ("cy", 1), False)],
]


def lfw_lines(separator: str) -> list[str]:
    lines = []
    for (name, first), (other, second), is_same in (pair for fold in FOLDS for pair in fold):
        fields = [name, first, second] if is_same else [name, first, other, second]
        lines.append(separator.join(map(str, fields)))
    return lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", ","])
@pytest.mark.parametrize("head", [["2\t1"], []])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lfw_with_and_without_its_first_line(
    tmp_path: Path, mark: str, head: list[str], separator: str, end: str
) -> None:
    text = mark + end.join([*head, *lfw_lines(separator)]) + end
    (tmp_path / "pairs.txt").write_text(text, encoding="utf-8", newline="")
    found = read_pair_list(tmp_path / "pairs.txt")
    assert found.num_folds == 2
    assert list(found.pairs) == [PairLine(*pair, fold) for fold, pairs in enumerate(FOLDS) for pair in pairs]


@pytest.mark.parametrize("separator", ["\t", " ", ",", ";"])
@pytest.mark.parametrize("head", [["file1", "file2", "label"], None])
@pytest.mark.parametrize(
    "answers", [("1", "0"), ("1", "-1"), ("True", "False"), ("same", "different"), ("1.0", "0.0")]
)
@pytest.mark.parametrize("is_first", [False, True])
def test_paths_and_a_label(
    tmp_path: Path, separator: str, head: list[str] | None, answers: tuple[str, str], is_first: bool
) -> None:
    rows = [["a/1.jpg", "a/2.jpg", answers[0]], ["a/1.jpg", "b/1.jpg", answers[1]]]
    rows = [[row[2], *row[:2]] for row in rows] if is_first else rows
    (tmp_path / "pairs.csv").write_text(
        "\n".join(separator.join(row) for row in [*([head] if head else []), *rows])
    )
    found = read_pair_list(tmp_path / "pairs.csv")
    assert found.num_folds == 1
    assert [pair.is_same for pair in found.pairs] == [True, False]
    assert (found.pairs[1].first, found.pairs[1].second) == ("a/1.jpg", "b/1.jpg")


def test_two_lines_a_pair_as_in_calfw(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a_1.jpg 3\na_2.jpg 3\na_1.jpg 0\nb_1.jpg 0\n")
    found = read_pair_list(tmp_path / "pairs.txt")
    assert found.pairs == (PairLine("a_1.jpg", "a_2.jpg", True, 0), PairLine("a_1.jpg", "b_1.jpg", False, 0))


def test_labels_of_calfw_are_folds_and_impostor_pairs_are_dealt_in_their_order(tmp_path: Path) -> None:
    genuine = [f"a_{k}.jpg {k // 2 + 1}\nb_{k}.jpg {k // 2 + 1}\n" for k in range(6)]
    impostor = [f"a_{k}.jpg 0\nc_{k}.jpg 0\n" for k in range(6)]
    (tmp_path / "pairs.txt").write_text("".join(genuine + impostor))
    found = read_pair_list(tmp_path / "pairs.txt")
    assert found.num_folds == 3
    assert [pair.fold for pair in found.pairs] == [0, 0, 1, 1, 2, 2] * 2


def test_two_lines_a_pair_without_folds_have_ten_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = [f"a_{k}.jpg {label}\nb_{k}.jpg {label}\n" for label in (1, 0) for k in range(20)]
    (tmp_path / "pairs.txt").write_text("".join(lines))
    found = read_pair_list(tmp_path / "pairs.txt")
    assert found.num_folds == 10
    assert [pair.fold for pair in found.pairs] == [k // 2 for k in range(20)] * 2


@pytest.mark.parametrize("separator", [" ", ","])
@pytest.mark.parametrize("head", [["file1", "file2", "label", "fold"], None])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (0, 1, 3, 2)])
def test_a_column_of_folds(
    tmp_path: Path, separator: str, head: list[str] | None, order: tuple[int, ...]
) -> None:
    rows = [[f"a/{k}.jpg", f"{'a' if k % 2 else 'b'}/9.jpg", str(k % 2), str(k // 2 + 1)] for k in range(6)]
    lines = [separator.join(row[place] for place in order) for row in [*([head] if head else []), *rows]]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    found = read_pair_list(tmp_path / "pairs.csv")
    assert found.num_folds == 3
    assert [(pair.fold, pair.is_same) for pair in found.pairs] == [(k // 2, k % 2 == 1) for k in range(6)]
    assert found.pairs[2].first == "a/2.jpg"


def test_a_fourth_column_that_is_no_fold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a/1.jpg a/2.jpg 1 0.93\na/1.jpg b/1.jpg 0 0.11\n")
    with pytest.raises(DataError) as caught:
        read_pair_list(tmp_path / "pairs.txt")
    assert caught.value.id == "bad-pairs"


def test_a_table_of_lfw_with_headings_and_an_empty_field(tmp_path: Path) -> None:
    rows = [f"{line}," if line.count(",") == 2 else line for line in lfw_lines(",")]
    (tmp_path / "pairs.csv").write_text("\n".join(["name,imagenum1,imagenum2,", *rows]))
    found = read_pair_list(tmp_path / "pairs.csv")
    assert list(found.pairs) == [PairLine(*pair, fold) for fold, pairs in enumerate(FOLDS) for pair in pairs]


def test_quoted_fields_of_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text('"one","two","same"\n"a, b/1.jpg","c/1.jpg","0"\n')
    (pair,) = read_pair_list(tmp_path / "pairs.csv").pairs
    assert (pair.first, pair.second, pair.is_same) == ("a, b/1.jpg", "c/1.jpg", False)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a_1.jpg 1\na_2.jpg 1\na_1.jpg 0\nb_1.jpg 1\n", 3, "two lines of"),
        ("a_1.jpg 1\na_2.jpg 1\na_1.jpg 0\n", 3, "no other image"),
        ("", 0, "empty"),
        ("ten 3\n", 1, "not the numbers of folds"),
        ("1 1\nanna 1 1\n", 2, "promises 2 pairs"),
        ("1 1\nanna 1 2\nanna 1 anna 2\n", 3, "names 'anna' twice"),
        ("anna 1 2\nanna 1 x 2 3\n", 2, "Expected 'name1 i name2 j'"),
        ("a.jpg b.jpg 1\na.jpg b.jpg maybe\n", 2, "label 0 or 1"),
        ("1\nanna 1 2\nanna x bo 2\n", 3, "'x' is not the number"),
    ],
)
def test_what_cannot_be_read_names_the_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        read_pair_list(tmp_path / "pairs.txt")
    assert caught.value.id == "bad-pairs"
    if line:
        assert caught.value.where.endswith(f"line {line}")


def test_rows_of_separators_and_remarks_are_no_pairs(tmp_path: Path) -> None:
    text = "# of May\nfile1;file2;label\na/1.jpg;a/2.jpg;1\n;;\na/1.jpg;b/1.jpg;0\n;;\n"
    (tmp_path / "pairs.csv").write_text(text)
    pairs = read_pair_list(tmp_path / "pairs.csv").pairs
    assert [(pair.first, pair.second, pair.is_same) for pair in pairs] == [
        ("a/1.jpg", "a/2.jpg", True),
        ("a/1.jpg", "b/1.jpg", False),
    ]


@pytest.mark.parametrize(("name", "said"), [("pairs.yaml", "Known are"), ("pairs.xlsx", "pairs.csv")])
def test_pairs_in_another_format_are_met_with_a_form_that_is_read(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).write_text("- [a/1.jpg, a/2.jpg, 1]\n")
    with pytest.raises(DataError, match="not read") as caught:
        read_pair_list(tmp_path / name)
    assert said in caught.value.hint
