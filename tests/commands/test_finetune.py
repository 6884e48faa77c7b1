"""finetune on real files: every mode, both stages, mistakes not to repeat, resuming after SIGKILL."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dsrface.commands import finetune, precompute, train_dsr
from dsrface.commands.doctor import own_data
from dsrface.commands.finetune import choose_scale
from dsrface.commands.finetune.data import first_per_person, hold_out
from dsrface.commands.finetune.thresholds import thresholds_text
from dsrface.commands.shared.datasets import outputs_of, whole_persons
from dsrface.config.catalogue import RECOGNISERS
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.precompute import PrecomputeConfig
from dsrface.config.sources import resolve
from dsrface.data.layout import open_data
from dsrface.engine.checkpoint import find_last, load_trainer_state
from dsrface.engine.context import Outcome
from dsrface.engine.inference import embed
from dsrface.errors import DataError, RunError, TrainingError, UsageError, WeightsError
from dsrface.events import EvalDone, Note, StepDone
from dsrface.metrics.bootstrap import Estimate
from dsrface.metrics.thresholds import StoredThresholds, Threshold
from dsrface.models.heads import reachable_probability
from dsrface.models.recognisers import build_recogniser
from dsrface.models.weights import load_recogniser, save_model
from dsrface.runtime.command_line import quoted
from dsrface.runtime.devices import choose_device
from dsrface.types import Preprocess
from tests.commands.conftest import make_data
from tests.commands.networks import write_dsr
from tests.commands.test_train_dsr import assert_equal, last_weights, spawn
from tests.commands.test_train_dsr import config as dsr_config

TINY = {
    "vlr_size": 16,
    "device": "cpu",
    "workers": 0,
    "batch_size": 8,
    "stage1_epochs": 1,
    "stage2_epochs": 1,
    "eval.holdout_fraction": 0.2,
    "engine.log_every_steps": 1,
    "engine.checkpoint_every_steps": 1,
    "engine.tensorboard": False,
}


def config(data, run, **flags):
    return resolve(FinetuneConfig, flags={"data": data, "run": run} | TINY | flags).config


def run_quietly(data, run, **flags):
    events = []
    result = finetune.run(config(data, run, **flags), emit=events.append)
    return result, events


@pytest.fixture(scope="module")
def started(tiny_data, tmp_path_factory):
    """A recogniser that has seen a few HR faces, and a DSR that is all but bicubic."""
    folder = tmp_path_factory.mktemp("started")
    run_quietly(tiny_data, folder / "hr", hr_only=True)
    train_dsr.run(dsr_config(tiny_data, folder / "dsr", epochs=1), emit=lambda event: None)
    return folder


def by_person(started):
    """Flags of a live run that draws its batches by person."""
    return {
        "live": started / "dsr",
        "backbone_weights": started / "hr",
        "images_per_person": 2,
        "stage2_epochs": 3,
    }


@pytest.fixture(scope="module")
def whole(tiny_data, started, tmp_path_factory):
    """A run that nothing has interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    run_quietly(tiny_data, run, **by_person(started))
    return run


def test_the_result_says_whether_any_step_beat_the_start(tiny_data, tmp_path):
    where = SimpleNamespace(folder=SimpleNamespace(path=tmp_path / "run"))
    metrics = {"auc": 0.9, "eer": 0.1}

    def summary(best_step, first_auc=0.9, **flags):
        outcome = Outcome(
            status="done",
            step=8,
            saved_step=8,
            best_step=best_step,
            best_metrics=metrics,
            first_metrics=metrics | {"auc": first_auc},
            exit_code=0,
        )
        started = config(tiny_data, tmp_path / "run", **{"hr_only": True} | flags)
        return finetune._result(started, SimpleNamespace(is_native=False), where, outcome).summary

    assert "no step of 8 was better, so best.json names the starting weights" in summary(0)
    assert summary(4).endswith("best at step 4 of 8.")
    assert "yet worse than the random weights" in summary(4, first_auc=0.95)
    given = {"hr_only": False, "no_dsr": True, "backbone_weights": tmp_path}
    assert "--set anchor.weight=1000" in summary(0, **given)
    assert "anchor.weight" not in summary(0, **given, **{"anchor.weight": 1000.0})


