"""Model folders and their files: one line for what is wrong, and nothing leads out of them."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers import pipelines
from sfumato.core.errors import SfumatoError
from sfumato.models import card
from sfumato.models.files import configs, hub, pipeline, schedulers
from sfumato.models.loaders import export, library
from sfumato.train import run_note, warm_start

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
        (("template",), "{0} {x}"),
        (("template",), "{prompt}, {prompt}"),
        (("defaults", "steps"), -1),
        (("defaults", "methods"), {"method": "cfg"}),
        (("upsamplers",), None),
        (("clip", "network", "image_width"), 10**9),
        (("clip", "network", "steps"), "1000"),
        (("clip", "network", "evil"), 1),
        (("clip", "schedule"), "none"),
        (("clip", "tokenizer"), None),
        (("clip", "weights"), None),
        (("clip", "evil"), 1),
        (("clip", "parts"), {"image_encoder": "x", "evil": "y"}),
        (("clip",), {"clean": "../x", "name": "a/b"}),
        (("clip",), {"clean": "x", "name": "/etc/passwd"}),
        (("clip",), []),
        (("classifier", "network", "channel_mult"), [0]),
        (("classifier", "pool"), "evil"),
        (("classifier", "size"), 0),
        (("classifier", "classes"), {"style": ["flat"]}),
        (("classifier", "classes"), {"style": "flat"}),
        (("classifier",), {}),
        (("base", "network", "bands"), {"low": -1}),
        (("base", "network", "bands"), {"evil": 1}),
        (("base", "network", "xf_heads"), 7),
        (("base", "network", "text_ctx"), 0),
        (("base", "network", "out_channels"), 3),
        (("base", "network", "in_channels"), 4),
        (("base", "network", "low_res"), True),
        (("base", "tokenizer"), None),
        (("base", "training"), 3),
        (("defaults", "solver"), "evil"),
        (("defaults", "solver"), {"solver": "ddim", "eta": 3}),
        (("defaults", "spacing"), "evil"),
        (("defaults", "methods"), [{"method": "evil"}]),
        (("defaults", "methods"), [{"method": "cfg", "scale": 1e9}]),
        (("defaults", "methods"), [{"method": "cfg", "scal": 2}]),
        (("defaults", "methods"), [{"method": "sdedit", "image": "/etc/passwd"}]),
    ],
)
def test_a_card_is_refused_by_field(tmp_path: Path, where: tuple[str, ...], value: Any) -> None:
    data = own_card()
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(SfumatoError, match=rf"card\.json: .*{where[-1]}") as caught:
        card.read_card(written(tmp_path, data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"base": 1e999}', "\x00"])
def test_a_card_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SfumatoError) as said:
        card.read_card(written(tmp_path, text))
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
        schedulers.scheduler(written(tmp_path, data, "s.json") / "s.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_embed_type", "projection"),
        ("encoder_hid_dim_type", "text_proj"),
        ("addition_embed_type", "image"),
        ("time_embedding_type", "learned"),
        ("attention_type", "gated"),
        ("cross_attention_dim", [8, 8]),
        ("num_class_embeds", 10),
        ("in_channels", "4"),
    ],
)
def test_a_network_that_reads_what_is_never_given(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SfumatoError, match=key):
        configs.check_unet(
            written(tmp_path, {key: value}, "c.json") / "c.json", "UNet2DConditionModel"
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_out_channels", [10**9]),
        ("block_out_channels", "x"),
        ("block_out_channels", []),
        ("layers_per_block", 10**9),
        ("layers_per_block", [2, -1]),
        ("transformer_layers_per_block", [[10**6]]),
        ("down_block_types", ["x"] * 1000),
        ("attention_head_dim", "8"),
        ("sample_size", -1),
        ("sample_size", [64]),
        ("norm_num_groups", 0),
        ("norm_eps", "1e-5"),
        ("cross_attention_dim", 0),
        ("mid_block_scale_factor", ["a", "b"]),
        ("mid_block_scale_factor", 0),
        ("resnet_out_scale_factor", "1"),
        ("downsample_padding", 1.5),
        ("flip_sin_to_cos", "yes"),
        ("freq_shift", "0"),
        ("act_fn", 5),
        ("conv_in_kernel", 10**9),
        ("only_cross_attention", "no"),
        ("use_linear_projection", [True]),
        ("time_embedding_dim", -4),
        ("dropout", 2),
    ],
)
def test_sizes_of_a_network_have_bounds(tmp_path: Path, key: str, value: Any) -> None:
    path = written(tmp_path, {key: value}, "c.json") / "c.json"
    with pytest.raises(SfumatoError, match=rf"c\.json: {key}"):
        configs.check_unet(path, "UNet2DConditionModel")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_channels", 0),
        ("layers_per_block", 10**9),
        ("scaling_factor", 0),
        ("scaling_factor", "1"),
        ("shift_factor", "x"),
        ("block_out_channels", [8] * 1000),
        ("latents_mean", [1.0]),
        ("latents_std", [0, 0, 0, 0]),
        ("latents_std", "1"),
        ("in_channels", 4),
        ("out_channels", "3"),
    ],
)
def test_sizes_of_an_autoencoder_have_bounds(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SfumatoError, match=rf"c\.json: {key}"):
        configs.check_autoencoder(written(tmp_path, {key: value}, "c.json") / "c.json")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "c.json"),
        ({"model_type": "siglip"}, "model_type"),
        ({"text_config": 3}, "text_config"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config: hidden_size"),
        ({"text_config_dict": {"hidden_size": "512"}}, "text_config: hidden_size"),
        ({"text_config": {"hidden_size": 511}}, "hidden_size 511 is no multiple"),
        ({"vision_config": {"num_channels": 4}}, "vision_config: num_channels"),
        ({"vision_config": {"hidden_act": "evil"}}, "vision_config: hidden_act"),
        ({"vision_config": {"patch_size": 0}}, "vision_config: patch_size"),
        ({"projection_dim": None}, "projection_dim"),
        ({"logit_scale_init_value": 1e9}, "logit_scale_init_value"),
    ],
)
def test_a_clips_file(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        configs.clip_config(written(tmp_path, data, "c.json") / "c.json")


def test_a_clips_file_gives_sizes_and_nothing_else(tmp_path: Path) -> None:
    side = {"hidden_size": 64, "num_attention_heads": 2, "attn_implementation": "org/kernel"}
    data = {"text_config": side, "vision_config": side, "_attn_implementation": "org/kernel"}
    made = configs.clip_config(written(tmp_path, data, "c.json") / "c.json")
    assert made.text_config.hidden_size == made.vision_config.hidden_size == 64
    for one in (made, made.text_config, made.vision_config):
        assert one._attn_implementation in (None, "eager", "sdpa")


@pytest.mark.parametrize(
    ("part", "data", "said"),
    [
        ("base", {}, "network is missing"),
        ("base", [], "stage.json"),
        ("clip", {"weights": ["../x"]}, "clip.json"),
        ("classifier", {"weights": 3}, "classifier.json"),
    ],
)
def test_an_exported_part_is_read_in_its_type(
    tmp_path: Path, part: Any, data: Any, said: str
) -> None:
    name = f"{part}.json" if part != "base" else "stage.json"
    with pytest.raises(SfumatoError, match=said):
        warm_start.earlier(str(written(tmp_path, data, name)), part)


def test_weights_of_another_clip_than_the_cards(tmp_path: Path) -> None:
    """Sizes that the weights do not have are refused before memory is asked for."""
    copy = Path(shutil.copytree(EMOJI, tmp_path / "model"))
    data = own_card()
    data["clip"]["network"] |= {"image_width": 16384, "image_layers": 16, "head_width": 1}
    model = library.load(str(written(copy, data)))
    with pytest.raises(SfumatoError, match="does not fit the card"):
        model.clip()
    data["classifier"]["network"] |= {"model_channels": 4096}
    model = library.load(str(written(copy, data)))
    with pytest.raises(SfumatoError, match="does not fit the card"):
        model.classifier()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "run.json"),
        ("{}", "name is missing"),
        ('{"name": 3, "noun": "dog"}', "name = 3"),
        ('{"name": "", "noun": "dog"}', "name"),
        ('{"name": "x", "noun": "dog", "model": ["a"]}', "model"),
    ],
)
def test_what_a_run_says_of_itself(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(SfumatoError, match=said):
        run_note.read(tmp_path)


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
        configs.check_tokenizer(written(tmp_path, data, "tokenizer_config.json"))


@pytest.mark.parametrize("beside", ["vocab.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no merges; the model is incomplete"),
        (b"#version: 0.2\n", "holds no merges; the model is incomplete"),
        (b"#version: 0.2\nr e\nre", r"merges.txt, line 3: 're' is no pair of pieces"),
        (b"#version: 0.2\nr e d\n", r"merges.txt, line 2: 'r e d' is no pair of pieces"),
        (b"#version: 0.2\nr \xff\n", r"merges.txt: is not UTF-8"),
        (b"<html>\n<body>not found</body>\n", r"merges.txt, line 1"),
    ],
)
def test_merges_are_pairs_whichever_vocabulary_is_beside_them(
    tmp_path: Path, text: bytes, said: str, beside: str
) -> None:
    """A tokenizer.json has merges of its own, but a release of transformers reads the others."""
    pieces: dict[str, Any] = {"r": 0, "e": 1, "re": 2}
    whole = {"model": {"type": "BPE", "vocab": pieces, "merges": ["r e"]}}
    written(tmp_path, pieces if beside == "vocab.json" else whole, beside)
    (tmp_path / "merges.txt").write_bytes(b"#version: 0.2\nr e\n\n")
    configs.check_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_bytes(text)
    with pytest.raises(SfumatoError, match=said) as raised:
        configs.check_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)


def test_merges_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = pipelines.words(tmp_path)
    pipeline.tokenizer(folder)
    (folder / "merges.txt").write_text("#version: 0.2\nq0 zz9\n")
    with pytest.raises(SfumatoError, match="cannot be loaded") as raised:
        pipeline.tokenizer(folder)
    assert "\n" not in str(raised.value)


def test_a_text_encoders_file_gives_sizes_and_nothing_else(tmp_path: Path) -> None:
    data = {
        "attn_implementation": "org/kernel",
        "_attn_implementation": "x",
        "auto_map": {"A": "b"},
    }
    made = configs.text_encoder_config(written(tmp_path, data, "c.json") / "c.json")
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
        export.export(str(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_takes_the_hubs_own_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("x")
    (snapshot / "card.json").symlink_to("../../blobs/abc")
    made = export.export(str(snapshot), tmp_path / "out")
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
        export.export(str(snapshot), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_leaves_what_lies_beside_it(tmp_path: Path) -> None:
    model, own = tmp_path / "model", tmp_path / ".out.part"
    model.mkdir()
    own.mkdir()
    written(model, own_card())
    (own / "mine.txt").write_text("work")
    made = export.export(str(model), tmp_path / "out")
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
    for kind in schedulers.TABLED:
        cls = getattr(diffusers, kind)
        told = inspect.signature(cls.__init__).parameters
        if "beta_start" not in told:  # a stand-in where another package is missing
            continue
        found = schedulers.scheduler(written(tmp_path, {"_class_name": kind}, "s.json") / "s.json")
        for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps"):
            assert getattr(found, key) == told[key].default, (kind, key)
        clips = told["clip_sample"].default if "clip_sample" in told else False
        assert found.clips == clips, kind
        tried += 1
    assert tried > 10


@pytest.mark.parametrize("kind", ["TCDScheduler", "EDMEulerScheduler", "Nope"])
def test_schedulers_without_such_a_table_are_refused(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path, {"_class_name": kind, "beta_start": 0.1}, "s.json")
    with pytest.raises(SfumatoError, match=f"scheduler '{kind}' has no noise table"):
        schedulers.scheduler(folder / "s.json")


def test_continuous_timesteps_are_refused(tmp_path: Path) -> None:
    data = {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}
    with pytest.raises(SfumatoError, match="timestep_type 'continuous' is not supported"):
        schedulers.scheduler(written(tmp_path, data, "s.json") / "s.json")
