"""`dsrface cache ls|verify|gc`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsrface.commands import cache
from dsrface.commands.bench.synthetic import make_data
from dsrface.config.cache import CacheConfig
from dsrface.errors import RunError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_data(tmp_path / "data", num_images=40, num_png=2)
    return tmp_path / "data"


def run(root: Path, action: str, **options: object) -> cache.CacheResult:
    return cache.run(
        CacheConfig.model_validate({"action": action, "path": root, **options}), emit=lambda _: None
    )


def test_ls_names_every_cache_below(root: Path) -> None:
    result = run(root, "ls")
    assert [
        (Path(entry.folder).name, entry.kind, entry.state, entry.num_images) for entry in result.caches
    ] == [
        ("dsr_outputs_16x16", "outputs", "complete", 40),
        ("hr_cache", "hr", "complete", 40),
    ]
    (root / "hr_cache/shard-00000.u8").unlink()
    assert run(root, "ls").caches[1].state == "cache-damaged"


def test_verify_exits_with_1_on_damage(root: Path) -> None:
    assert run(root, "verify").exit_code == 0
    assert "a sample of 50.0%" in run(root, "verify", sample=0.5).summary
    with (root / "hr_cache/shard-00000.u8").open("r+b") as handle:
        handle.seek(37632 * 4)
        handle.write(bytes(16))
    result = run(root, "verify")
    assert result.exit_code == 1
    assert "hr_cache: shard-00000.u8: record 4 (p" in result.summary
    assert "rebuilds what is damaged" in result.next_command


def test_gc_deletes_only_what_no_manifest_needs(root: Path) -> None:
    (root / "hr_cache/shard-00007.u8").write_bytes(b"12345")
    (root / "hr_cache/notes.txt").write_text("mine")
    assert "1 file, 5 B would" in run(root, "gc", dry_run=True).summary
    assert (root / "hr_cache/shard-00007.u8").exists()
    before = {entry.folder: entry for entry in run(root, "ls").caches}
    for entry in run(root, "gc").caches:
        is_hr = entry.folder.endswith("hr_cache")
        same = replace(entry, deleted=(), num_bytes_freed=0)
        assert same == before[entry.folder]  # what `ls` says of it: a sound cache has no problems
        assert entry.deleted == (("shard-00007.u8",) if is_hr else ())
        assert entry.num_bytes_freed == (5 if is_hr else 0)
    assert not (root / "hr_cache/shard-00007.u8").exists()
    assert (root / "hr_cache/notes.txt").exists()
    assert run(root, "verify").exit_code == 0


def test_other_programs_manifests_are_not_caches(root: Path) -> None:
    for folder, text in ((root, "[]"), (root / "extension", '{"name": "x"}')):
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(text)
    assert len(run(root, "ls").caches) == 2
    assert run(root, "verify").exit_code == 0


def test_gc_leaves_a_cache_alone_whose_manifest_is_damaged(root: Path) -> None:
    (root / "dsr_outputs_16x16/manifest.json").write_text("{")
    (root / "hr_cache/shard-00007.u8").write_bytes(b"12345")
    result = run(root, "gc")
    assert "dsr_outputs_16x16: left alone (file-damaged)" in result.summary
    assert (root / "dsr_outputs_16x16/shard-00000.u8").exists()
    assert not (root / "hr_cache/shard-00007.u8").exists()


def test_no_cache_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no cache"):
        run(tmp_path, "ls")
