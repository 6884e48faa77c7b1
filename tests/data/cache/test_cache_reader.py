"""The reader against naive indexing, across back ends, ranks, resumes; and against every kind of damage."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_making import Made, build
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrface.data.cache import backends, blocks
from dsrface.data.cache.column import Column
from dsrface.data.cache.order import WindowOrder
from dsrface.data.cache.reader import PackedReader
from dsrface.data.layout import make_split
from dsrface.data.outputs.opening import make_order, open_outputs
from dsrface.data.samplers import BatchSampler, EpochOrder, PersonSampler
from dsrface.errors import RunError
from dsrface.runtime.resources import Memory

KINDS = ("mapped", "blocks", "resident")


def reader_of(made: Made, *, kind: str = "mapped", batch_size: int = 16, **options) -> PackedReader:
    order = options.pop("order", None) or EpochOrder(len(made.split), 3)
    sampler = BatchSampler(order, batch_size=batch_size, drop_last=options.pop("drop_last", True), **options)
    return PackedReader(made.split, made.outputs, sampler=sampler, kind=kind)


def copies(reader: PackedReader, epoch: int = 0, start: int = 0):
    return [
        (b.inputs.clone(), b.high.clone(), b.labels.clone(), b.indices.clone())
        for b in reader.epoch(epoch, start)
    ]


def same(left, right) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True)
    )


def check_batches(made: Made, batches, variant: int = 0) -> None:
    for inputs, high, labels, indices in batches:
        where = indices.numpy()
        assert np.array_equal(inputs.numpy(), made.pixels["outputs"][variant, where])
        assert np.array_equal(high.numpy(), made.pixels["hr"][variant, where])
        assert torch.equal(labels, made.split.labels[indices])


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_pixels_that_were_written(made: Made, kind: str) -> None:
    with reader_of(made, kind=kind, drop_last=False) as reader:
        for epoch in range(3):
            batches = copies(reader, epoch)
            check_batches(made, batches)
            seen = torch.cat([batch[3] for batch in batches])
            assert sorted(seen.tolist()) == list(range(len(made.split)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_gather_equals_naive_indexing(
    shared: tuple[Made, dict[str, PackedReader]], data: st.DataObject
) -> None:
    made, readers = shared
    indices = np.array(
        data.draw(st.lists(st.integers(0, len(made.split) - 1), min_size=1, max_size=24)), np.int64
    )
    epoch = data.draw(st.integers(0, 5))
    batch = readers[data.draw(st.sampled_from(sorted(readers)))].gather(indices, epoch)
    assert np.array_equal(batch.inputs.cpu().numpy(), made.pixels["outputs"][epoch % 3, indices])
    assert np.array_equal(batch.high.cpu().numpy(), made.pixels["hr"][epoch % 3, indices])
    assert batch.labels.tolist() == made.split.labels[torch.from_numpy(indices)].tolist()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    made = build(tmp_path_factory.mktemp("shared"), 53, variants=3)
    readers = {kind: reader_of(made, kind=kind, batch_size=24) for kind in KINDS}
    sharded = reader_of(made, batch_size=24)
    sharded._backends = tuple(backends.ShardedColumn(column) for column in sharded.columns)
    readers["sharded, as on Windows"] = sharded
    yield made, readers
    for reader in readers.values():
        reader.close()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of one block, 64 images, so that 70 images need two."""
    for module in ("order", "reader"):
        monkeypatch.setattr(f"dsrface.data.cache.{module}.WINDOW_BLOCKS", 1)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("windowed", [False, True])
def test_every_back_end_gives_the_same_batches(made: Made, windowed: bool) -> None:
    def order() -> EpochOrder:
        return WindowOrder(made.split, Column(made.outputs), seed=5) if windowed else EpochOrder(70, 5)

    results = []
    for kind in KINDS:
        with reader_of(made, kind=kind, order=order()) as reader:
            results.append(copies(reader, 0) + copies(reader, 1))
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    check_batches(made, results[0])


def test_cache_and_png_tree_give_the_same_batches(made: Made, tmp_path: Path) -> None:
    from dsrface.data.decode import write_png

    for number, name in enumerate(made.split.names):
        write_png(tmp_path / "png" / name, made.pixels["outputs"][0, number])
        write_png(made.split.high_dir / name, made.pixels["hr"][0, number])
    results = []
    for folder in (made.outputs, tmp_path / "png"):
        loader = _open(made, folder, make_order(made.split, folder, seed=1))
        results.append(
            [(b.inputs.clone(), b.high.clone(), b.labels.clone(), b.indices.clone()) for b in loader.epoch(2)]
        )
        loader.close()
    assert same(results[0], results[1])


