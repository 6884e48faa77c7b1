"""What a user names in code of their own."""

from __future__ import annotations

import pytest

from dsrface.errors import UsageError
from dsrface.runtime.user_callable import split_spec


def test_a_file_alone_is_answered_with_what_it_defines(tmp_path):
    file = tmp_path / "train.py"
    file.write_text(
        "import missing\ndef main(): ...\ndef _own(): ...\nclass Faces(torch.utils.data.Dataset): ...\n"
    )
    with pytest.raises(UsageError) as caught:
        split_spec(str(file), flag="--dataset", wanted="a data set")
    assert caught.value.hint.splitlines()[1:] == [f"--dataset {file}:Faces", f"--dataset {file}:main"]


@pytest.mark.parametrize("spec", ["no/such.py", "faces", "faces:", ":Faces", r"C:\faces\train.py", "C:/t.py"])
def test_what_names_nothing_is_answered_with_the_forms(spec):
    with pytest.raises(UsageError) as caught:
        split_spec(spec, flag="--dataset", wanted="a data set")
    assert "--dataset package.module:callable" in caught.value.hint


def test_a_drive_of_windows_is_part_of_the_file():
    assert split_spec(r"C:\faces\train.py:Faces", flag="--dataset", wanted="a data set") == (
        r"C:\faces\train.py",
        "Faces",
    )
