"""Old validation sets as arrays of bcolz, which no current Python can install: how to convert them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dsrface.runtime.command_line import joined, quoted

# float32 [N, 3, 112, 112] in [-1, 1], BGR, next to `<name>_list.npy`: bool [N / 2].
_CONVERT = (
    "import io, pickle, sys, bcolz, numpy as n; from PIL import Image as I; a, l, b = sys.argv[1:]; "
    "png = lambda x: (lambda f: (I.fromarray(n.uint8(n.rint((x[::-1].transpose(1, 2, 0) + 1) * 127.5)))"
    ".save(f, 'PNG'), f.getvalue())[1])(io.BytesIO()); "
    "pickle.dump(([png(x) for x in bcolz.carray(rootdir=a, mode='r')], [bool(s) for s in n.load(l)]), "
    "open(b, 'wb'))"
)


def bcolz_hint(folder: Path) -> str:
    """Return how to convert the validation set that a folder is, or holds; empty where there is none."""
    found = next(filter(_is_array, _folders(folder)), None)
    if found is None:
        return ""
    place = found.resolve()
    names = [str(found), str(found.with_name(f"{place.name}_list.npy")), f"{place.name}.bin"]
    return (
        f"{quoted(found)} is an array of bcolz, which is not read. The same sets are published as .bin "
        f"files, which are: dsrface evaluate {place.name}.bin --vlr-size 16\n"
        "In an old Python with bcolz, this writes one:\n"
        f"{joined(['python', '-c', _CONVERT, *names])}"
    )


def _folders(folder: Path) -> Iterable[Path]:
    yield folder
    yield from sorted(entry for entry in folder.iterdir() if entry.is_dir())


def _is_array(folder: Path) -> bool:
    return (folder / "meta" / "sizes").is_file() and (folder / "data").is_dir()