def _open(made: Made, folder: Path, order: EpochOrder):
    sampler = BatchSampler(order, batch_size=16)
    if folder == made.outputs:  # its made-up input hashes would be stale
        return PackedReader(made.split, folder, sampler=sampler)
    return open_outputs(made.split, folder, sampler=sampler, size_px=16)


@pytest.mark.parametrize("kind", KINDS)
def test_resume_in_the_middle_of_an_epoch(made: Made, kind: str) -> None:
    with reader_of(made, kind=kind) as reader:
        whole = copies(reader, 1)
    with reader_of(made, kind=kind) as reader:
        assert same(copies(reader, 1, 2), whole[2:])


@pytest.mark.parametrize("kind", ["mapped", "blocks"])
def test_ranks_share_an_epoch(made: Made, kind: str) -> None:
    with reader_of(made, batch_size=12) as reader:
        alone = copies(reader, 4)
    parts = []
    for rank in range(2):
        with reader_of(made, kind=kind, batch_size=12, rank=rank, world_size=2) as reader:
            parts.append(copies(reader, 4))
    joined = [
        tuple(torch.cat([a, b]) for a, b in zip(*pair, strict=True)) for pair in zip(*parts, strict=True)
    ]
    assert same(joined, alone)


def test_persons_sampler_reads_through_every_back_end(made: Made) -> None:
    results = []
    for kind in KINDS:
        sampler = PersonSampler(made.split.labels, persons_per_batch=4, images_per_person=3, seed=0)
        with PackedReader(made.split, made.outputs, sampler=sampler, kind=kind) as reader:
            results.append(copies(reader))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_variants_take_turns(tmp_path: Path) -> None:
    made = build(tmp_path, 20, variants=3)
    with reader_of(made, batch_size=10) as reader:
        for epoch in range(5):
            check_batches(made, copies(reader, epoch), variant=epoch % 3)


def test_part_of_a_split_and_another_order_of_names(made: Made) -> None:
    names = [made.split.names[i] for i in (3, 8, 15, 16, 44)]
    part = make_split("train", made.split.root, names, low_folders=made.split.low_folders)
    reader = PackedReader(
        part, made.outputs, sampler=BatchSampler(EpochOrder(5, 0, shuffle=False), batch_size=5)
    )
    batch = next(reader.epoch(0))
    assert np.array_equal(batch.inputs.numpy(), made.pixels["outputs"][0, [3, 8, 15, 16, 44]])
    reader.close()


def test_images_that_the_cache_lacks_are_named(made: Made) -> None:
    part = make_split("train", made.split.root, ["p000/0.png", "zz/new.png"], low_folders={})
    with pytest.raises(RunError, match=r"zz/new\.png") as caught:
        PackedReader(part, made.outputs, sampler=BatchSampler(EpochOrder(2, 0), batch_size=2))
    assert caught.value.id == "cache-lacks-images"


def test_more_images_than_a_buffer_holds_are_refused(made: Made) -> None:
    with reader_of(made, batch_size=8) as reader, pytest.raises(ValueError, match="9 images do not fit"):
        reader.gather(np.arange(9))


def test_memory_is_used_over_and_over(made: Made) -> None:
    with reader_of(made) as reader:
        addresses = {batch.inputs.data_ptr() for epoch in range(5) for batch in reader.epoch(epoch)}
    assert len(addresses) <= 3


