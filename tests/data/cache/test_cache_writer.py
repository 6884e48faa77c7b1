"""Writing, resuming, appending, refusing; the bytes do not depend on how often the writer was interrupted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cache_making import SHAPE, Made, build, decided, fill, names_of, wanted
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrface.data.cache.column import Column
from dsrface.data.cache.manifest import HASH_BYTES, Manifest, Segment, read_manifest
from dsrface.data.cache.writer import ColumnWriter, garbage
from dsrface.data.layout import make_split
from dsrface.data.outputs.verify import verify_cache
from dsrface.data.stored import MANIFEST, PLAN, stale
from dsrface.errors import MachineError, RunError
from dsrface.runtime.files import sha256_json


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class _StopError(Exception):
    pass


@settings(max_examples=12, deadline=None)
@given(stops=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=5))
def test_any_interruptions_give_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, stops) -> None:
    folder = tmp_path_factory.mktemp("stops")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 70, *SHAPE), dtype=np.uint8)
    split = make_split("train", folder, names_of(70), low_folders={})

    def attempt(target: Path, stop: tuple[int, int] | None) -> None:
        decision = decided(target, wanted(split, "outputs"))
        writer = ColumnWriter.open(target, decision.plan)
        for number, plan in enumerate(writer.missing()):
            with writer.shard(plan) as shard:
                for record, row in enumerate(plan.rows):
                    if stop is not None and (number, record) >= stop:
                        # As after a kill: the temporary file stays behind.
                        shutil.copy(next(target.glob("*.tmp")), target / f"{plan.file}.123.tmp")
                        raise _StopError
                    shard.append(pixels[0, [row]])
        writer.finish()

    for stop in stops:
        if not (folder / "broken" / MANIFEST).exists():
            try:
                attempt(folder / "broken", stop)
            except _StopError:
                assert not (folder / "broken" / MANIFEST).exists()
    if not (folder / "broken" / MANIFEST).exists():
        attempt(folder / "broken", None)
    attempt(folder / "whole", None)
    assert tree(folder / "broken") == tree(folder / "whole")


def test_a_finished_shard_is_not_written_again_but_a_damaged_one_is(tmp_path: Path) -> None:
    split = make_split("train", tmp_path, names_of(70), low_folders={})
    pixels = np.zeros((1, 70, *SHAPE), np.uint8)
    folder = tmp_path / "cache"
    writer = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    fill(writer, pixels, limit=3)
    with (folder / "shard-00001.u8").open("r+b") as handle:
        handle.write(b"\7")
    again = decided(folder, wanted(split, "outputs"))
    assert again.action == "resume"
    left = [plan.number for plan in ColumnWriter.open(folder, again.plan).missing()]
    assert left == [1, 3, 4]


def test_reading_before_the_end_is_refused(tmp_path: Path) -> None:
    split = make_split("train", tmp_path, names_of(40), low_folders={})
    folder = tmp_path / "cache"
    writer = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    fill(writer, np.zeros((1, 40, *SHAPE), np.uint8), limit=1)
    with pytest.raises(RunError) as caught:
        Column(folder)
    assert caught.value.id == "cache-unfinished"
    with pytest.raises(RunError, match="2 of 3 shards are missing, first shard-00001"):
        writer.finish()


def test_a_missing_shard_is_made_anew_alone(made: Made) -> None:
    before = tree(made.outputs)
    (made.outputs / "shard-00002.u8").unlink()
    decision = decided(made.outputs, wanted(made.split, "outputs"))
    assert decision.action == "repair"
    assert "shard-00002.u8 is missing" in decision.reason
    writer = ColumnWriter.open(made.outputs, decision.plan)
    assert [plan.number for plan in writer.missing()] == [2]
    fill(writer, made.pixels["outputs"])
    writer.finish()
    assert tree(made.outputs) == before


def test_new_images_and_variants_are_appended_as_new_shards(made: Made) -> None:
    old = {name: data for name, data in tree(made.outputs).items() if name.startswith("shard")}
    more = make_split("train", made.split.root, [*made.split.names, "aa/0.png", "zz/0.png"], low_folders={})
    pixels = np.random.default_rng(9).integers(0, 256, (2, 72, *SHAPE), dtype=np.uint8)
    pixels[0, :70] = made.pixels["outputs"][0]
    decision = decided(made.outputs, wanted(more, "outputs", variants=2))
    assert decision.action == "append"
    assert decision.reason == "2 new images and 1 further variants"
    writer = ColumnWriter.open(made.outputs, decision.plan)
    fill(writer, pixels)
    writer.finish()
    new = tree(made.outputs)
    assert all(new[name] == data for name, data in old.items())
    column = Column(made.outputs)
    rows = column.rows_of(more)
    assert isinstance(rows, np.ndarray)
    # The table keeps the old rows and puts the new images behind them.
    assert sorted(rows.tolist()) == list(range(72))
    assert rows[list(more.names).index("aa/0.png")] == 70
    assert verify_cache(made.outputs).problems == ()
    assert decided(made.outputs, wanted(more, "outputs", variants=2)).action == "none"
    assert decided(made.outputs, wanted(more, "outputs", variants=1)).action == "none"


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ({"dsr_sha256": "b" * 64}, r"dsr_sha256: aaaaaaaaaaaa\.\. -> bbbbbbbbbbbb\.\."),
        ({"dsr_sha256": "a" * 64, "amp": "bf16"}, "amp: none -> bf16"),
        ({"dsr_sha256": "a" * 64, "nested": {"size": 3}}, r"nested\.size: none -> 3"),
    ],
)
def test_another_setting_is_refused_with_the_field_that_differs(made: Made, key, field: str) -> None:
    with pytest.raises(RunError, match=field) as caught:
        decided(made.outputs, wanted(made.split, "outputs", key=key))
    assert caught.value.id == "stale"
    assert decided(made.outputs, wanted(made.split, "outputs", key=key), force=True).action == "begin"


def test_what_is_stale_is_met_with_the_command_that_makes_it_again() -> None:
    again = stale(["amp: fp32 -> bf16"], Path("my data", "train", "dsr_outputs_16x16")).hint
    assert "dsrface precompute 'my data' --weights RUN --force" in again


def test_outputs_of_another_data_set_are_met_with_how_to_make_those_of_this() -> None:
    elsewhere = Path("other", "train", "dsr_outputs_16x16")
    said = stale(["inputs: 1 images have changed"], elsewhere, split=Path("mine", "train")).hint
    assert said == "They are of other. To make those of mine: dsrface precompute mine --weights RUN"
    assert "--force" in stale(["inputs"], elsewhere, split=Path("other", "val")).hint


def test_a_changed_input_is_refused_by_name(made: Made) -> None:
    inputs = np.zeros((70, HASH_BYTES), np.uint8)
    inputs[12, 0] = 1
    with pytest.raises(RunError, match=r"inputs: 1 images have changed, first 'p003/0\.png'"):
        decided(made.outputs, wanted(made.split, "outputs", inputs=inputs))


def test_images_that_are_gone_do_no_harm_until_they_would_have_to_be_written(made: Made) -> None:
    fewer = make_split("train", made.split.root, names_of(66), low_folders={})
    assert decided(made.outputs, wanted(fewer, "outputs")).action == "none"
    with pytest.raises(RunError, match=r"inputs: 4 images are gone, first 'p016/2\.png'") as caught:
        decided(made.outputs, wanted(fewer, "outputs", variants=2))
    assert caught.value.id == "stale"
    assert not (made.outputs / PLAN).exists()
    (made.outputs / "shard-00001.u8").unlink()
    with pytest.raises(RunError, match="images are gone"):
        decided(made.outputs, wanted(fewer, "outputs"))


def test_another_programs_manifest_is_never_deleted(made: Made) -> None:
    change(made.outputs, format="other")
    with pytest.raises(RunError, match="format is 'other'") as caught:
        decided(made.outputs, wanted(made.split, "outputs"), force=True)
    assert caught.value.id == "not-a-cache"
    assert (made.outputs / MANIFEST).exists()


def test_the_other_column_is_not_taken_for_this_one(made: Made) -> None:
    with pytest.raises(RunError, match="column: hr -> outputs"):
        decided(made.split.hr_column_dir, wanted(made.split, "outputs"))


def change(folder: Path, **fields: object) -> None:
    """Rewrite the manifest with other fields and a right hash, as another program might."""
    raw = json.loads((folder / MANIFEST).read_text())
    raw.update(fields)
    raw.pop("manifest_sha256")
    raw["manifest_sha256"] = sha256_json(raw)
    (folder / MANIFEST).write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("fields", "id", "message"),
    [
        ({"schema_version": 2}, "cache-schema", "schema_version 2; this dsrface reads 1"),
        ({"format": "other"}, "not-a-cache", "format is 'other'"),
        ({"shards": []}, "cache-damaged", "num_shards differs: 5 planned, 0 listed"),
    ],
)
def test_foreign_and_future_manifests(made: Made, fields, id: str, message: str) -> None:
    change(made.outputs, **fields)
    with pytest.raises(RunError, match=message) as caught:
        Column(made.outputs)
    assert caught.value.id == id


def test_a_manifest_edited_by_hand_is_refused(made: Made) -> None:
    path = made.outputs / MANIFEST
    path.write_text(path.read_text().replace('"num_images": 70', '"num_images": 60'))
    with pytest.raises(RunError, match="manifest_sha256 differs"):
        Column(made.outputs)
    path.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        Column(made.outputs)


def test_a_manifest_is_the_same_after_a_round_trip(made: Made) -> None:
    manifest = read_manifest(made.outputs)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json())), where=made.outputs) == manifest


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    shard=st.integers(1, 40),
    variants=st.integers(1, 3),
)
def test_a_plan_covers_every_image_in_every_variant_once(sizes: list[int], shard: int, variants: int) -> None:
    segments, first = [], 0
    for size in sizes:
        segments.append(Segment(first, size, 0, variants))
        first += size
    manifest = Manifest("hr", (1, 1, 3), first, variants, shard, 1, {}, {}, tuple(segments), ())
    plans = list(manifest.planned_shards())
    assert [plan.number for plan in plans] == list(range(manifest.num_shards))
    seen = sorted((plan.variant, int(row)) for plan in plans for row in plan.rows)
    assert seen == [(v, row) for v in range(variants) for row in range(first)]


def test_verify_lists_all_damage(made: Made) -> None:
    assert verify_cache(made.outputs).problems == ()
    for number, place in ((0, 3), (1, 7)):
        with (made.outputs / f"shard-0000{number}.u8").open("r+b") as handle:
            handle.seek(place * 37632 + 9)
            byte = handle.read(1)
            handle.seek(place * 37632 + 9)
            handle.write(bytes([byte[0] ^ 1]))
    (made.outputs / "shard-00004.u8").unlink()
    problems = verify_cache(made.outputs).problems
    assert len(problems) == 3
    assert problems[0].startswith("shard-00000.u8: record 3 (p")
    assert problems[1].startswith("shard-00001.u8: record 7 (p")
    assert problems[2] == "shard-00004.u8 is missing."
    table = next(made.outputs.glob("table-*"))
    table.write_bytes(table.read_bytes()[:-1])
    assert f"{table.name}: sha256 differs." in verify_cache(made.outputs).problems


def test_a_sample_reads_only_a_share(made: Made) -> None:
    assert 0 < verify_cache(made.outputs, sample=0.3).num_records < 50


def test_garbage_is_what_neither_manifest_nor_plan_needs(made: Made) -> None:
    assert garbage(made.outputs) == []
    mine = ("notes.txt", "notes.tmp", "table-of-results.safetensors", "shard-7.u8")
    for name in ("shard-00009.u8", "table-000000000000.safetensors", "shard-00000.u8.77.tmp", *mine):
        (made.outputs / name).write_bytes(b"x")
    assert garbage(made.outputs) == [
        "shard-00000.u8.77.tmp",
        "shard-00009.u8",
        "table-000000000000.safetensors",
    ]


def test_a_full_disk_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_split("train", tmp_path, names_of(40), low_folders={})
    plan = decided(tmp_path / "cache", wanted(split, "outputs")).plan
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(MachineError, match=r"40 images need 1\.5 MiB, and 977 KiB are free") as caught:
        ColumnWriter.open(tmp_path / "cache", plan)
    assert caught.value.id == "disk-too-small"


def test_a_disk_that_fills_up_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split("train", tmp_path, names_of(40), low_folders={})
    folder = tmp_path / "cache"
    writer = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    pixels = np.zeros((1, 40, *SHAPE), np.uint8)
    fill(writer, pixels, limit=1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MachineError) as caught:
            fill(writer, pixels)
    assert caught.value.id == "disk-full"
    assert not list(folder.glob("*.tmp"))
    again = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    assert [plan.number for plan in again.missing()] == [1, 2]


def test_a_small_tmpfs_fills_up(tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    mount = small_disk("4m")
    split = make_split("train", tmp_path, names_of(64), low_folders={})
    folder = mount / "cache"
    writer = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    fill(writer, np.ones((1, 64, *SHAPE), np.uint8), limit=2)
    (mount / "other").write_bytes(bytes(2 * 10**6))
    with pytest.raises(MachineError) as caught:
        fill(writer, np.ones((1, 64, *SHAPE), np.uint8))
    assert caught.value.id == "disk-full"
    (mount / "other").unlink()
    again = ColumnWriter.open(folder, decided(folder, wanted(split, "outputs")).plan)
    fill(again, np.ones((1, 64, *SHAPE), np.uint8))
    again.finish()
    assert verify_cache(folder).problems == ()


def test_the_documented_layout_can_be_read_by_hand(tmp_path: Path) -> None:
    """What docs/cache-format.md tells another reader to do, with nothing of ours."""
    from safetensors.numpy import load_file

    made = build(tmp_path, 30)
    folder = made.outputs
    manifest = json.loads((folder / "manifest.json").read_text())
    table = load_file(folder / manifest["table"]["file"])
    offsets = table["names_offsets"]
    images = {}
    for shard in manifest["shards"]:
        raw = (folder / shard["file"]).read_bytes()
        index = (folder / shard["file"].replace(".u8", ".idx")).read_bytes()
        rows = np.frombuffer(index, "<i8", shard["count"])
        crcs = np.frombuffer(index, "<u4", shard["count"], 8 * shard["count"])
        for place, row in enumerate(rows):
            record = raw[place * manifest["record_bytes"] : (place + 1) * manifest["record_bytes"]]
            assert zlib.crc32(record) == crcs[place]
            name = table["names_data"][offsets[row] : offsets[row + 1]].tobytes().decode()
            images[name] = np.frombuffer(record, np.uint8).reshape(manifest["shape"])
    assert list(images) != sorted(images)
    for number, name in enumerate(made.split.names):
        assert np.array_equal(images[name], made.pixels["outputs"][0, number])


def test_an_interrupted_cache_of_other_images_is_stale(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    there, here = (
        make_split("train", tmp_path, names, low_folders={}) for names in (["a/1.png"], ["b/1.png"])
    )
    ColumnWriter.open(folder, decided(folder, wanted(there, "outputs")).plan)  # and killed
    with pytest.raises(RunError) as caught:
        decided(folder, wanted(here, "outputs"))
    assert caught.value.id == "stale"
    assert "1 images are gone, first 'a/1.png'" in caught.value.message
    assert decided(folder, wanted(here, "outputs"), force=True).action == "begin"