def test_from_scratch_is_said_plainly_and_has_one_stage(tiny_data, tmp_path):
    result, events = run_quietly(tiny_data, tmp_path / "run", hr_only=True)
    warnings = [event.message for event in events if isinstance(event, Note) and event.is_warning]
    assert any("random weights" in message for message in warnings)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert all("loss/anchor" not in event.metrics for event in steps)
    assert result.outcome.step == 4


@pytest.mark.parametrize(("head", "fraction"), [("arcface", 1.0), ("cosface", 0.75), ("adaface", 1.0)])
def test_live_mode_runs_the_dsr_on_the_batch(tiny_data, started, tmp_path, head, fraction):
    result, events = run_quietly(
        tiny_data,
        tmp_path / "run",
        live=started / "dsr",
        backbone_weights=started / "hr",
        head=head,
        **{"head_options.sample_fraction": fraction},
    )
    assert result.outcome.status == "done"
    loaded = load_recogniser(tmp_path / "run")
    assert loaded.config["variant"] == "edgeface_xxs"
    evaluation = next(event for event in events if isinstance(event, EvalDone))
    assert {"auc", "eer", "d_prime", "hr_auc", "effective_rank", "impostor_mean", "holdout_accuracy"} == set(
        evaluation.metrics
    )


@pytest.mark.parametrize("format", ["cache", "png"])
def test_cached_outputs_train_like_live_ones(tiny_data, started, tmp_path, format):
    """The same steps on the same pixels, wherever the DSR ran."""
    shutil.copytree(tiny_data, tmp_path / "data")
    settings = {
        "data": tmp_path / "data",
        "weights": started / "dsr",
        "format": format,
        "workers": 0,
        "device": "cpu",
    }
    precompute.run(resolve(PrecomputeConfig, flags=settings).config, emit=lambda event: None)
    shared = {"backbone_weights": started / "hr"}
    _, live = run_quietly(tiny_data, tmp_path / "live", live=started / "dsr", **shared)
    outputs = tmp_path / "data" / "train" / "dsr_outputs_16x16"
    named = tmp_path / "data" / "test" / "dsr_outputs_16x16"  # any split's folder stands for those of all
    result, cached = run_quietly(tmp_path / "data", tmp_path / "cached", dsr_outputs=named, **shared)
    assert f"--dsr-outputs {outputs} " in result.next_command
    notes = [event.message for event in cached if isinstance(event, Note)]
    assert any(note.startswith("workers: 0 (a packed cache") for note in notes) == (format == "cache")
    losses = [
        [event.metrics["loss/total"] for event in events if isinstance(event, StepDone)]
        for events in (live, cached)
    ]
    assert losses[0] == pytest.approx(
        losses[1], rel=1e-3
    )  # a pixel may round the other way in another batch size


