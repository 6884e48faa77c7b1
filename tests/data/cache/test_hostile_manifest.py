"""Manifests and lists made to point outside their folder, and damage that is named after its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsrface.commands import cache
from dsrface.commands.bench.synthetic import make_data
from dsrface.config.cache import CacheConfig
from dsrface.data.cache.manifest import read_manifest
from dsrface.data.outputs import png_tree
from dsrface.data.stored import MANIFEST
from dsrface.errors import RunError
from dsrface.runtime.files import sha256_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_data(tmp_path / "data", num_images=20, num_png=2)
    return tmp_path / "data"


def verify(root: Path) -> cache.CacheResult:
    return cache.run(CacheConfig(action="verify", path=root), emit=lambda _: None)


@pytest.mark.parametrize(
    "name",
    ["../../victim.u8", "/etc/passwd", "shard-00000.u8/../../x.u8", "C:\\x.u8", "..\\x.u8", "", "shard-1.u8"],
)
@pytest.mark.parametrize("where", ["shard", "table"])
def test_a_manifest_whose_hash_was_made_again_names_nothing_outside(root, name, where):
    path = root / "hr_cache" / MANIFEST
    raw = json.loads(path.read_text())
    del raw["manifest_sha256"]
    (raw["shards"][0] if where == "shard" else raw["table"])["file"] = name
    path.write_text(json.dumps({**raw, "manifest_sha256": sha256_json(raw)}))
    with pytest.raises(RunError) as caught:
        read_manifest(root / "hr_cache")
    assert caught.value.id == "cache-damaged"
    assert repr(name) in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [112, 112]),
        ("shape", "112"),
        ("num_images", -1),
        ("num_images", 10**30),
        ("key", None),
        ("table", []),
        ("shards", [{}]),
        ("segments", [1]),
        ("parts", None),
    ],
)
def test_a_manifest_whose_hash_was_made_again_is_of_the_right_types(root, key, value):
    path = root / "hr_cache" / MANIFEST
    raw = json.loads(path.read_text())
    del raw["manifest_sha256"]
    raw[key] = value
    path.write_text(json.dumps({**raw, "manifest_sha256": sha256_json(raw)}))
    with pytest.raises(RunError) as caught:
        read_manifest(root / "hr_cache")
    assert caught.value.id == "cache-damaged"


@pytest.mark.parametrize("name", ["../victim.png", "/victim.png", "a/../../victim.png", 5, None, "notes.txt"])
def test_a_list_of_images_deletes_nothing_outside(tmp_path, name):
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"mine")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "notes.txt").write_text("mine")
    (tree / png_tree.IMAGES).write_text(json.dumps({"name": name, "input": "00"}) + "\n")
    png_tree.remove_tree(tree)
    assert victim.read_bytes() == b"mine"
    assert (tree / "notes.txt").exists()


def test_damage_of_the_manifest_is_named_after_it_and_needs_force(root):
    path = root / "hr_cache" / MANIFEST
    path.write_text(path.read_text()[:-40])
    result = verify(root)
    assert result.exit_code == 1
    assert "hr_cache: manifest.json: The file is damaged" in result.summary
    assert "--force" in result.next_command
