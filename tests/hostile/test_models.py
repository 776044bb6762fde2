"""Model folders and their files: one line for what is wrong, and nothing leads out of them."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.models import card, carry, configs, hub, library

EMOJI = library.BUNDLED["emoji"]


def own_card() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EMOJI / "card.json").read_text(encoding="utf-8"))
    return found


def written(folder: Path, data: Any, name: str = "card.json") -> Path:
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("base", "weights"), ["../secret.safetensors"]),
        (("base", "weights"), ["/etc/passwd"]),
        (("base", "weights"), ["C:\\x.safetensors"]),
        (("base", "weights"), []),
        (("base", "weights"), "base.safetensors"),
        (("base", "tokenizer"), "../../tokenizer.json"),
        (("base", "table"), 10**9),
        (("base", "table"), "1000"),
        (("base", "schedule"), "none"),
        (("base", "kind"), "evil"),
        (("base", "network", "channel_mult"), []),
        (("base", "network", "model_channels"), 10**9),
        (("base", "network", "unknown"), 1),
        (("clip", "weights"), ["../../x"]),
        (("adapters",), {"a": "~/x.safetensors"}),
        (("native",), [32]),
        (("native",), [0, 32]),
        (("template",), "{prompt}" * 10_000),
        (("defaults", "steps"), -1),
        (("defaults", "methods"), {"method": "cfg"}),
        (("upsamplers",), None),
    ],
)
def test_a_card_is_refused_by_field(tmp_path: Path, where: tuple[str, ...], value: Any) -> None:
    data = own_card()
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(SfumatoError, match=rf"card\.json: .*{where[-1]}"):
        card.read(written(tmp_path, data))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"base": 1e999}', "\x00"])
def test_a_card_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SfumatoError) as said:
        card.read(written(tmp_path, text))
    assert "\n" not in str(said.value)


SCHEDULER = {"_class_name": "DDIMScheduler"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "scheduler None"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEuler"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEuler"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVe"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "CMStochastic"),
        ({"_class_name": ["DDIMScheduler"]}, "scheduler"),
        ({**SCHEDULER, "beta_start": 0}, "beta_start = 0"),
        ({**SCHEDULER, "num_train_timesteps": 10**9}, "num_train_timesteps"),
        ({**SCHEDULER, "prediction_type": "flow_prediction"}, "prediction_type"),
        ({**SCHEDULER, "use_flow_sigmas": True}, "use_flow_sigmas"),
        ({**SCHEDULER, "variance_type": "learned"}, "variance_type"),
        ({**SCHEDULER, "trained_betas": [2.0, 3.0]}, "trained_betas"),
    ],
)
def test_a_scheduler_is_refused_by_name(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        configs.scheduler(written(tmp_path, data, "s.json") / "s.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_embed_type", "projection"),
        ("encoder_hid_dim_type", "text_proj"),
        ("addition_embed_type", "image"),
        ("time_embedding_type", "learned"),
        ("time_cond_proj_dim", 256),
        ("attention_type", "gated"),
        ("cross_attention_dim", [8, 8]),
        ("num_class_embeds", 10),
        ("in_channels", "4"),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
    ],
)
def test_a_network_that_reads_what_is_never_given(tmp_path: Path, key: str, value: Any) -> None:
    said = "quantised" if key == "quantization_config" else key
    with pytest.raises(SfumatoError, match=said):
        configs.unet(written(tmp_path, {key: value}, "c.json") / "c.json", "UNet2DConditionModel")


@pytest.mark.parametrize(
    "value",
    ["../x.safetensors", "a\nb", "/etc/passwd", "a/../../x.safetensors", "", "missing.safetensors"],
)
def test_shards_lie_beside_their_index(tmp_path: Path, value: str) -> None:
    written(tmp_path, {"weight_map": {"a": value}}, "model.safetensors.index.json")
    with pytest.raises(SfumatoError):
        configs.shards(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize(
    "data",
    [{"vocab_file": "/etc/passwd"}, {"tokenizer_class": "T5Tokenizer"}, [], {"merges_file": "x"}],
)
def test_a_tokenizer_is_clips_and_reads_its_own_files(tmp_path: Path, data: Any) -> None:
    written(tmp_path, {"a": 0}, "vocab.json")
    with pytest.raises(SfumatoError, match="tokenizer_config"):
        configs.tokenizer(written(tmp_path, data, "tokenizer_config.json"))


def test_a_text_encoders_file_gives_sizes_and_nothing_else(tmp_path: Path) -> None:
    data = {
        "attn_implementation": "org/kernel",
        "_attn_implementation": "x",
        "auto_map": {"A": "b"},
    }
    made = configs.text_encoder(written(tmp_path, data, "c.json") / "c.json")
    assert made._attn_implementation in (None, "eager", "sdpa")
    assert getattr(made, "auto_map", None) is None


@pytest.mark.parametrize("kind", ["file", "folder", "loop", "device", "gone", "pipe"])
def test_an_export_follows_no_link_out_of_the_model(tmp_path: Path, kind: str) -> None:
    model, secret = tmp_path / "model", tmp_path / "secret"
    model.mkdir()
    secret.mkdir()
    (secret / "key").write_text("private")
    written(model, own_card())
    where = {"file": secret / "key", "folder": secret, "loop": Path(), "device": "/dev/zero"}
    if kind == "pipe":
        os.mkfifo(model / "x")
    else:
        (model / "x").symlink_to(where.get(kind, "nowhere"))
    with pytest.raises(SfumatoError, match=r"link that leads out|no regular file"):
        carry.export(str(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_takes_the_hubs_own_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("x")
    (snapshot / "card.json").symlink_to("../../blobs/abc")
    made = carry.export(str(snapshot), tmp_path / "out")
    assert (made / "card.json").read_text() == "x"
    assert not (made / "card.json").is_symlink()


def test_an_export_takes_no_forged_blobs(tmp_path: Path) -> None:
    """A folder that came from elsewhere may look like the hub's cache, with a link for blobs."""
    snapshot, secret = tmp_path / "unpacked" / "snapshots" / "1", tmp_path / "secret"
    snapshot.mkdir(parents=True)
    secret.mkdir()
    (secret / "key").write_text("private")
    (tmp_path / "unpacked" / "blobs").symlink_to(secret)
    (snapshot / "card.json").symlink_to("../../blobs/key")
    with pytest.raises(SfumatoError, match="link that leads out"):
        carry.export(str(snapshot), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_leaves_what_lies_beside_it(tmp_path: Path) -> None:
    model, own = tmp_path / "model", tmp_path / ".out.part"
    model.mkdir()
    own.mkdir()
    written(model, own_card())
    (own / "mine.txt").write_text("work")
    made = carry.export(str(model), tmp_path / "out")
    assert (own / "mine.txt").read_text() == "work"
    assert made.stat().st_mode == model.stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.part", "model", "out"]


def test_one_broken_folder_breaks_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    broken = tmp_path / "home" / "models" / "broken"
    broken.mkdir(parents=True)
    written(broken, "[]")
    snapshot = tmp_path / "index"
    snapshot.mkdir()
    written(snapshot, "not json", "model_index.json")
    assert "damaged" in hub._kind(snapshot / "model_index.json")
    found = {entry.name: entry.title for entry in library.entries()}
    assert "damaged" in found["broken"]
    assert "emoji" in found


def test_absent_keys_of_a_scheduler_are_its_own_class_s(tmp_path: Path) -> None:
    """The noise table of a file that names a class and nothing else is diffusers' own."""
    import diffusers

    tried = 0
    for kind in configs.TABLED:
        cls = getattr(diffusers, kind)
        told = inspect.signature(cls.__init__).parameters
        if "beta_start" not in told:  # a stand-in where another package is missing
            continue
        found = configs.scheduler(written(tmp_path, {"_class_name": kind}, "s.json") / "s.json")
        for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps"):
            assert getattr(found, key) == told[key].default, (kind, key)
        clips = told["clip_sample"].default if "clip_sample" in told else False
        assert found.clips == clips, kind
        tried += 1
    assert tried > 10


@pytest.mark.parametrize("kind", ["LCMScheduler", "TCDScheduler", "EDMEulerScheduler", "Nope"])
def test_schedulers_without_such_a_table_are_refused(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path, {"_class_name": kind, "beta_start": 0.1}, "s.json")
    with pytest.raises(SfumatoError, match=f"scheduler '{kind}' has no noise table"):
        configs.scheduler(folder / "s.json")


def test_continuous_timesteps_are_refused(tmp_path: Path) -> None:
    data = {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}
    with pytest.raises(SfumatoError, match="timestep_type 'continuous' is not supported"):
        configs.scheduler(written(tmp_path, data, "s.json") / "s.json")
