"""`dsrface precompute` on small data sets: what it writes, what it refuses, what kills do to it (nothing)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dsrface.commands import precompute
from dsrface.commands.shared.outputs import context, pipeline
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.precompute import PrecomputeConfig
from dsrface.data.augment import to_image01, to_image_u8
from dsrface.data.decode import read_image, write_png
from dsrface.data.layout import open_data
from dsrface.data.outputs.opening import make_order, open_outputs
from dsrface.data.outputs.png_tree import IMAGES
from dsrface.data.samplers import BatchSampler, EpochOrder
from dsrface.data.stored import PLAN
from dsrface.errors import DataError, MachineError, RunError, UsageError
from dsrface.events import Note
from dsrface.models.dsr import build_dsr
from dsrface.models.weights import load_dsr, save_model
from dsrface.runtime.files import disk_error
from dsrface.types import Preprocess

HERE = Path(__file__).parent


def write_faces(root: Path, *, persons: int, images: int, seed: int, flat: bool = False) -> None:
    rng = np.random.default_rng(seed)
    for person in range(persons):
        for image in range(images):
            name = f"p{seed}{person}_{image}.png" if flat else f"p{seed}{person}/{image}.png"
            for folder, size in (("hr_images", 112), ("vlr_images" if flat else "vlr_images_16x16", 16)):
                write_png(root / folder / name, rng.integers(0, 256, (size, size, 3), dtype=np.uint8))


def write_dsr(path: Path, *, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = DsrConfig(vlr_size=16, channels=8, blocks=1)
    model = build_dsr(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_model(path, model, kind="dsr", config=config.model_dump(), preprocess=Preprocess(16))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    for number, split in enumerate(("train", "val", "test")):
        write_faces(root / "data" / split, persons=4 if split == "train" else 2, images=5, seed=number)
    write_dsr(root / "dsr.safetensors")
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "work")
    return tmp_path / "work"


def config_of(root: Path, **changes: object) -> PrecomputeConfig:
    values = {
        "data": root / "data",
        "weights": root / "dsr.safetensors",
        "device": "cpu",
        "batch_size": 4,
        "storage": {"shard_images": 8},
        **changes,
    }
    return PrecomputeConfig.model_validate({key: value for key, value in values.items() if value is not None})


def run(config: PrecomputeConfig, notes: list[str] | None = None):
    def emit(event: object) -> None:
        if notes is not None and isinstance(event, Note):
            notes.append(event.message)

    return precompute.run(config, emit=emit)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".lock" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def expected(root: Path, low: Path) -> np.ndarray:
    model = load_dsr(root / "dsr.safetensors").model
    with torch.inference_mode():
        return to_image_u8(model(to_image01(torch.from_numpy(read_image(low))[None])))[0].numpy()


def check_outputs(root: Path, split_name: str = "train") -> None:
    split = open_data(root / "data").split(split_name)
    outputs = split.outputs_dir(16)
    order = make_order(split, outputs, seed=0)
    sampler = BatchSampler(order, batch_size=5, drop_last=False)
    loader = open_outputs(split, outputs, sampler=sampler, size_px=16)
    seen = 0
    for batch in loader.epoch(0):
        for inputs, high, index in zip(batch.inputs, batch.high, batch.indices.tolist(), strict=True):
            name = split.names[index]
            difference = inputs.numpy().astype(int) - expected(root, split.low_dir(16) / name)
            assert np.abs(difference).max() <= 1  # another batch size may round the other way
            assert np.array_equal(high.numpy(), read_image(split.high_dir / name))
            seen += 1
    loader.close()
    assert seen == len(split)


@pytest.mark.parametrize("format", ["cache", "png"])
def test_outputs_are_what_the_dsr_makes_of_each_image(root: Path, format: str) -> None:
    result = run(config_of(root, format=format))
    assert result.exit_code == 0
    assert all(item.action == "begin" for item in result.folders)
    for split in ("train", "val", "test"):
        check_outputs(root, split)


@pytest.mark.parametrize("format", ["cache", "png"])
def test_a_finished_output_is_left_alone(root: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config_of(root, format=format))
    before = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*") if path.is_file()}

    def never(*_: object) -> None:
        raise AssertionError("the DSR ran")

    monkeypatch.setattr(pipeline.Upscaler, "__call__", never)
    result = run(config_of(root, format=format))
    assert {item.action for item in result.folders} == {"none"}
    assert result.summary.startswith("Nothing to do")
    after = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if ".lock" not in p.name} == {
        p: t for p, t in before.items() if ".lock" not in p.name
    }


def test_a_finished_output_on_a_disk_without_writing_is_complete_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config_of(root, format="cache"))

    def refuse(path: Path, **_: object) -> None:
        raise disk_error(OSError(errno.EROFS, "Read-only file system"), path)

    monkeypatch.setattr(context, "exclusive", refuse)
    assert run(config_of(root, format="cache")).summary.startswith("Nothing to do")
    (root / "data/train/dsr_outputs_16x16/manifest.json").unlink()
    with pytest.raises(MachineError, match="Read-only"):
        run(config_of(root, format="cache"))


@pytest.mark.parametrize("format", ["cache", "png"])
def test_other_weights_are_refused_and_force_makes_anew(root: Path, format: str) -> None:
    run(config_of(root, format=format))
    write_dsr(root / "dsr.safetensors", seed=1)
    with pytest.raises(RunError, match=r"dsr_sha256: [0-9a-f]{12}\.\. -> [0-9a-f]{12}\.\.") as caught:
        run(config_of(root, format=format))
    assert caught.value.id == "stale"
    run(config_of(root, format=format, force=True))
    check_outputs(root)


@pytest.mark.parametrize("format", ["cache", "png"])
def test_a_changed_image_is_refused_by_name_by_precompute_and_by_the_reader(root: Path, format: str) -> None:
    run(config_of(root, format=format))
    low = root / "data/train/vlr_images_16x16/p01/3.png"
    write_png(low, 255 - read_image(low))
    with pytest.raises(RunError, match=r"p01/3\.png"):
        run(config_of(root, format=format))
    split = open_data(root / "data").split("train")
    sampler = BatchSampler(EpochOrder(len(split), 0), batch_size=4)
    with pytest.raises(RunError, match=r"p01/3\.png") as caught:
        open_outputs(split, split.outputs_dir(16), sampler=sampler, size_px=16)
    assert caught.value.id == "stale"
    if format == "cache":
        with pytest.raises(RunError, match="vlr_size: 16 -> 24"):
            open_outputs(split, split.outputs_dir(16), sampler=sampler, size_px=24)


def test_touched_or_copied_images_are_not_stale(root: Path) -> None:
    run(config_of(root))
    for path in (root / "data").rglob("*.png"):
        os.utime(path, (1, 1))
    check_outputs(root)
    assert {item.action for item in run(config_of(root)).folders} == {"none"}


@pytest.mark.parametrize("format", ["cache", "png"])
def test_new_images_are_appended(root: Path, format: str) -> None:
    run(config_of(root, format=format))
    write_faces(root / "data/train", persons=1, images=3, seed=9)
    split = open_data(root / "data").split("train")
    if format == "cache":
        with pytest.raises(RunError) as caught:
            open_outputs(
                split,
                split.outputs_dir(16),
                sampler=BatchSampler(EpochOrder(23, 0), batch_size=4),
                size_px=16,
            )
        assert caught.value.id == "cache-lacks-images"
    result = run(config_of(root, format=format))
    assert next(item.num_images for item in result.folders if Path(item.folder).parent.name == "train") == 3
    check_outputs(root)


def test_the_hr_column_is_made_once_for_all_sizes_and_weights(root: Path) -> None:
    run(config_of(root))
    before = tree(root / "data/train/hr_cache")
    for split in ("train", "val", "test"):
        shutil.copytree(root / "data" / split / "hr_images", root / "data" / split / "vlr_images_24x24")
        for path in (root / "data" / split / "vlr_images_24x24").rglob("*.png"):
            write_png(path, read_image(path)[:24, :24])
    config = DsrConfig(vlr_size=24, channels=8, blocks=1)
    save_model(
        root / "dsr24.safetensors",
        build_dsr(config),
        kind="dsr",
        config=config.model_dump(),
        preprocess=Preprocess(24),
    )
    result = run(config_of(root, weights=root / "dsr24.safetensors"))
    assert [item.action for item in result.folders] == ["begin", "none"] * 3
    assert tree(root / "data/train/hr_cache") == before


def test_flat_folders_with_derived_splits_share_one_cache(tmp_path: Path) -> None:
    write_faces(tmp_path / "data", persons=12, images=2, seed=0, flat=True)
    write_dsr(tmp_path / "dsr.safetensors")
    result = run(config_of(tmp_path))
    assert [Path(item.folder).name for item in result.folders] == ["dsr_outputs", "hr_cache"]
    for split in ("train", "val", "test"):
        check_outputs(tmp_path, split)


@pytest.mark.parametrize("format", ["cache", "png"])
def test_a_folder_of_images(root: Path, tmp_path: Path, format: str) -> None:
    low = root / "data/train/vlr_images_16x16"
    result = run(config_of(root, data=None, input=low, output=tmp_path / "out", format=format))
    assert result.folders[0].num_images == 20
    if format == "png":
        names = {str(p.relative_to(low)) for p in low.rglob("*.png")}
        assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")} == names
        got = read_image(tmp_path / "out/p00/0.png").astype(int)
        assert np.abs(got - expected(root, low / "p00/0.png")).max() <= 1


def test_variants_are_augmented_pairs(root: Path) -> None:
    run(config_of(root, variants=3))
    split = open_data(root / "data").split("train")
    sampler = BatchSampler(EpochOrder(20, 0, shuffle=False), batch_size=20)
    loader = open_outputs(split, split.outputs_dir(16), sampler=sampler, size_px=16)
    batches = [next(loader.epoch(epoch)) for epoch in range(2)]
    loader = open_outputs(split, split.outputs_dir(16), sampler=sampler, size_px=16)
    high = [next(loader.epoch(epoch)).high.clone() for epoch in range(3)]
    plain = np.stack([read_image(split.high_dir / name) for name in split.names])
    assert np.array_equal(high[0].numpy(), plain)
    # The made-up data does not say how its VLR images were made, so variants are mirrored or not.
    mirrored = [
        bool(np.array_equal(high[1][i].numpy(), plain[i][:, ::-1]))
        or bool(np.array_equal(high[1][i].numpy(), plain[i]))
        for i in range(20)
    ]
    assert all(mirrored)
    assert not torch.equal(high[1], high[0])
    assert len(batches) == 2
    with pytest.raises(RunError, match=r"augment\.seed: 0 -> 7"):
        run(config_of(root, variants=3, seed=7))


@pytest.mark.parametrize("format", ["cache", "png"])
def test_verify_finds_a_flipped_bit_and_a_missing_file(root: Path, format: str) -> None:
    run(config_of(root, format=format))
    assert run(config_of(root, format=format, verify=True)).exit_code == 0
    folder = root / "data/train/dsr_outputs_16x16"
    path = folder / ("shard-00001.u8" if format == "cache" else "p01/2.png")
    sound = path.read_bytes()
    path.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
    result = run(config_of(root, format=format, verify=True))
    assert result.exit_code == 1
    assert path.name in result.summary
    result = run(config_of(root, format=format))
    assert result.folders[0].action == "repair"
    assert "images rebuilt" in result.summary
    assert path.read_bytes() == sound
    path.unlink()
    assert run(config_of(root, format=format, verify=True)).exit_code == 1
    result = run(config_of(root, format=format))
    assert result.folders[0].action == "repair"
    assert run(config_of(root, format=format, verify=True)).exit_code == 0


@pytest.mark.parametrize("format", ["cache", "png"])
@pytest.mark.parametrize(
    ("text", "id"),
    [("{", "file-damaged"), ('{"format": "dsrface-FORMAT", "schema_version": 9}', "cache-schema")],
)
def test_an_unreadable_manifest_is_refused_and_force_makes_anew(
    root: Path, format: str, text: str, id: str
) -> None:
    run(config_of(root, format=format))
    (root / "data/train/dsr_outputs_16x16/manifest.json").write_text(text.replace("FORMAT", format))
    with pytest.raises(RunError) as caught:
        run(config_of(root, format=format))
    assert caught.value.id == id
    run(config_of(root, format=format, force=True))
    check_outputs(root)


def test_a_folder_of_foreign_images_is_not_written_into(root: Path) -> None:
    write_png(root / "data/train/dsr_outputs_16x16/p00/0.png", np.zeros((112, 112, 3), np.uint8))
    for format in ("cache", "png"):
        with pytest.raises(RunError) as caught:
            run(config_of(root, format=format))
        assert caught.value.id == "output-not-ours"


def test_the_other_format_is_refused(root: Path) -> None:
    run(config_of(root, format="png"))
    with pytest.raises(RunError) as caught:
        run(config_of(root))
    assert caught.value.id == "output-other-format"
    shutil.rmtree(root / "data/train/dsr_outputs_16x16")
    run(config_of(root, data=None, input=root / "data/train/vlr_images_16x16", output=root / "out"))
    with pytest.raises(RunError) as caught:
        run(
            config_of(
                root, data=None, input=root / "data/train/vlr_images_16x16", output=root / "out", format="png"
            )
        )
    assert caught.value.id == "output-other-format"


def test_an_image_of_another_size_is_named(root: Path) -> None:
    write_png(root / "data/train/vlr_images_16x16/p00/1.png", np.zeros((20, 16, 3), np.uint8))
    with pytest.raises(DataError, match="16x20, not 16x16") as caught:
        run(config_of(root))
    assert caught.value.where.endswith("p00/1.png")
    assert not list((root / "data/train/dsr_outputs_16x16").glob("*.tmp"))


def test_a_full_disk_stops_the_run_with_a_clear_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    real = os.fsync
    calls = []

    def sometimes(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sometimes)
        with pytest.raises(MachineError) as caught:
            run(config_of(root))
    assert caught.value.id == "disk-full"
    run(config_of(root))
    check_outputs(root)


def test_auto_batch_size_is_measured_and_kept_for_the_resume(root: Path) -> None:
    notes: list[str] = []
    run(config_of(root, batch_size="auto"), notes)
    assert any(note.startswith("batch size: auto ->") for note in notes)
    manifest = json.loads((root / "data/train/dsr_outputs_16x16/manifest.json").read_text())
    assert manifest["info"]["batch_size"] >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_give_the_same_bytes(root: Path, workers: int) -> None:
    run(config_of(root, workers=0))
    before = tree(root / "data/train/dsr_outputs_16x16")
    shutil.rmtree(root / "data/train/dsr_outputs_16x16")
    run(config_of(root, workers=workers))
    assert tree(root / "data/train/dsr_outputs_16x16") == before


def test_bad_combinations_are_usage_errors(root: Path) -> None:
    from dsrface.config.sources import resolve

    for flags in (
        {"weights": "x"},
        {"weights": "x", "input": "a"},
        {"weights": "x", "input": "a", "output": "a"},
        {"weights": "x", "input": "a", "output": "a/sr", "format": "png", "force": True},
        {"weights": "x", "data": "a", "batch_size": 0},
        {"weights": "x", "data": "a", "variants": 2, "format": "png"},
    ):
        with pytest.raises(UsageError):
            resolve(PrecomputeConfig, flags=flags)


# ---- other processes
# ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize(
    ("format", "kills"),
    [
        ("cache", 3),
        pytest.param("png", 10, marks=pytest.mark.slow),
        pytest.param("cache", 30, marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_do_not_change_a_byte(
    root: Path, tmp_path: Path, format: str, kills: int
) -> None:
    write_faces(root / "data/train", persons=8, images=5, seed=5)
    config = config_of(root, format=format)
    command = [sys.executable, str(HERE / "precompute_killer.py"), config.model_dump_json(), str(kills), "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    killed = tree(root / "data")
    for split in ("train", "val", "test"):
        for folder in ("dsr_outputs_16x16", "hr_cache"):
            shutil.rmtree(root / "data" / split / folder, ignore_errors=True)
    run(config)
    whole = tree(root / "data")
    assert killed == whole


@pytest.mark.parametrize("left", [IMAGES, f"{IMAGES}.123.tmp", f"{PLAN}.123.tmp"])
def test_a_png_tree_that_was_killed_before_its_plan_is_begun_anew(root: Path, left: str) -> None:
    outputs = root / "data/test/dsr_outputs_16x16"
    outputs.mkdir()
    (outputs / left).write_bytes(b"{")
    run(config_of(root, format="png"))
    check_outputs(root, "test")
    assert not list(outputs.glob("*.tmp"))


_LOCKED = """
import sys
from dsrface.commands import precompute
from dsrface.config.precompute import PrecomputeConfig
from dsrface.errors import RunError
try:
    precompute.run(PrecomputeConfig.model_validate_json(sys.argv[1]), emit=lambda _: None)
