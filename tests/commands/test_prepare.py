from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from dsrface.commands import prepare
from dsrface.commands.prepare import folder
from dsrface.config.prepare import PrepareConfig
from dsrface.data import draws
from dsrface.data.decode import read_image, walk_images, write_png
from dsrface.data.degrade import degrade
from dsrface.data.folders import person_of
from dsrface.data.layout import open_data
from dsrface.data.photos import detect
from dsrface.data.synthetic.photo_folder import draw_dataset
from dsrface.errors import DataError, ImageError, RunError, UsageError, WorkerError
from dsrface.events import Event, Note, Progress


def run(source: Path, data: Path, **settings: object) -> prepare.PrepareResult:
    config = PrepareConfig.model_validate({"source": source, "data": data, "workers": 0, **settings})
    return prepare.run(config, emit=lambda event: None)


def tree_digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "people"
    draw_dataset(folder, num_persons=12, images_per_person=6, seed=1)
    return folder


def test_the_whole_tree_is_as_promised(photos: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    config = PrepareConfig(source=photos, data=tmp_path / "data", workers=0)
    result = prepare.run(config, emit=events.append)
    assert result.status == "made"
    assert sorted(os.listdir(tmp_path)) == ["data"]  # nothing beside DATA
    visible = {name for name in os.listdir(tmp_path / "data") if not name.startswith(".")}
    assert visible == {"dataset.json", "bad_images.csv", "preview.png", "train", "val", "test"}
    data = open_data(tmp_path / "data")
    assert data.vlr_sizes == (16, 24, 32)
    seen: set[str] = set()
    for split in data.splits.values():
        assert not seen & set(split.persons)
        seen |= set(split.persons)
        for size in (16, 24, 32):
            assert list(walk_images(split.low_dir(size))) == list(split.names)
            assert read_image(split.low_dir(size) / split.names[0]).shape == (size, size, 3)
        assert result.counts[split.name] == {"persons": len(split.persons), "images": len(split)}
    assert len(seen) == 12
    assert sum(len(split) for split in data.splits.values()) == 72
    done = [event.done for event in events if isinstance(event, Progress) and event.label == "faces"]
    assert done == sorted(done)
    assert done[-1] == 72
    assert json.loads(json.dumps(result.to_dict()))["next_command"].startswith("dsrface train-dsr")


def test_faces_already_aligned_are_kept_to_the_last_bit(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "data")
    split = open_data(tmp_path / "data").split("train")
    for name in list(split.names)[:5]:
        assert (read_image(split.high_dir / name) == read_image(photos / name)).all()


@pytest.mark.slow
@pytest.mark.parametrize("degradation", ["classic", "realistic"])
def test_any_number_of_processes_gives_the_same_bytes(photos: Path, tmp_path: Path, degradation: str) -> None:
    trees = []
    for workers in (0, 1, 2):
        data = tmp_path / str(workers)
        run(photos, data, workers=workers, degradation=degradation)
        trees.append(tree_digest(data))
    assert trees[0] == trees[1] == trees[2]
    assert len(trees[0]) == 72 * 4 + 3
    left = [
        child
        for child in psutil.Process().children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    assert left == []


def test_the_stored_degradation_is_the_one_that_training_uses(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "data", degradation="realistic", vlr_sizes=(16,), seed=4)
    data = open_data(tmp_path / "data")
    split, settings = data.split("val"), data.degradation(16)
    assert settings is not None
    for name in split.names:
        rng = draws.generator(settings.seed, 0, draws.name_index(name), "prepare-16")
        again = degrade(read_image(split.high_dir / name), settings, rng=rng)
        assert (again == read_image(split.low_dir(16) / name)).all()


def test_a_second_run_verifies_and_repairs(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run(photos, data, vlr_sizes=(16,))
    before = tree_digest(data)
    assert run(photos, data, vlr_sizes=(16,)).status == "up to date"
    split = open_data(data).split("train")
    damaged, missing = split.high_dir / split.names[0], split.low_dir(16) / split.names[1]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    missing.unlink()
    assert run(photos, data, vlr_sizes=(16,)).status == "repaired"
    assert tree_digest(data) == before
    shutil.copy(
        split.high_dir / split.names[0], data / "train" / "hr_images" / split.persons[0] / "foreign.png"
    )
    with pytest.raises(RunError) as caught:
        run(photos, data, vlr_sizes=(16,))
    assert caught.value.id == "data-set-changed"


def test_a_different_data_set_is_never_overwritten(photos: Path, tmp_path: Path) -> None:
    data, source = tmp_path / "data", tmp_path / "photos"
    shutil.copytree(photos, source)
    run(source, data, vlr_sizes=(16,))
    before = tree_digest(data)
    with pytest.raises(RunError, match=r"vlr_sizes: there \[16\], asked for \[24\]"):
        run(source, data, vlr_sizes=(24,))
    with pytest.raises(RunError, match="seed: there 0, asked for 1"):
        run(source, data, vlr_sizes=(16,), seed=1)
    shutil.copy(source / "person_0001" / "person_0001_0001.png", source / "person_0001" / "more.png")
    with pytest.raises(RunError, match="photos: 72, now 73"):
        run(source, data, vlr_sizes=(16,))
    assert tree_digest(data) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError) as caught:
        run(source, tmp_path / "other")
    assert caught.value.id == "folder-not-empty"
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"


def test_a_data_set_inside_its_photos_is_refused(photos: Path) -> None:
    for data in (photos, photos / "data"):
        with pytest.raises(UsageError) as caught:
            run(photos, data)
        assert caught.value.id == "data-inside-source"
    assert not (photos / "data").exists()


_SCRIPT = """
import sys
from pathlib import Path
from dsrface.commands import prepare
from dsrface.commands.prepare import folder
from dsrface.config.prepare import PrepareConfig
if __name__ == "__main__":
    config = PrepareConfig(source=Path(sys.argv[1]), data=Path(sys.argv[2]), vlr_sizes=(16,), workers=2)
    try:
        prepare.run(config, emit=lambda event: None)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture(scope="module")
def many(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many photos that there is time to interrupt a run."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    for copy in range(4):  # other bytes in each, or they would be the same image under two persons
        for name in walk_images(photos):
            face = read_image(photos / name).copy()
            face[0, 0] = copy
            write_png(folder / f"{copy}_{person_of(name)}" / Path(name).name, face)
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digest of the data set that an uninterrupted run makes."""
    data = tmp_path_factory.mktemp("whole") / "data"
    run(many, data, vlr_sizes=(16,))
    return tree_digest(data)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [getattr(signal, "SIGKILL", None), signal.SIGINT])
def test_an_interrupted_run_leaves_no_process_and_goes_on(
    many: Path, whole: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    data = tmp_path / "data"
    process = subprocess.Popen([sys.executable, str(script), str(many), str(data)], start_new_session=True)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        if len(list(data.glob(".prepare-*/hr_images/*/*.png"))) > 40:
            break
        time.sleep(0.02)
    assert process.poll() is None, "it was done before it could be interrupted"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to every process of the job
    else:
        process.send_signal(number)
    process.wait(60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert not (data / "dataset.json").exists()
    finished = next(data.glob(".prepare-*/hr_images/*/*.png"))
    finished.with_name("half.png.1.tmp").write_bytes(b"a worker that was killed while it wrote")
    run(many, data, vlr_sizes=(16,))
    assert tree_digest(data) == whole
    assert not list(data.glob(".prepare-*"))


def test_damaged_members_are_listed_and_the_person_stays(faces_dir: Path, tmp_path: Path) -> None:
    result = run(faces_dir / "bad" / "tree", tmp_path / "data", split=(0.5, 0.25, 0.25))
    with (tmp_path / "data" / "bad_images.csv").open(newline="") as handle:
        bad = {row["file"]: row["reason"] for row in csv.DictReader(handle)}
    assert bad == {"005/005_0002.jpg": "truncated", "stray.jpg": "no-person"}
    assert result.bad_images == {"no-person": 1, "truncated": 1}
    names = [name for split in open_data(tmp_path / "data").splits.values() for name in split.names]
    assert sorted(names) == [
        "003/003_0001.png",
        "003/003_0002.png",
        "005/005_0001.png",
        "006/006_0001.png",
        "008/sub_008_0001.png",
    ]
    with pytest.raises(ImageError) as caught:
        run(faces_dir / "bad" / "tree", tmp_path / "strict", on_bad_image="fail")
    assert "stray.jpg" in caught.value.where


@pytest.mark.skipif(os.name == "nt", reason="POSIX file names")
def test_odd_names_break_no_list(faces_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(faces_dir / "bad" / "tree", source)
    subprocess.run(
        [sys.executable, str(faces_dir / "bad" / "make_special.py"), str(source / "003")], check=True
    )
    (source / "003" / 'bad\nname,"x".jpg').write_bytes(b"")
    shutil.copy(faces_dir / "london" / "009" / "009_0001.jpg", source / "003" / "new\nline.jpg")
    run(source, tmp_path / "data", split=(1, 0, 0))
    text = (tmp_path / "data" / "bad_images.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len(text.splitlines()) - 1
    reasons = {row["file"]: row["reason"] for row in rows}
    assert reasons['003/bad\\nname,"x".jpg'] == "empty-file"
    assert reasons["003/loop_a.jpg"] == "symlink-loop"
    assert reasons["003/dangling.jpg"] == "dangling-link"
    assert "again" not in text
    names = list(open_data(tmp_path / "data").split("train").names)
    assert "003/new%0Aline.png" in names
    assert "003/имя_名前_é_😀.png" in names
    assert "003/name with  two spaces%20.png" in names


def test_flat_and_wrapped_sources_find_the_same_persons(photos: Path, tmp_path: Path) -> None:
    flat, wrapped = tmp_path / "flat", tmp_path / "wrapped"
    for name in walk_images(photos):
        person, image = name.split("/")
        for target in (flat / f"{person.replace('_', '')}_{image}", wrapped / "archive" / "faces" / name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / name, target)
    counts = [
        run(source, tmp_path / f"data{n}", vlr_sizes=(16,)).counts
        for n, source in enumerate((flat, wrapped, photos))
    ]
    assert counts[1] == counts[2]
    assert sum(item["persons"] for item in counts[0].values()) == 12
    assert sum(item["images"] for item in counts[0].values()) == 72


def test_alignment_by_the_landmarks_in_the_source(faces_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for person in ("005", "011", "014"):
        shutil.copytree(faces_dir / "unaligned" / person, source / person)
    shutil.copy(faces_dir / "unaligned" / "landmarks.csv", source)
    result = run(source, tmp_path / "data", split=(1, 0, 0))
    assert result.align == "auto: landmarks.csv is in the source"
    split = open_data(tmp_path / "data").split("train")
    for name in split.names:
        ours = read_image(split.high_dir / name).astype(float)
        given = read_image((faces_dir / "london" / name).with_suffix(".jpg")).astype(float)
        assert 10 * np.log10(255**2 / ((ours - given) ** 2).mean()) > 34


def test_photos_that_nobody_can_align_name_the_ways_out(
    faces_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "is_available", lambda: False)
    source = tmp_path / "photos"
    shutil.copytree(faces_dir / "unaligned" / "005", source / "005")
    with pytest.raises(DataError) as caught:
        run(source, tmp_path / "data")
    assert caught.value.id == "cannot-align"
    assert all(
        way in caught.value.hint for way in ("--align FILE", '".[detect]"', "--align resize", "--native")
    )
    with pytest.raises(DataError, match="wrong-size 2"):
        run(source, tmp_path / "data", align="none", split=(1, 0, 0))
    assert "005/005_0001.jpg" in (tmp_path / "data" / "bad_images.csv").read_text()


def test_one_image_under_two_persons_is_left_out(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    shutil.copy(source / "person_0001" / "person_0001_0001.png", source / "person_0002" / "copy.png")
    result = run(source, tmp_path / "data")
    assert result.bad_images == {"same-picture-two-persons": 2}
    left_out = (tmp_path / "data" / "bad_images.csv").read_text()
    assert "person_0001/person_0001_0001.png" in left_out
    assert "person_0002/copy.png" in left_out
    assert not list((tmp_path / "data").rglob("copy.png"))
    with pytest.raises(ImageError) as caught:
        run(source, tmp_path / "strict", on_bad_image="fail")
    assert caught.value.id == "same-picture-two-persons"


def test_nearly_equal_images_and_alike_names_are_warned_of(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    face = Image.open(source / "person_0003" / "person_0003_0002.png")
    (source / "Person 0003").mkdir()
    face.resize((100, 100)).resize((112, 112)).point(lambda value: int(value * 0.85)).save(
        source / "Person 0003" / "copy.jpg", quality=70
    )
    result = run(source, tmp_path / "data", vlr_sizes=(16,))
    assert any("spelling: Person 0003, person_0003" in warning for warning in result.warnings)
    near = json.loads((tmp_path / "data" / "dataset.json").read_text())["near_duplicates"]
    assert {"Person 0003/copy.png", "person_0003/person_0003_0002.png"} <= {
        item[key] for item in near["listed"] for key in ("first", "second")
    }
    clean = run(photos, tmp_path / "clean", vlr_sizes=(16,))
    assert clean.warnings == (
        "fewer than 10 validation persons: no threshold is chosen on them, which enrol and verify need",
        "the test split has 2 persons: evaluate judges nothing below 10",
    )


def test_shares_by_which_enough_persons_can_be_judged_are_named_and_right(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "photos", num_persons=36, images_per_person=1, seed=0)
    few = run(tmp_path / "photos", tmp_path / "few", vlr_sizes=(16,))
    [shares] = re.findall(r"with --split (\S+) val and test would have at least 10", "\n".join(few.warnings))
    split = tuple(map(float, shares.split(",")))
    enough = run(tmp_path / "photos", tmp_path / "enough", vlr_sizes=(16,), split=split)
    assert min(enough.counts[name]["persons"] for name in ("val", "test")) >= 10


def test_the_same_stem_twice_keeps_both(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    Image.open(photos / "person_0001" / "person_0001_0002.png").save(
        source / "person_0001" / "person_0001_0001.jpg"
    )
    result = run(source, tmp_path / "data")
    assert sum(item["images"] for item in result.counts.values()) == 73
    names = [name for split in open_data(tmp_path / "data").splits.values() for name in split.names]
    assert {"person_0001/person_0001_0001_jpg.png", "person_0001/person_0001_0001_png.png"} <= set(names)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"vlr_sizes": ()}, "one at least"),
        ({"split": (0.5, 0.1, 0.1)}, "sum to 1"),
        ({"split": (float("nan"), 0.5, 0.5)}, "finite number"),
        ({"split": (0.9, 0.1)}, "three shares"),
        ({"workers": -1}, "at least 0"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, object], word: str) -> None:
    from dsrface.config.sources import resolve

    with pytest.raises(UsageError, match=word):
        resolve(PrepareConfig, flags={"source": tmp_path, "data": tmp_path, **settings})


def test_sources_that_are_none(tmp_path: Path) -> None:
    for source, reason in ((tmp_path / "absent", "no-source"), (tmp_path, "no-photos")):
        with pytest.raises(DataError) as caught:
            run(source, tmp_path.parent / f"{tmp_path.name}-data")
        assert caught.value.id == reason


@pytest.mark.parametrize(
    ("name", "what"),
    [("lfw.zip", "python -m zipfile -e"), ("a.tar", "tar xf"), ("db/data.mdb", "which is not read")],
)
def test_files_that_hold_the_images_are_named(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        run(tmp_path, tmp_path.parent / f"{tmp_path.name}-data")
    assert what in caught.value.hint
    assert Path(name).name in caught.value.hint


def test_containers_and_lists_that_do_not_fit_are_met_with_the_way_out(tmp_path: Path) -> None:
    for name in ("train.rec", "val.rec"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(tmp_path, tmp_path.parent / f"{tmp_path.name}-data")
    assert f"dsrface prepare {tmp_path / 'train.rec'} DATA" in caught.value.hint
    draw_dataset(tmp_path / "photos", num_persons=3, images_per_person=1, seed=1)
    (tmp_path / "marks.csv").write_text("other.jpg,1,2,3,2,2,3,1,4,3,4\n")
    with pytest.raises(DataError, match=r"names none of the 3 photos: it has e\.g\. 'other\.jpg'"):
        run(tmp_path / "photos", tmp_path / "data", align=str(tmp_path / "marks.csv"))


def test_warnings_reach_the_terminal(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for number in range(1, 4):
        shutil.copytree(photos / f"person_000{number}", source / f"person_000{number}")
    for number in range(8):
        (source / "person_0001" / f"bad_{number}.jpg").write_bytes(b"")
    events: list[Event] = []
    result = prepare.run(PrepareConfig(source=source, data=tmp_path / "a b", workers=0), emit=events.append)
    said = [event.message for event in events if isinstance(event, Note) and event.is_warning]
    assert said == list(result.warnings)
    assert said[0].startswith("8 of 26 photos were left out: empty-file 8")
    assert said[-1] == "the test split has only one person, so recognition cannot be measured"
    assert "val 1 person / 6 images" in result.summary
    assert shlex.split(result.next_command)[2] == str(tmp_path / "a b")


def test_names_like_those_of_lfw_are_doubted(photos: Path, tmp_path: Path) -> None:
    source = tmp_path / "flat"
    source.mkdir()
    for number, name in enumerate(walk_images(photos)):
        shutil.copy(photos / name, source / f"{'ABC'[number % 3]}nna_Lind_{number:04d}.png")
    events: list[Event] = []
    config = PrepareConfig(source=source, data=tmp_path / "data", vlr_sizes=(16,), workers=0)
    prepare.run(config, emit=events.append)
    warnings = [event.message for event in events if isinstance(event, Note) and event.is_warning]
    assert (
        "72 names look like first and last name, e.g. 'Anna_Lind_0000.png', and count as of 'Anna'"
        in warnings[0]
    )


def test_sources_that_tell_no_persons(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "data", vlr_sizes=(16,))
    (tmp_path / "dashes").mkdir()
    shutil.copy(photos / "person_0001" / "person_0001_0001.png", tmp_path / "dashes" / "anna-1.png")
    shutil.copytree(photos / "person_0001", tmp_path / "single" / "person_0001")
    (tmp_path / "single" / "stray.png").write_bytes(b"")
    for source, reason, word in (
        (tmp_path / "data", "source-is-data-set", "hr_images"),
        (tmp_path / "data" / "train", "source-is-data-set", "hr_images"),
        (tmp_path / "dashes", "no-person", "anna-1.png"),
        (tmp_path / "single", "too-few-persons", "there is only person_0001; left out: no-person 1"),
    ):
        with pytest.raises(DataError, match=word) as caught:
            run(source, tmp_path / "other")
        assert caught.value.id == reason
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is open to root")
def test_a_closed_folder_is_named(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    closed = tmp_path / "photos" / "person_0002"
    closed.chmod(0)
    try:
        with pytest.raises(DataError) as caught:
            run(tmp_path / "photos", tmp_path / "data")
    finally:
        closed.chmod(0o700)
    assert caught.value.id == "folder-unreadable"
    assert caught.value.where == str(closed)


def test_a_killed_worker_is_no_bug_of_ours(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def submit(self, *_: object) -> object:
            raise BrokenProcessPool("terminated abruptly")

        def shutdown(self, **_: object) -> None:
            pass

    monkeypatch.setattr("dsrface.data.photos.pool.ProcessPoolExecutor", Broken)
    with pytest.raises(WorkerError) as caught:
        run(photos, tmp_path / "data", workers=1)
    assert "finished photos are kept" in caught.value.hint


def test_what_training_will_not_take_is_said(photos: Path, tmp_path: Path) -> None:
    result = run(photos, tmp_path / "a", vlr_sizes=(8, 16))
    assert any("of 8 px: only evaluate" in text for text in result.warnings)
    assert result.next_command.startswith("dsrface train-dsr")
    result = run(photos, tmp_path / "b", vlr_sizes=(8,))
    assert result.next_command == f"dsrface evaluate {tmp_path / 'b'} --vlr-size 8 --split test"
    result = run(photos, tmp_path / "c", split=(1, 0, 0))
    assert any("no val split" in text for text in result.warnings)
    assert result.next_command.endswith("--vlr-size 16 --split train")
    assert not any("val split" in text for text in run(photos, tmp_path / "d").warnings)
    for person in (tmp_path / "d" / "val" / "hr_images").iterdir():
        shutil.copytree(photos / person.name, tmp_path / "few" / person.name)
        for photo in sorted((tmp_path / "few" / person.name).iterdir())[1:]:
            photo.unlink()
    result = run(tmp_path / "few", tmp_path / "e", split=(0.5, 0.5, 0))
    assert any("no person in the val split has two images" in text for text in result.warnings)


def test_worker_processes_do_not_pay_for_torch() -> None:
    code = "import sys, dsrface.data.photos.pool; print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output == "False\n"


def test_hashing__does_not_queue_millions_of_files(tmp_path, monkeypatch):
    taken = [0]

    class Names(list):
        def __iter__(self):
            for number, name in enumerate(super().__iter__(), start=1):
                taken[0] = max(taken[0], number)
                yield name

    monkeypatch.setattr(folder, "_file_digest", lambda path: path.name)
    names, most = Names(f"{number}.png" for number in range(5000)), []
    folder.digest(tmp_path, names, lambda event: most.append(taken[0] - event.done), "verifying")
    assert 0 <= max(most) <= 200  # names ahead of what was hashed