def test_a_batch_stays_valid_until_the_next_is_asked_for(made: Made) -> None:
    import time

    with reader_of(made, batch_size=8) as reader:
        for batch in reader.epoch(0):
            before = batch.inputs.clone()
            time.sleep(0.02)  # time for the thread to overwrite it, if it were wrong
            assert torch.equal(batch.inputs, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_few_page_faults_a_batch(tmp_path: Path) -> None:
    import resource

    made = build(tmp_path, 256, shard_images=128)
    with reader_of(made, batch_size=64) as reader:
        for epoch in range(3):
            for _ in reader.epoch(epoch):
                pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        count = sum(1 for epoch in range(8) for _ in reader.epoch(epoch))
        faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count
    # 64 pairs of fresh memory would be 1,176 faults.
    assert faults < 200


@pytest.mark.parametrize("kind", ["mapped", "blocks"])
def test_an_epoch_can_be_left_and_another_begun(made: Made, kind: str) -> None:
    import threading

    before = set(threading.enumerate())
    with reader_of(made, kind=kind) as reader:
        whole = copies(reader, 1)
        for _ in range(5):
            for batch in reader.epoch(0):
                assert len(batch) == 16
                break
            assert same(copies(reader, 1), whole)
    gc.collect()
    assert set(threading.enumerate()) <= before


def shard_files(made: Made) -> list[Path]:
    return sorted(made.outputs.glob("shard-*.u8"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_named_before_it_is_trained_on(made: Made, kind: str) -> None:
    path = shard_files(made)[2]
    raw = bytearray(path.read_bytes())
    raw[5 * 37632 + 100] ^= 4
    path.write_bytes(raw)
    with (
        pytest.raises(
            RunError, match=r"Record 5 of shard-00002\.u8 \(p\d+/\d\.png\).*crc32 differs"
        ) as caught,
        reader_of(made, kind=kind, drop_last=False) as reader,
    ):
        copies(reader)
    assert caught.value.id == "cache-damaged"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda path: os.truncate(path, path.stat().st_size - 1),
            r"truncated: size differs, 602112 -> 602111",
        ),
        (lambda path: os.truncate(path, path.stat().st_size + 37632), "grown: size differs"),
        (lambda path: path.unlink(), "shard-00001.u8 is missing"),
        (lambda path: path.with_suffix(".idx").unlink(), "shard-00001.idx is missing"),
    ],
    ids=["truncated", "grown", "missing", "index missing"],
)
def test_damage_that_sizes_show_is_refused_on_opening(made: Made, harm, message: str) -> None:
    harm(shard_files(made)[1])
    with pytest.raises(RunError, match=message) as caught:
        reader_of(made)
    assert caught.value.id == "cache-damaged"
    assert "shard-00001" in caught.value.where


def test_swapped_shards_are_found(made: Made) -> None:
    first, second = shard_files(made)[:2]
    other = first.with_name("other")
    first.rename(other)
    second.rename(first)
    other.rename(second)
    with pytest.raises(RunError, match="crc32 differs"), reader_of(made, drop_last=False) as reader:
        copies(reader)


def test_swapped_index_files_are_found(made: Made) -> None:
    first, second = (path.with_suffix(".idx") for path in shard_files(made)[:2])
    raw = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(raw)
    with pytest.raises(RunError, match=r"shard-0000[01]\.idx: index_sha256 differs"):
        reader_of(made)


def test_a_shard_cut_short_behind_the_readers_back_is_an_error_not_a_crash(made: Made) -> None:
    with reader_of(made, kind="blocks", drop_last=False) as reader:
        for path in shard_files(made):
            os.truncate(path, 1000)
        with pytest.raises(RunError, match="truncated"):
            copies(reader)


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is mapped")
def test_a_replaced_file_does_not_disturb_who_reads_the_old_one(made: Made) -> None:
    with reader_of(made, drop_last=False) as reader:
        for path in shard_files(made):
            fresh = path.with_name(path.name + ".new")
            fresh.write_bytes(b"")
            os.replace(fresh, path)
        check_batches(made, copies(reader))