except RunError as error:
    print(error.id, error.message)
"""


def test_only_temporary_files_of_ours_are_cleared_from_a_png_tree(root: Path) -> None:
    run(config_of(root, format="png"))
    folder = root / "data/train/dsr_outputs_16x16"
    (folder / "p01/2.png").unlink()
    (folder / "p01/2.png.4711.tmp").write_bytes(b"half")
    (folder / "notes.tmp").write_text("mine")
    run(config_of(root, format="png"))
    assert not (folder / "p01/2.png.4711.tmp").exists()
    assert (folder / "notes.tmp").exists()


@pytest.mark.slow
def test_two_at_once_on_one_output(root: Path) -> None:
    from dsrface.runtime.locks import exclusive

    folder = root / "data/train/dsr_outputs_16x16"
    with exclusive(folder / ".lock", what="output folder"):
        command = [
            sys.executable, "-c",
            _LOCKED,
            config_of(root).model_dump_json(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.startswith("locked"), done.stderr
    assert str(os.getpid()) in done.stdout


@pytest.mark.slow
def test_two_ranks_share_the_shards_and_write_the_same_bytes(root: Path) -> None:
    run(config_of(root))
    alone = tree(root / "data")
    for split in ("train", "val", "test"):
        for folder in ("dsr_outputs_16x16", "hr_cache"):
            shutil.rmtree(root / "data" / split / folder)
    script = root / "job.py"
    script.write_text(
        "import sys\nfrom dsrface.commands import precompute\n"
        "from dsrface.config.precompute import PrecomputeConfig\n"
        "if __name__ == '__main__':\n"
        "    precompute.run(PrecomputeConfig.model_validate_json(sys.argv[1]), emit=lambda _: None)\n"
    )
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(script), config_of(root).model_dump_json(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    both = tree(root / "data")
    assert both == alone


NEAREST = """
import torch

def network():
    return torch.nn.Upsample(scale_factor=7)
"""


def test_a_data_set_for_tests_alone_is_evaluated_next(root: Path) -> None:
    for split in ("train", "val"):
        shutil.rmtree(root / "data" / split)
    (root / "data" / "dataset.json").write_text('{"schema_version": 1}')
    result = run(config_of(root))
    assert result.next_command.startswith(f"dsrface evaluate {root / 'data'} --vlr-size 16 --dsr")


def test_network_of_others__takes_the_size_that_is_asked_for(root: Path) -> None:
    (root / "nearest_nets.py").write_text(NEAREST)
    weights = Path(f"{root / 'nearest_nets.py'}:network")
    with pytest.raises(UsageError) as caught:
        run(PrecomputeConfig(data=root / "data", weights=weights, device="cpu"))
    assert caught.value.id == "vlr-size-missing"
    run(PrecomputeConfig(data=root / "data", weights=weights, vlr_size=16, format="png", device="cpu"))
    low = read_image(root / "data/test/vlr_images_16x16/p20/0.png")
    high = read_image(root / "data/test/dsr_outputs_16x16/p20/0.png")
    np.testing.assert_array_equal(high, low.repeat(7, axis=0).repeat(7, axis=1))
