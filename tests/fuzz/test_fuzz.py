"""Bytes nobody meant, through everything that reads a file: an answer or an error of ours, and soon.

A few examples with every test run, thousands with `nox -s fuzz` (DSRFACE_FUZZ_EXAMPLES).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dsrface.commands.shared.people.gallery import (
    Origin,
    check_gallery,
    gather_people,
    read_gallery,
    write_gallery,
)
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.data.cache.manifest import Manifest, Segment, Shard, read_manifest
from dsrface.data.decode import encode_png, read_image
from dsrface.data.formats.landmarks import read_landmarks
from dsrface.data.formats.lists import read_file_list
from dsrface.data.formats.pair_lists import read_pair_list
from dsrface.data.formats.validation_set import read_validation_set
from dsrface.data.outputs import png_tree
from dsrface.data.stored import MANIFEST
from dsrface.errors import DsrfaceError, WeightsError
from dsrface.models.dsr import build_dsr
from dsrface.models.weights import load_any, save_model
from dsrface.runtime.files import read_json, sha256_json
from dsrface.types import Preprocess

EXAMPLES = int(os.environ.get("DSRFACE_FUZZ_EXAMPLES", "25"))
LONGEST = timedelta(seconds=30)  # on a busy machine
MODEL = DsrConfig(vlr_size=16, channels=4, blocks=1)
PAIRS = b"1\t1\nanna\t1\t2\nanna\t1\tbert\t1\n"
LANDMARKS = b"file,lx,ly,rx,ry,nx,ny,mlx,mly,mrx,mry\na/1.png,38,51,73,51,56,71,41,92,70,92\n"
FACES = b'{"a.png": {"face_1": {"landmarks": {"right_eye": [1, 2], "left_eye": [3, 4], "nose": [5, 6]}}}}'
ORIGIN = Origin("r.safetensors", "a" * 64, "", "", 0.5, None, "as given")
TOML = b'epochs = 3\n[optim]\nlr = 1e-3\n[model]\narch = "hybrid"\n'


@cache
def _network() -> torch.nn.Module:
    return build_dsr(MODEL)


def _safetensors(folder: Path) -> bytes:
    path = folder / "seed.safetensors"
    save_model(path, _network(), kind="dsr", config=MODEL.model_dump(), preprocess=Preprocess(16))
    return path.read_bytes()


def _torch(*, is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(_network().state_dict(), buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_face()).save(buffer, format="JPEG")
    return buffer.getvalue()


def _face() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def _manifest() -> bytes:
    segments = (Segment(0, 4, 0, 1),)
    shards = (Shard("shard-00000.u8", 0, 0, 4, "a" * 64, "b" * 64),)
    table = {"file": "table-0123456789ab.safetensors", "sha256": "c" * 64}
    manifest = Manifest("hr", (112, 112, 3), 4, 1, 4, 0, {}, table, segments, (), shards)
    return json.dumps(manifest.to_json()).encode()


def _gallery(folder: Path) -> bytes:
    path = folder / "seed.npz"
    faces = np.zeros((2, 112, 112, 3), np.uint8)
    write_gallery(path, gather_people(["a", "b"], np.eye(2, 8, dtype=np.float32), faces, ORIGIN))
    return path.read_bytes()


def _in_gallery(path: Path) -> object:
    with contextlib.suppress(WeightsError):  # it names a network that is not there
        check_gallery(path)
    return read_gallery(path)


def _origin_in(path: Path) -> object:
    """Read a gallery whose origin is the text of the file; zip's checksums hide it from `gallery`."""
    columns = dict(np.load(io.BytesIO(_gallery(path.parent))))
    columns["origin"] = np.array(path.read_text(encoding="utf-8", errors="replace"))
    np.savez(path.with_suffix(".npz"), **columns)
    return _in_gallery(path.with_suffix(".npz"))


def _toml(path: Path) -> object:
    return resolve(TrainDsrConfig, config_file=path, flags={"data": Path("x"), "vlr_size": 16})


def _manifest_in(path: Path) -> object:
    with contextlib.suppress(ValueError, RecursionError, KeyError):
        raw = json.loads(path.read_bytes())
        if isinstance(raw, dict):  # with its hash made again, else that is all that would be tried
            del raw["manifest_sha256"]
            path.write_text(json.dumps({**raw, "manifest_sha256": sha256_json(raw)}))
    return read_manifest(path.parent)


def _list_in(path: Path) -> object:
    return png_tree.read_images(path.parent)


# What is read: name of the file, a good one to start from, the reader.
READERS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], object]]] = {
    "safetensors": ("w.safetensors", _safetensors, load_any),
    "torch": ("w.pt", lambda _: _torch(is_zip=True), load_any),
    "old torch": ("w.pt", lambda _: _torch(is_zip=False), load_any),
    "toml": ("c.toml", lambda _: TOML, _toml),
    "json": ("run.json", lambda _: b'{"status": "done", "pins": {"a": "b"}, "seed": 1}', read_json),
    "manifest": (MANIFEST, lambda _: _manifest(), _manifest_in),
    "png list": (png_tree.IMAGES, lambda _: b'{"name": "train/a/1.png", "input": "00"}\n', _list_in),
    "pairs": ("pairs.txt", lambda _: PAIRS, read_pair_list),
    "landmarks": ("l.csv", lambda _: LANDMARKS, read_landmarks),
    "landmarks json": ("l.json", lambda _: FACES, read_landmarks),
    "list": ("l.txt", lambda _: b"a/1.png 1\nb/2.png 2\n", lambda path: read_file_list(path, what="person")),
    "gallery": ("people.npz", _gallery, _in_gallery),
    "gallery's origin": ("origin.json", lambda _: json.dumps(asdict(ORIGIN)).encode(), _origin_in),
    "png": ("a.png", lambda _: encode_png(_face()), read_image),
    "jpeg": ("a.jpg", lambda _: _jpeg(), read_image),
    "bin": ("lfw.bin", lambda _: pickle.dumps(([encode_png(_face())] * 2, [True])), read_validation_set),
}

CUTS = st.tuples(st.just("cut"), st.floats(0, 1), st.binary(max_size=0))
FLIPS = st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=8))
SPLICES = st.tuples(st.just("splice"), st.floats(0, 1), st.binary(min_size=1, max_size=40))
WORDS = st.tuples(
    st.just("splice"),
    st.floats(0, 1),
    st.sampled_from(
        [
            b"[" * 5000,
            b"{" * 5000,
            b"9" * 5000,
            b"\xff" * 8,
            b"\0" * 8,
            b"../",
            b"\x1b[31m",
            b"nan",
            b"1e999",
            b"\n" * 99,
        ]
    ),
)
CHANGES = st.lists(CUTS | FLIPS | SPLICES | WORDS, min_size=1, max_size=4)


def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, extra in changes:
        at = int(place * len(data))
        if kind == "cut":
            data = data[:at]
        else:
            data = data[:at] + extra + data[at + (len(extra) if kind == "flip" else 0) :]
    return data


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("fuzz")
    file, make, read = READERS[name]
    good = make(folder)
    (folder / file).write_bytes(good)
    with contextlib.suppress(DsrfaceError):
        read(folder / file)  # loads what is loaded at the first use

    @settings(
        max_examples=EXAMPLES,
        deadline=LONGEST,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(CHANGES.map(lambda changes: changed(good, changes)) | st.binary(max_size=300))
    def check(data: bytes) -> None:
        (folder / file).write_bytes(data)
        with contextlib.suppress(DsrfaceError):
            read(folder / file)

    check()