def test_write_through_caches_the_first_epoch_and_reads_it_after(tiny_data, started, tmp_path, monkeypatch):
    from dsrface.commands.shared.outputs.pipeline import Upscaler

    shutil.copytree(tiny_data, tmp_path / "data")
    flags = {"live": started / "dsr", "backbone_weights": started / "hr", "stage2_epochs": 3}
    flags["eval.holdout_fraction"] = 0.0
    _, live = run_quietly(tiny_data, tmp_path / "live", **flags)
    computed = []
    real = Upscaler.__call__
    monkeypatch.setattr(Upscaler, "__call__", lambda self, low: computed.append(len(low)) or real(self, low))
    _, through = run_quietly(tmp_path / "data", tmp_path / "through", write_through=True, **flags)
    losses = [
        [event.metrics["loss/total"] for event in events if isinstance(event, StepDone)]
        for events in (live, through)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    # nothing but the measurement of a batch size ran the DSR again: the cache is what epoch 0 computed
    assert set(computed) <= {2**power for power in range(12)}
    outputs = tmp_path / "data" / "train" / "dsr_outputs_16x16"
    assert (outputs / "manifest.json").exists()
    assert not list((tmp_path / "through").glob("write_through*"))
    settings = {"data": tmp_path / "data", "weights": started / "dsr", "workers": 0, "device": "cpu"}
    result = precompute.run(resolve(PrecomputeConfig, flags=settings).config, emit=lambda event: None)
    actions = {folder.folder: folder.action for folder in result.folders}
    assert actions[str(outputs)] == "none"  # the cache is precompute's own, and complete


def test_missing_outputs_are_a_run_error(tiny_data, tmp_path):
    with pytest.raises(RunError, match="no DSR outputs"):
        run_quietly(tiny_data, tmp_path / "run", dsr_outputs=tiny_data / "train" / "dsr_outputs_16x16")


def test_stage_one_moves_the_head_alone(tiny_data, started, tmp_path):
    _, events = run_quietly(
        tiny_data,
        tmp_path / "run",
        no_dsr=True,
        backbone_weights=started / "hr",
        stage1_epochs=2,
        stage2_epochs=0,
    )
    before = load_recogniser(started / "hr").model.state_dict()
    assert_equal(before, load_recogniser(tmp_path / "run").model.state_dict())
    rates = [event.metrics["lr"] for event in events if isinstance(event, StepDone)]
    assert max(rates) == pytest.approx(1e-3)


def test_a_frozen_backbone_keeps_the_statistics_of_its_batch_norm(tiny_data, tmp_path):
    torch.manual_seed(0)
    model = build_recogniser("mobilefacenet")
    preprocess = RECOGNISERS["mobilefacenet"].preprocess
    weights = tmp_path / "start.safetensors"
    save_model(weights, model, kind="recogniser", config={"variant": "mobilefacenet"}, preprocess=preprocess)
    run_quietly(
        tiny_data,
        tmp_path / "run",
        no_dsr=True,
        backbone="mobilefacenet",
        backbone_weights=weights,
        stage1_epochs=1,
        stage2_epochs=0,
    )
    after = load_file(find_last(tmp_path / "run") / "model.safetensors")
    assert "running_mean" in " ".join(after)
    assert_equal(load_file(weights), after)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_recogniser_of_shorter_embeddings_is_tuned_with_itself_as_teacher(rank, tiny_data, tmp_path):
    torch.manual_seed(0)
    name = "mobilefacenet_tfjs"
    model, preprocess = build_recogniser(name), Preprocess(112, (0.5,) * 3, (0.502,) * 3)
    weights = tmp_path / "start.safetensors"
    save_model(weights, model, kind="recogniser", config={"variant": name}, preprocess=preprocess)
    _, events = run_quietly(
        tiny_data,
        tmp_path / "run",
        no_dsr=True,
        backbone=name,
        backbone_weights=weights,
        **{"backbone_options.adapter_rank": rank},
    )
    assert any("loss/anchor" in event.metrics for event in events if isinstance(event, StepDone))
    tuned = load_recogniser(find_last(tmp_path / "run"))
    assert tuned.preprocess == preprocess
    before = model.state_dict()
    after = {key.replace(".base.", "."): value for key, value in tuned.model.state_dict().items()}
    assert all(torch.equal(before[key], after[key]) for key in before) == (rank > 0)


def test_stage_two_moves_the_backbone_with_a_lower_rate(tiny_data, started, tmp_path):
    _, events = run_quietly(tiny_data, tmp_path / "run", no_dsr=True, backbone_weights=started / "hr")
    steps = [event for event in events if isinstance(event, StepDone)]
    assert ["loss/anchor" in event.metrics for event in steps] == [False, False, True, True]
    before = load_recogniser(started / "hr").model.state_dict()
    after = load_file(find_last(tmp_path / "run") / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    groups = load_trainer_state(find_last(tmp_path / "run"))["optimizer"]["param_groups"]
    assert {tuple(group["lr_fractions"]) for group in groups} == {(0.0, 0.1), (1.0, 1.0)}


def test_the_head_begins_at_the_class_means(tiny_data, started, tmp_path):
    """The first training accuracy of an initialised head is far above that of a random one."""
    shared = {"no_dsr": True, "backbone_weights": started / "hr", "stage1_epochs": 1, "stage2_epochs": 0}
    _, with_means = run_quietly(tiny_data, tmp_path / "means", **shared)
    _, at_random = run_quietly(
        tiny_data, tmp_path / "random", **shared, **{"head_options.init_images_per_person": 0}
    )
    first = [
        next(event for event in events if isinstance(event, StepDone)) for events in (with_means, at_random)
    ]
    assert first[0].metrics["cosine_true"] > 0.5
    assert abs(first[1].metrics["cosine_true"]) < 0.3


def test_anchor_holds_the_embedding(tiny_data, started, tmp_path):
    """With a heavy anchor the backbone's embeddings of HR faces move less than with none."""
    moved = {}
    for weight in (0.0, 50.0):
        run = tmp_path / str(weight)
        flags = {
            "anchor.weight": weight,
            "anchor.hr_fraction": 0.5,
            "optim.lr": 1e-3,
            "backbone_options.lr_fraction": 1.0,
        }
        run_quietly(
            tiny_data,
            run,
            no_dsr=True,
            backbone_weights=started / "hr",
            stage1_epochs=0,
            stage2_epochs=3,
            **flags,
        )
        before = load_recogniser(started / "hr").model
        after = load_recogniser(find_last(run)).model
        images = torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.inference_mode():
            moved[weight] = float((1 - torch.cosine_similarity(before(images), after(images))).mean())
    assert moved[50.0] < moved[0.0]


def test_a_reachable_probability_that_is_low_is_warned_of(tiny_data, tmp_path):
    for settings, warned in (({}, []), ({"head_options.scale": 0.5}, [True])):
        _, events = run_quietly(tiny_data, tmp_path / str(len(settings)), hr_only=True, **settings)
        notes = [
            event for event in events if isinstance(event, Note) and "can reach probability" in event.message
        ]
        assert [note.is_warning for note in notes] == warned
    for num_classes in (2, 518, 6086, 10**9, 10**14):
        assert reachable_probability(choose_scale(num_classes), num_classes) >= 0.9499


def test_nan_names_step_batch_and_checkpoint(tiny_data, started, tmp_path, monkeypatch):
    from dsrface.engine.recognition_task import RecognitionTask

    real = RecognitionTask.forward

    def poisoned(self, batch):
        loss, metrics = real(self, batch)
        bad = torch.where((batch.indices == 3).any(), torch.nan, 0.0)
        return loss + bad, metrics | {"loss/total": metrics["loss/total"] + bad}

    monkeypatch.setattr(RecognitionTask, "forward", poisoned)
    with pytest.raises(TrainingError) as caught:
        run_quietly(tiny_data, tmp_path / "run", no_dsr=True, backbone_weights=started / "hr")
    assert caught.value.id == "non-finite-loss"
    assert ".png" in caught.value.where
    assert "step_00000" in caught.value.where
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_network_that_a_step_has_ruined_is_a_training_error(tiny_data, tmp_path):
    rates = {"optim.lr": 1e9, "optim.warmup_fraction": 0.0, "batch_size": 64, "engine.log_every_steps": 1}
    with pytest.raises(TrainingError) as caught:
        run_quietly(tiny_data, tmp_path / "run", hr_only=True, stage2_epochs=0, **rates)
    assert caught.value.id == "non-finite-validation"


def test_selects_on_val_and_never_reads_test(tiny_data, started, tmp_path, monkeypatch):
    from dsrface.data import decode

    opened = []
    real = decode.read_image

    def watched(path, **kwargs):
        opened.append(str(path))
        return real(path, **kwargs)

    monkeypatch.setattr(decode, "read_image", watched)
    run_quietly(tiny_data, tmp_path / "run", no_dsr=True, backbone_weights=started / "hr")
    assert any("/val/" in path for path in opened)
    assert not any("/test/" in path for path in opened)


def test_kept_out_images_are_recorded_and_not_trained_on(tiny_data, tmp_path, monkeypatch):
    from dsrface.engine.loop import _Loop

    seen = set()
    real = _Loop._train_step

    def watched(self, batch):
        seen.update(self.task.describe(batch.indices.tolist()))
        real(self, batch)

    monkeypatch.setattr(_Loop, "_train_step", watched)
    run_quietly(tiny_data, tmp_path / "run", hr_only=True)
    names = json.loads((tmp_path / "run" / "holdout.json").read_text())["names"]
    assert names
    assert not seen & set(names)
    assert len(seen) + len(names) == 16


def test_hold_out_leaves_two_images_and_the_labels():
    class Split:
        labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
        persons = ("a", "b", "c")

        def __len__(self):
            return 10

    for seed in range(20):
        kept, out = hold_out(Split(), fraction=0.49, max_images=100, seed=seed)
        assert sorted(kept + out) == list(range(10))
        assert np.bincount(Split.labels[kept].numpy(), minlength=3).min() >= 2
        assert len(hold_out(Split(), fraction=0.49, max_images=1, seed=seed)[1]) <= 1
    assert first_per_person(Split(), 2) == [0, 1, 2, 3, 5, 6]
    assert len({int(label) for label in Split.labels[whole_persons(Split(), 1, seed=0)]}) == 2
    assert whole_persons(Split(), 100, seed=0) == list(range(10))


def test_subset_keeps_labels_and_persons(tiny_data):
    split = open_data(tiny_data).split("train")
    part = split.subset([1, 5, 15])
    assert list(part.names) == [split.names[index] for index in (1, 5, 15)]
    assert part.labels.tolist() == split.labels[[1, 5, 15]].tolist()
    assert len(part.persons) == len(split.persons)


def test_outputs_of_finds_the_twin_of_each_split(tiny_data, flat_data, tmp_path):
    data = open_data(tiny_data)
    named = tiny_data / "train" / "dsr_outputs_16x16"
    assert outputs_of(data.split("val"), data, named) == tiny_data / "val" / "dsr_outputs_16x16"
    (tmp_path / "out" / "val").mkdir(parents=True)
    assert outputs_of(data.split("val"), data, tmp_path / "out") == tmp_path / "out" / "val"
    assert outputs_of(data.split("train"), data, tmp_path / "out") == tmp_path / "out"
    copied = tmp_path / "copy" / "val" / "dsr_outputs_16x16"
    copied.mkdir(parents=True)
    assert outputs_of(data.split("val"), data, tmp_path / "copy" / "train" / "dsr_outputs_16x16") == copied
    flat = open_data(flat_data)
    assert outputs_of(flat.split("val"), flat, flat_data / "dsr_outputs") == flat_data / "dsr_outputs"


def test_refusals(tiny_data, started, tmp_path):
    with pytest.raises(UsageError, match="exactly one"):
        config(tiny_data, tmp_path / "run")
    with pytest.raises(UsageError, match="of edgeface_xxs") as caught:
        run_quietly(
            tiny_data,
            tmp_path / "a",
            no_dsr=True,
            backbone_weights=started / "hr",
            backbone="edgeface_xs_gamma_06",
        )
    assert caught.value.id == "wrong-backbone"
    with pytest.raises(UsageError) as caught:
        run_quietly(tiny_data, tmp_path / "a", dsr_outputs=tiny_data / "train" / "vlr_images_16x16")
    assert caught.value.id == "not-outputs"
    with pytest.raises(WeightsError):
        run_quietly(tiny_data, tmp_path / "b", live=started / "hr")  # a recogniser is no DSR
    single = make_data(tmp_path / "single", persons=(2, 1, 1), images=2)
    with pytest.raises(DataError, match="no pairs") as caught:
        run_quietly(single, tmp_path / "c", hr_only=True)
    assert caught.value.id == "no-genuine-pairs"


def test_persons_with_one_image_are_trained_on_and_validated_by_moved_copies(tmp_path):
    single = make_data(tmp_path / "single", persons=(6, 4, 1), images=1)
    result, events = run_quietly(single, tmp_path / "run", hr_only=True)
    warnings = [event.message for event in events if isinstance(event, Note) and event.is_warning]
    assert any("no person in validation has two images" in text for text in warnings)
    assert 0 <= result.outcome.best_metrics["auc"] <= 1
    assert "hr_auc" not in result.outcome.best_metrics
    assert "thresholds" not in load_recogniser(tmp_path / "run").metadata
    notes = [event.message for event in events if isinstance(event, Note)]
    assert any(text.startswith("no threshold is in the recogniser's file") for text in notes)


def test_thresholds_are_said_with_their_intervals(tmp_path):
    chosen = tuple(
        Threshold(far, Estimate(score, low, high), 0.9, 3000, 25)
        for far, score, low, high in ((0.1, 0.25, 0.2, 0.3), (0.01, 0.4, None, None))
    )
    stored = StoredThresholds({"images": "DSR", "vlr_size": 16}, chosen)
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"format": "dsrface", "thresholds": stored.to_json()})
    assert thresholds_text(file) == (
        "thresholds in the recogniser's file, chosen on 25 validation persons, DSR faces of 16 px: "
        "0.250 [0.200, 0.300] for a FAR of 0.1, 0.400 for a FAR of 0.01"
    )


