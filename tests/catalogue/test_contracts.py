"""What every entry of every catalogue must keep."""

from __future__ import annotations

import pytest
import torch

from dsrface.config.catalogue import (
    BENCHMARKS,
    DSR_NETWORKS,
    HEADS,
    MAIN_PROTOCOL,
    PROTOCOLS,
    RECOGNISERS,
    load,
)
from dsrface.config.describe import keys
from dsrface.config.dsr_model import DsrConfig
from dsrface.config.evaluate import EvaluateConfig
from dsrface.config.finetune import FinetuneConfig
from dsrface.config.keys import key_meanings
from dsrface.config.sources import resolve
from dsrface.config.train_dsr import TrainDsrConfig
from dsrface.errors import DataError, UsageError
from dsrface.models.dsr import build_dsr
from dsrface.models.heads import MarginHead, build_head
from dsrface.models.recognisers import build_recogniser, embedding_dim_of
from dsrface.models.weights import load_dsr, load_recogniser, save_model
from dsrface.types import Preprocess

NEEDED = {"data": "DATA", "vlr_size": 16}
# One of each build: larger siblings differ in their options alone.
SMALLEST = {entry.build: name for name, entry in reversed(RECOGNISERS.items())}


@pytest.mark.parametrize(
    "entry",
    [
        entry
        for listed in (RECOGNISERS, DSR_NETWORKS, HEADS, PROTOCOLS, BENCHMARKS)
        for entry in listed.values()
    ],
)
def test_every_entry_says_what_it_is(entry):
    assert 0 < len(entry.meaning) <= 60


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_accepted_and_refuses_a_folder_without_it(name, tmp_path):
    assert resolve(EvaluateConfig, flags=NEEDED | {"protocol": name}).config.protocol == name
    entry = BENCHMARKS[name]
    pairs = {"pairs": None} if entry.takes_pairs else {}
    with pytest.raises(DataError):
        load(entry.read)(tmp_path / "none.bin" if entry.is_file else tmp_path, **entry.options, **pairs)


@pytest.mark.parametrize("name", RECOGNISERS)
def test_a_recogniser_is_accepted_by_the_configuration(name):
    flags = NEEDED | {"hr_only": True, "backbone": name}
    assert resolve(FinetuneConfig, flags=flags).config.backbone == name


@pytest.mark.parametrize("name", SMALLEST.values())
def test_a_recogniser_gives_embeddings_and_survives_a_weight_file(name, tmp_path):
    torch.manual_seed(0)
    model = build_recogniser(name).eval()
    preprocess = RECOGNISERS[name].preprocess
    faces = torch.rand(2, 3, preprocess.size_px, preprocess.size_px)
    with torch.inference_mode():
        before = model(faces)
        assert before.shape == (2, embedding_dim_of(name))
        path = tmp_path / "model.safetensors"
        save_model(path, model, kind="recogniser", config={"variant": name}, preprocess=preprocess)
        loaded = load_recogniser(path)
        assert (loaded.name, loaded.preprocess) == (name, preprocess)
        assert torch.equal(loaded.model(faces), before)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_accepted_and_has_the_interface(name):
    assert resolve(FinetuneConfig, flags=NEEDED | {"hr_only": True, "head": name}).config.head == name
    head = build_head(name, num_classes=3, embedding_dim=8)
    assert isinstance(head, MarginHead)
    assert head.margin == HEADS[name].margin
    assert head(torch.randn(4, 8), torch.tensor([0, 1, 2, 0])).shape == (4, 3)


@pytest.mark.parametrize("name", DSR_NETWORKS)
def test_a_dsr_survives_a_weight_file_and_a_configuration(name, tmp_path):
    config = resolve(TrainDsrConfig, flags=NEEDED, assignments=[f"model.arch={name}"]).config
    assert type(config.model) is DSR_NETWORKS[name].table
    assert TrainDsrConfig.model_validate(config.model_dump()) == config
    shape = DsrConfig(network=config.model, vlr_size=16)
    path = tmp_path / "model.safetensors"
    config_stored = shape.model_dump(mode="json")
    save_model(path, build_dsr(shape), kind="dsr", config=config_stored, preprocess=Preprocess(16))
    loaded = load_dsr(path)
    assert loaded.name == name
    assert DsrConfig.model_validate(loaded.config) == shape


@pytest.mark.parametrize("name", DSR_NETWORKS)
def test_options_of_another_dsr_are_refused_by_name(name):
    own = DSR_NETWORKS[name].table.model_fields.keys()
    for other in DSR_NETWORKS.keys() - {name}:
        for key in DSR_NETWORKS[other].table.model_fields.keys() - own:
            with pytest.raises(UsageError, match=rf"model\.{key} .*not an option of {name}") as caught:
                resolve(TrainDsrConfig, flags=NEEDED, assignments=[f"model.arch={name}", f"model.{key}=2"])
            assert caught.value.id == "bad-config"


@pytest.mark.parametrize("name", DSR_NETWORKS)
def test_every_option_of_a_dsr_is_known_and_described(name):
    described = {key.name: key for key in keys(TrainDsrConfig)}
    for key in DSR_NETWORKS[name].table.model_fields:
        assert f"model.{key}" in key_meanings(TrainDsrConfig)
        assert described[f"model.{key}"].meaning


def test_the_main_protocol_puts_vlr_probes_before_an_hr_gallery():
    main = PROTOCOLS[MAIN_PROTOCOL]
    assert (main.has_low_gallery, main.has_low_probe) == (False, True)
    assert len({(item.has_low_gallery, item.has_low_probe) for item in PROTOCOLS.values()}) == len(PROTOCOLS)