def test_the_back_end_follows_from_memory(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [Column(made.outputs), Column(made.split.hr_column_dir)]
    assert backends.choose(columns, device="cpu", resident="auto").kind == "mapped"
    monkeypatch.setattr(backends, "memory_limit", lambda: Memory(4_000_000, 4_000_000, "cgroup limit"))
    choice = backends.choose(columns, device="cpu", resident="auto")
    assert choice.kind == "blocks"
    assert "cgroup limit" in choice.reason
    assert backends.choose(columns, device="cpu", resident="always").kind == "resident"


def test_the_order_does_not_follow_from_memory(
    made: Made, monkeypatch: pytest.MonkeyPatch, small_windows: None
) -> None:
    """Ranks, or a run and its resumption, may find different amounts of it free."""

    def batches() -> list[list[int]]:
        sampler = BatchSampler(make_order(made.split, made.outputs, seed=4), batch_size=16)
        with PackedReader(made.split, made.outputs, sampler=sampler) as reader:
            kinds.append(reader.choice.kind)
            return [indices.tolist() for *_, indices in copies(reader, epoch=1)]

    kinds: list[str] = []
    roomy = batches()
    monkeypatch.setattr(backends, "memory_limit", lambda: Memory(4_000_000, 4_000_000, "cgroup limit"))
    assert batches() == roomy
    assert kinds == ["mapped", "blocks"]


def test_a_split_of_one_window_has_the_order_that_it_has_without_a_cache(made: Made) -> None:
    order = WindowOrder(made.split, Column(made.outputs), seed=4)
    assert order.permutation(1).tolist() == EpochOrder(len(made.split), 4).permutation(1).tolist()


@pytest.mark.usefixtures("small_windows")
def test_window_order_shows_every_image_once_and_differs_by_epoch(made: Made) -> None:
    order = WindowOrder(made.split, Column(made.outputs), seed=0)
    first, second = order.permutation(0), order.permutation(1)
    assert sorted(first.tolist()) == list(range(70))
    assert first.tolist() != second.tolist()
    assert first.tolist() == WindowOrder(made.split, Column(made.outputs), seed=0).permutation(0).tolist()


@pytest.mark.usefixtures("small_windows")
def test_a_part_of_a_split_is_read_from_the_cache_of_the_whole(tmp_path: Path) -> None:
    made = build(tmp_path, 300, shard_images=64)
    kept = [name for number, name in enumerate(made.split.names) if number % 3]
    part = make_split("train", made.split.root, kept, low_folders={16: "vlr_images_16x16"})
    sampler = BatchSampler(make_order(part, made.outputs, seed=0), batch_size=16, drop_last=False)
    where = np.array([number for number in range(300) if number % 3])
    for kind in ("mapped", "blocks"):
        with PackedReader(part, made.outputs, sampler=sampler, kind=kind) as reader:
            batches = copies(reader, 1)
        for inputs, _, _, indices in batches:
            assert np.array_equal(inputs.numpy(), made.pixels["outputs"][0, where[indices.numpy()]])
        assert sorted(torch.cat([batch[3] for batch in batches]).tolist()) == list(range(200))


def test_memory_beside_the_pixels_is_a_slot_an_image(tmp_path: Path) -> None:
    """Checksums and rows of an index stay in its file, for all but a few shards."""
    made = build(tmp_path, 300, shard_images=4)
    column = Column(made.outputs)
    column.slots(0)
    assert len(column._indices) == 64
    assert column.slots(0).nbytes == 4 * 300


@pytest.mark.usefixtures("small_windows")
def test_blocks_are_read_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = blocks._read_extent, []
    monkeypatch.setattr(blocks, "_read_extent", lambda *args: (read.append(args[-1].nbytes), real(*args)))
    made = build(tmp_path, 300, shard_images=128)
    order = WindowOrder(made.split, Column(made.outputs), seed=0)
    with reader_of(made, kind="blocks", order=order, drop_last=False) as reader:
        copies(reader)
    assert sum(read) == 2 * 300 * 37632  # of both columns


def test_neighbours_on_disk_are_of_many_persons(made: Made) -> None:
    column = Column(made.outputs)
    by_slot = np.argsort(column.slots(0))
    persons = made.split.labels.numpy()[by_slot[:16]]
    assert len(set(persons.tolist())) >= 8  # in the order of names it would be 4


def test_a_moved_cache_still_opens(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "train"
    shutil.copytree(made.split.root, target)
    split = make_split("train", target, list(made.split.names), low_folders={16: "vlr_images_16x16"})
    with PackedReader(
        split, split.outputs_dir(16), sampler=BatchSampler(EpochOrder(70, 0), batch_size=8)
    ) as reader:
        check_batches(made, copies(reader))


def test_a_pinned_ring_waits_for_the_device_before_it_reuses_a_slot(made: Made) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    sampler = BatchSampler(EpochOrder(70, 3), batch_size=16)
    with PackedReader(made.split, made.outputs, sampler=sampler, device="cuda", resident="never") as reader:
        moved = [batch.to("cuda") for batch in reader.epoch(0)]
        torch.cuda.synchronize()
        check_batches(made, [(b.inputs.cpu(), b.high.cpu(), b.labels.cpu(), b.indices.cpu()) for b in moved])