def test_a_network_of_timm_is_a_backbone(tiny_data, tmp_path):
    name = "timm:mobilenetv3_small_050"
    result, _ = run_quietly(tiny_data, tmp_path / "run", hr_only=True, backbone=name)
    assert f"--backbone {quoted(name)} --backbone-weights" in result.next_command
    assert load_recogniser(tmp_path / "run").name == name
    for wrong, id in (
        ("timm:", "bad-config"),
        ("edgeface", "bad-config"),
        ("timm:nothing", "unknown-backbone"),
    ):
        with pytest.raises(UsageError) as caught:
            run_quietly(tiny_data, tmp_path / "b", hr_only=True, backbone=wrong)
        assert caught.value.id == id


def test_adapters_leave_hr_faces_as_they_were(tiny_data, started, tmp_path):
    rank = {"backbone_options.adapter_rank": 2}
    shared = {"no_dsr": True, "backbone_weights": started / "hr"}
    run_quietly(tiny_data, tmp_path / "run", **shared, **rank)
    # The last weights: the best may be those of the start.
    before, after = load_recogniser(started / "hr"), load_recogniser(find_last(tmp_path / "run"))
    cpu = choose_device("cpu")
    assert after.config == {"variant": "edgeface_xxs", "adapter_rank": 2}
    faces = torch.rand(2, 3, 112, 112)
    wanted = embed(before.model, faces, before.preprocess, device=cpu)
    high = embed(after.model, faces, after.preprocess, device=cpu, is_high=True)
    assert torch.equal(high, wanted)
    assert not torch.equal(embed(after.model, faces, after.preprocess, device=cpu), wanted)
    with pytest.raises(UsageError) as caught:
        run_quietly(tiny_data, tmp_path / "b", no_dsr=True, backbone_weights=tmp_path / "run", **rank)
    assert caught.value.id == "no-adapters"
    with pytest.raises(UsageError, match="needs --backbone-weights"):
        config(tiny_data, tmp_path / "c", no_dsr=True, **rank)


