"""Any JSON in place of cards, notes and configurations: a value, or one line."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import foreign as others
from helpers import pipelines
from helpers.any_json import altered, json_values, quickly, tried
from sfumato.models import adapters, card
from sfumato.models.files import adapter_files, configs, schedulers, vocabularies
from sfumato.models.files.checkpoint import meta_network
from sfumato.models.loaders import library, noise_tables
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.recipe import foreign

CARD = json.loads((library.BUNDLED["emoji"] / "card.json").read_text(encoding="utf-8"))


def file(data: Any, name: str = "x.json") -> Path:
    """The data as a file, which the next one replaces."""
    path = _place() / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@cache
def _place() -> Path:
    return Path(tempfile.mkdtemp(prefix="sfumato-any-"))


@cache
def pipeline(family: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sfumato-any-"))
    pipelines.stable(folder, family)
    return folder / "pipeline"


def good(name: str, family: str = "sdxl") -> Any:
    return json.loads((pipeline(family) / name).read_text(encoding="utf-8"))


FOREIGN = {
    "parameters": others.FOOOCUS,
    "invokeai_metadata": others.INVOKE,
    "prompt": {"a": others.COMFY, "b": others.FLUX},
}


@quickly
@given(st.sampled_from(sorted(FOREIGN)), st.data())
def test_any_settings_of_other_programs(key: str, data: st.DataObject) -> None:
    good = FOREIGN[key]
    good = data.draw(st.sampled_from([good["a"], good["b"]])) if key == "prompt" else good
    text = json.dumps(data.draw(altered(good) | json_values))
    tried(lambda: foreign.read({key: text}, "x.png"))


@quickly
@given(st.data())
def test_any_parameters_of_a1111(data: st.DataObject) -> None:
    words = others.A1111.split(" ")
    at = data.draw(st.integers(0, len(words) - 1))
    words[at] = data.draw(st.text(max_size=20) | st.sampled_from(["Steps:", '"', "-1,", "1e9,"]))
    tried(lambda: foreign.read({"parameters": " ".join(words)}, "x.png"))


@quickly
@given(altered(CARD) | json_values)
def test_any_card(data: Any) -> None:
    made = tried(lambda: card.read_card(file(data, "card.json").parent))
    if made is None:
        return
    made.full_prompt("rose")
    for stage in (made.base, *made.upsamplers):
        config = tried(lambda stage=stage: UNetConfig(**stage.network))
        if config is not None and config.num_res_blocks < 4:
            tried(lambda config=config: meta_network(lambda: UNet(config), "network"))
    if isinstance(made.clip, card.ClipCard):
        config = tried(lambda: CLIPConfig(**made.clip.network))
        if config is not None and config.image_layers + config.text_layers < 20:
            tried(lambda: meta_network(lambda: NoisedCLIP(config), "network"))
    if made.classifier is not None:
        config = tried(lambda: UNetConfig(**made.classifier.network))
        entry = made.classifier
        if config is not None and config.num_res_blocks < 4:
            tried(
                lambda: meta_network(lambda: Classifier(config, entry.size, entry.pool), "network")
            )


@quickly
@given(st.sampled_from(["base", "clip", "classifier"]), st.data())
def test_any_part_of_a_card(part: Any, data: st.DataObject) -> None:
    given_ = data.draw(altered(CARD[part]) | json_values)
    tried(lambda: card.read_part(file(given_), part))


NOTE = {"alpha": 2.0, "rank": 2, "name": "sks", "training": {"steps": 3}}
HEADER = {"unet.lora_alpha": 4, "unet.alpha_pattern": {"mid.to_q": 2.0}, "unet.use_rslora": True}
PEFT = {"peft_type": "LORA", "lora_alpha": 8, "r": 2, "alpha_pattern": {"to_q": 1}}


@quickly
@given(altered(NOTE) | json_values, altered(HEADER) | json_values, altered(PEFT) | json_values)
def test_any_note_of_an_adapter(note: Any, header: Any, peft: Any) -> None:
    found = tried(lambda: adapters.note_of({"note": json.dumps(note)}, Path("x.safetensors")))
    assert found is None or found.rank >= 1
    stem = "mid.to_q.lora"
    pair = {f"{stem}_A.weight": torch.ones(2, 4), f"{stem}_B.weight": torch.ones(4, 2)}
    for said in (header, f"{header}"):
        text = said if isinstance(said, str) else json.dumps(said)
        given_ = {"lora_adapter_metadata": text}
        tried(lambda given_=given_: adapter_files.changes(pair, given_, Path("x.safetensors")))
    beside = file(peft, "adapter_config.json").with_name("adapter_model.safetensors")
    said = tried(lambda: adapter_files.peft_header(beside))
    if said is not None:
        tried(lambda: adapter_files.changes(pair, said, beside))


READERS: dict[str, Any] = {
    "model_index.json": configs.pipeline_classes,
    "scheduler/scheduler_config.json": schedulers.scheduler,
    "unet/config.json": lambda path: configs.check_unet(path, "UNet2DConditionModel"),
    "vae/config.json": configs.check_autoencoder,
    "text_encoder/config.json": configs.text_encoder_config,
    "tokenizer/tokenizer_config.json": lambda path: configs.check_tokenizer(path.parent),
}


@quickly
@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_configuration_of_a_pipeline(name: str, data: st.DataObject) -> None:
    given_ = data.draw(altered(good(name)) | json_values)
    path = file(given_, Path(name).name)
    made = tried(lambda: READERS[name](path))
    path.unlink()
    if isinstance(made, schedulers.Scheduler) and made.num_train_timesteps < 2000:
        tried(lambda: noise_tables.noise_table(made))


@quickly
@given(altered({"weight_map": {"a": "b.safetensors"}, "metadata": {}}) | json_values)
def test_any_index_of_weights(data: Any) -> None:
    tried(lambda: configs.shards(file(data, "model.safetensors.index.json")))


@cache
def words() -> Any:
    folder = library.BUNDLED["emoji"]
    made = vocabularies.read_tokenizer(folder / "tokenizer.json")
    text: Any = json.loads(made.to_str())
    known = list(text["model"]["vocab"])[:300]
    text["model"]["vocab"] = {piece: k for k, piece in enumerate(known)}
    text["model"]["merges"] = [
        pair
        for pair in text["model"]["merges"]
        if {*pair, "".join(pair)} <= set(known)
    ]  # fmt: skip
    return text


@quickly
@given(st.data())
def test_any_tokenizer(data: st.DataObject) -> None:
    given_ = data.draw(altered(words()) | json_values)
    made = tried(lambda: vocabularies.read_tokenizer(file(given_, "tokenizer.json"), 1000))
    if made is not None:
        assert max(made.encode("a red rose").ids, default=0) < 1000
        vocabularies.spell_out(_place())
        for name in ("vocab.json", "merges.txt"):
            (_place() / name).unlink()