def native_data(root):
    """Return a native data set: faces of 16 and 24 px and, of each person, one HR face; no twins."""
    made = make_data(root, persons=(4, 3, 2), images=4)
    for split in ("train", "val", "test"):
        folder = made / split
        for face in sorted((folder / "hr_images").rglob("*.png")):
            name = face.relative_to(folder / "hr_images")
            if face.stem == "0":
                (folder / "vlr_images_16x16" / name).unlink()
                continue
            face.unlink()
            if face.stem == "1":
                with Image.open(folder / "vlr_images_16x16" / name) as image:
                    (folder / "vlr_images_24x24" / name).parent.mkdir(parents=True, exist_ok=True)
                    image.resize((24, 24)).save(folder / "vlr_images_24x24" / name)
                (folder / "vlr_images_16x16" / name).unlink()
    (made / "dataset.json").write_text(json.dumps({"schema_version": 1, "native": True}))
    return made


@pytest.mark.parametrize("mode", ["bicubic", "live", "cache", "png"])
def test_native_faces_are_trained_on_as_they_are(started, tmp_path, mode):
    data = native_data(tmp_path / "data")
    flags = {"no_dsr": True}
    num_images = 16
    if mode != "bicubic":
        flags, num_images = {"live": started / "dsr"}, 8  # those of 16 px
    if mode in ("cache", "png"):
        settings = {"data": data, "weights": started / "dsr", "format": mode, "workers": 0, "device": "cpu"}
        precompute.run(resolve(PrecomputeConfig, flags=settings).config, emit=lambda event: None)
        flags = {"dsr_outputs": data / "train" / "dsr_outputs_16x16"}
    flags["eval.holdout_fraction"] = 0
    result, events = run_quietly(data, tmp_path / "run", backbone_weights=started / "hr", **flags)
    notes = [event.message for event in events if isinstance(event, Note)]
    assert any(f": {num_images} images of 4 persons, 0 kept" in note for note in notes)
    assert any("without HR twins" in note for note in notes)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert all(
        "loss/anchor" not in event.metrics and np.isfinite(event.metrics["loss/total"]) for event in steps
    )
    assert {"auc", "eer", "d_prime"} <= result.outcome.best_metrics.keys()
    assert "hr_auc" not in result.outcome.best_metrics
    assert result.next_command.startswith(f"dsrface evaluate {data} --vlr-size 16")


def test_native_faces_cannot_replace_hr_ones(started, tmp_path):
    data = native_data(tmp_path / "data")
    for purpose in ("finetune", "precompute"):
        assert own_data.build(str(data), purpose, 16)[0][0].inputs.dtype == torch.uint8
    with pytest.raises(DataError):
        own_data.build(str(data), "train-dsr", 16)
    for flags in ({"hr_only": True}, {"no_dsr": True, "teacher": started / "hr"}):
        with pytest.raises(DataError) as caught:
            run_quietly(data, tmp_path / "run", **flags)
        assert caught.value.id == "no-twins"
    with pytest.raises(DataError) as caught:
        train_dsr.run(dsr_config(data, tmp_path / "dsr", epochs=1), emit=lambda event: None)
    assert caught.value.id == "no-twins"
    assert "HR photos" in caught.value.hint


def test_what_does_not_fit_is_found_before_anything_is_measured(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "dsrface.commands.finetune.data.choose_workers", lambda *_, **__: pytest.fail("measured")
    )
    other = write_dsr(tmp_path / "dsr24.safetensors", size_px=24)
    with pytest.raises(UsageError, match="trained for 24 px, not for 16 px") as caught:
        run_quietly(tiny_data, tmp_path / "a", live=other, workers="auto")
    assert caught.value.id == "wrong-vlr-size"
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tiny_data / "train" / "hr_images"):
        with pytest.raises(UsageError) as caught:
            run_quietly(tiny_data, tmp_path / "c", dsr_outputs=folder, workers="auto")
        assert caught.value.id == "not-outputs"
    with pytest.raises(WeightsError):
        run_quietly(
            tiny_data, tmp_path / "b", no_dsr=True, backbone_weights=tmp_path / "no.pt", workers="auto"
        )


def test_resume_wants_the_same_starting_weights(tiny_data, started, tmp_path):
    shared = {
        "no_dsr": True,
        "backbone_weights": tmp_path / "copy.safetensors",
        "stage1_epochs": 1,
        "stage2_epochs": 0,
    }
    source = find_last(started / "hr") / "model.safetensors"
    (tmp_path / "copy.safetensors").write_bytes(source.read_bytes())
    run_quietly(tiny_data, tmp_path / "run", **shared)
    other = started / "hr" / "checkpoints" / "step_000000" / "model.safetensors"
    if not other.exists() or other.read_bytes() == source.read_bytes():
        other = next(
            path
            for path in (started / "hr").rglob("model.safetensors")
            if path.read_bytes() != source.read_bytes()
        )
    (tmp_path / "copy.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(RunError, match="another backbone_weights"):
        run_quietly(tiny_data, tmp_path / "run", resume=True, **shared)


def test_geometry_before_the_dsr(tiny_data, flat_data, started, tmp_path):
    flags = {"live": started / "dsr", "backbone_weights": started / "hr", "augment.before_dsr": True}
    result, _ = run_quietly(tiny_data, tmp_path / "run", **flags)
    assert result.outcome.status == "done"
    with pytest.raises(DataError, match="not recorded"):
        run_quietly(flat_data, tmp_path / "flat", **flags)


@pytest.mark.slow
@pytest.mark.parametrize("die_at", [0, 1, 3])
def test_sigkill_and_resume_give_the_uninterrupted_weights(tiny_data, started, whole, tmp_path, die_at):
    spawned = TINY | by_person(started) | {"data": tiny_data, "run": tmp_path / "cut"}
    died = spawn("finetune", spawned | {"die_at": die_at})
    assert died.returncode == -9, died.stderr
    if die_at == 0:  # as if killed before the first checkpoint was there
        for path in [*tmp_path.glob("cut/checkpoints/*"), *tmp_path.glob("cut/*st.json")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumed = spawn("finetune", spawned | {"resume": True})
    assert resumed.returncode == 0, resumed.stderr
    assert_equal(last_weights(whole), last_weights(tmp_path / "cut"))
    ours, theirs = (load_trainer_state(find_last(run))["task"] for run in (whole, tmp_path / "cut"))
    assert_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["arcface", "adaface"])
def test_two_ranks_give_one_ranks_losses(tiny_data, started, tmp_path, head):
    flags = TINY | {"data": tiny_data, "no_dsr": True, "backbone_weights": started / "hr", "head": head}
    losses = []
    for num in (0, 2):
        run = tmp_path / str(num)
        done = spawn("finetune", flags | {"run": run}, torchrun=num)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss/total"] for line in lines if line["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


TEACHER = """
import torch

def teacher():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 64))
"""


def test_teacher__is_learnt_from_scratch_and_recorded(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "teacher_nets.py").write_text(TEACHER)
    source = Path(f"{tmp_path / 'teacher_nets.py'}:teacher")
    _, events = run_quietly(tiny_data, tmp_path / "run", no_dsr=True, teacher=source)
    steps = [event.metrics for event in events if isinstance(event, StepDone)]
    assert all(0 < metrics["loss/anchor"] < 2 for metrics in steps)
    assert any(str(source) in getattr(event, "message", "") for event in events)
    loaded = load_recogniser(tmp_path / "run")
    assert loaded.metadata["taught_by"] == load_recogniser(source).sha256
    assert not any(name.startswith("teacher") for name in loaded.model.state_dict())


def test_teacher__is_never_the_judge(tiny_data, tmp_path):
    with pytest.raises(UsageError) as caught:
        run_quietly(tiny_data, tmp_path / "run", no_dsr=True, teacher=Path("judge"))
    assert caught.value.id == "judge-as-teacher"
