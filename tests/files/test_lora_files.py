"""Adapters of other programs: LoRA files of diffusers and kohya, learned words, autoencoders.

Every file is given to diffusers' pipeline and to our model; their pictures must agree.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sfumato as sf
from helpers import pipelines
from helpers.adapters import NOISE, fresh, ours, theirs
from helpers.pictures import times_of
from sfumato.core.errors import SfumatoError
from sfumato.models.files import adapter_files, key_names

RANK, ALPHA = 2, 3.0


def must_do(library: str, version: tuple[int, int], what: str) -> None:
    """Skip where an older library does not do it: then it is no oracle for it."""
    older = tuple(int(part) for part in metadata.version(library).split(".")[:2]) < version
    if older:
        pytest.skip(f"this {library} does not {what}, so it is no oracle for it")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> folder of its pipeline."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            pipelines.stable(made[kind], kind)
        return made[kind] / "pipeline"

    return get


def layers(net: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Attention and feed-forward layers, a convolution and an embedding."""
    ends = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ff.net.2",
        "proj_in",
        "q_proj",
        "k_proj",
        "v_proj",
        "out_proj",
        "fc1",
        "fc2",
    )
    for name, module in net.named_modules():
        if name.endswith((*ends, "conv1", "time_emb_proj")) and hasattr(module, "weight"):
            yield name, module.weight


def low_rank(weight: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inner, kernel = weight.shape[1], weight.shape[2:]
    ones = (1,) * len(kernel)
    down = torch.randn(RANK, inner, *kernel, generator=generator) * inner**-0.5
    up = torch.randn(weight.shape[0], RANK, *ones, generator=generator) * 0.3
    return down, up


def texts(pipe: Any) -> dict[str, Any]:
    names = ("text_encoder", "text_encoder_2")
    return {name: getattr(pipe, name) for name in names if hasattr(pipe, name)}


def bare(name: str) -> str:
    """Their files always say text_model, whatever the installed transformers calls it."""
    return f"text_model.{name.removeprefix('text_model.')}"


def diffusers_file(pipe: Any, path: Path, way: str = "diffusers") -> Path:
    """peft's names (no alpha: it is the rank), or those of the older and the oldest releases."""
    old = way != "diffusers"
    tensors = {}
    for k, (name, weight) in enumerate(layers(pipe.unet)):
        if old and ("attn" not in name or "proj_in" in name or weight.ndim > 2):
            continue
        down, up = low_rank(weight, k)
        if old:
            head, _, leaf = name.replace("to_out.0", "to_out").rpartition(".")
            stem = f"unet.{head}.processor.{leaf}_lora"
            tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
        else:
            tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    for part, net in texts(pipe).items():
        for k, (name, weight) in enumerate(layers(net)):
            down, up = low_rank(weight, 50 + k)
            stem = f"{part}.{bare(name)}"
            if way == "oldest":
                if "self_attn" not in stem:
                    continue
                stem = re.sub(r"([qkv]|out)_proj$", r"to_\1_lora", stem)
                tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
            elif old:
                stem += ".lora_linear_layer"
                tensors |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
            else:
                tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    save_file(tensors, path)
    return path


def kohya_file(pipe: Any, path: Path, sgm: bool = False) -> Path:
    """Flattened names with an alpha each; `sgm` as files for SDXL are."""
    tensors: dict[str, torch.Tensor] = {}
    names = key_names.sgm_names(pipe.unet) if sgm else {}

    def add(stem: str, weight: torch.Tensor, seed: int) -> None:
        down, up = low_rank(weight, seed)
        stem = stem.replace(".", "_")
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = down, up
        tensors[f"{stem}.alpha"] = torch.tensor(ALPHA)

    for k, (name, weight) in enumerate(layers(pipe.unet)):
        full = names.get(f"{name}.weight", f"{name}.weight").removesuffix(".weight")
        add(f"lora_unet_{full}", weight, k)
    prefixes = ("lora_te1_", "lora_te2_") if hasattr(pipe, "text_encoder_2") else ("lora_te_",)
    for prefix, net in zip(prefixes, texts(pipe).values(), strict=True):
        for k, (name, weight) in enumerate(layers(net)):
            add(prefix + bare(name), weight, 50 + k)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(
    ("kind", "way"),
    [("sd1", "diffusers"), ("sd1", "older"), ("sd1", "oldest"), ("sd1", "kohya"),
     ("sdxl", "diffusers"), ("sdxl", "kohya"), ("sdxl", "sgm"), ("sd2-v", "kohya")],
)  # fmt: skip
def test_lora_files_change_the_picture_as_in_diffusers(
    folders: Any, tmp_path: Path, kind: str, way: str, strength: float
) -> None:
    folder = folders(kind)
    pipe = fresh(folder)
    before = theirs(pipe)
    file = tmp_path / "mine.safetensors"
    if way in ("diffusers", "older", "oldest"):
        diffusers_file(pipe, file, way)
    else:
        kohya_file(pipe, file, way == "sgm")
    pipe.load_lora_weights(file, adapter_name="mine")
    pipe.set_adapters(["mine"], [strength])
    wanted = theirs(pipe)
    model = sf.load(str(folder), dtype="float32")
    found = ours(model.adapt(file, strength), pipe)
    assert float((wanted - before).abs().max()) > 0.05
    assert float((found - wanted).abs().max()) < 1e-5
    assert float((ours(model, pipe) - before).abs().max()) < 1e-5, "the plain model was changed"


def test_several_at_once_are_their_sum(folders: Any, tmp_path: Path) -> None:
    folder = folders("sd1")
    pipe = fresh(folder)
    one = diffusers_file(pipe, tmp_path / "one.safetensors")
    two = kohya_file(pipe, tmp_path / "two.safetensors")
    pipe.load_lora_weights(one, adapter_name="one")
    pipe.load_lora_weights(two, adapter_name="two")
    pipe.set_adapters(["one", "two"], [0.5, 0.7])
    model = sf.load(str(folder), dtype="float32").adapt(one, 0.5).adapt(two, 0.7)
    assert float((ours(model, pipe) - theirs(pipe)).abs().max()) < 1e-5
    assert [a["file"] for a in model.adapters] == ["one.safetensors", "two.safetensors"]


def test_alpha_in_the_header_is_read(folders: Any, tmp_path: Path) -> None:
    """diffusers keeps rank and alpha of a trained adapter in its file's header."""
    must_do("diffusers", (0, 34), "read the header")
    folder = folders("sd1")
    pipe = fresh(folder)
    file = diffusers_file(pipe, tmp_path / "mine.safetensors")
    noted = {"unet.r": RANK, "unet.lora_alpha": 7, "unet.target_modules": ["to_q"]}
    tensors = {k: v for k, v in load_file(file).items() if k.startswith("unet.") and "to_q" in k}
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(noted), "format": "pt"})
    pipe.load_lora_weights(file)
    model = sf.load(str(folder), dtype="float32").adapt(file)
    assert float((ours(model, pipe) - theirs(pipe)).abs().max()) < 1e-5


def test_patterns_of_alpha_and_biases_are_those_of_peft(folders: Any, tmp_path: Path) -> None:
    """The first regular expression that fits a layer's end gives its alpha."""
    must_do("diffusers", (0, 34), "read the header")
    folder = folders("sd1")
    pipe = fresh(folder)
    tensors: dict[str, torch.Tensor] = {}
    for k, (name, weight) in enumerate(layers(pipe.unet)):
        if name.endswith(("to_q", "to_k", "to_v")):
            down, up = low_rank(weight, k)
            tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    patterns = {r"down_blocks\.\d\..*to_q": 9.0, "attn1.to_q": 5.0, "to_k": 1.0, "q": 50.0}
    noted = {"unet.r": RANK, "unet.lora_alpha": 4, "unet.alpha_pattern": patterns,
             "unet.target_modules": ["to_q", "to_k", "to_v"]}  # fmt: skip
    file = tmp_path / "mine.safetensors"
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(noted), "format": "pt"})
    pipe.load_lora_weights(file)
    model = sf.load(str(folder), dtype="float32").adapt(file)
    assert float((ours(model, pipe) - theirs(pipe)).abs().max()) < 1e-5


def test_every_name_of_a_layer_is_known_where_levels_have_unequal_counts(tmp_path: Path) -> None:
    pipe = pipelines.stable(tmp_path, "sd1")
    config = {k: v for k, v in pipe.unet.config.items() if not k.startswith("_")}
    pipe.unet = pipelines.scrambled(type(pipe.unet)(**{**config, "layers_per_block": (1, 2)}), 5)
    pipe.save_pretrained(tmp_path / "uneven")
    pipe = fresh(tmp_path / "uneven")
    model = sf.load(str(tmp_path / "uneven"), dtype="float32")
    ways = {"diffusers": diffusers_file, "kohya": kohya_file, "sgm": kohya_file}
    found = []
    for way, write in ways.items():
        file = tmp_path / f"{way}.safetensors"
        write(pipe, file, **({"sgm": True} if way == "sgm" else {}))
        found.append(ours(model.adapt(file, 1 if way == "diffusers" else RANK / ALPHA), pipe))
    assert float((found[0] - ours(model, pipe)).abs().max()) > 0.05
    for one in found[1:]:
        assert float((one - found[0]).abs().max()) < 1e-5


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_factors_bias_is_that_of_a_layer_without_one(
    folders: Any, tmp_path: Path, part: str
) -> None:
    """peft's lora_bias: attention's own layers have no bias in the UNet, and have one in CLIP."""
    must_do("diffusers", (0, 34), "read the bias of a factor")
    folder = folders("sd1")
    pipe = fresh(folder)
    generator = torch.Generator().manual_seed(4)
    ends = ("to_q", "to_k", "to_v", "q_proj", "v_proj")
    tensors: dict[str, torch.Tensor] = {}
    for k, (name, weight) in enumerate(layers(getattr(pipe, part))):
        if name.endswith(ends):
            stem = f"{part}.{name if part == 'unet' else bare(name)}"
            down, up = low_rank(weight, k)
            bias = torch.randn(len(weight), generator=generator)
            tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up,
                        f"{stem}.lora_B.bias": bias}  # fmt: skip
    noted = {f"{part}.r": RANK, f"{part}.lora_alpha": 1, f"{part}.lora_bias": True,
             f"{part}.target_modules": list(ends)}  # fmt: skip
    file = tmp_path / "mine.safetensors"
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(noted), "format": "pt"})
    pipe.load_lora_weights(file)
    model = sf.load(str(folder), dtype="float32")
    found = ours(model.adapt(file), pipe)
    assert float((found - theirs(pipe)).abs().max()) < 1e-5
    assert float((found - ours(model, pipe)).abs().max()) > 0.01


def test_changes_given_whole_are_added(
    folders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """kohya's diff, diff_b, w_norm and b_norm, peft's bias; what is left over is said."""
    model: Any = sf.load(str(folders("sd1")), dtype="float32")
    block = "down_blocks.0.attentions.0"
    names = {
        "proj_in.weight": "proj_in.diff",
        "proj_in.bias": "proj_in.diff_b",
        "norm.weight": "norm.w_norm",
        "norm.bias": "norm.b_norm",
        "transformer_blocks.0.attn1.to_out.0.bias": None,
    }
    before = {n: model.denoiser.network.net.get_parameter(f"{block}.{n}") for n in names}
    generator = torch.Generator().manual_seed(3)
    added = {n: torch.randn(v.shape, generator=generator) for n, v in before.items()}
    tensors = {
        f"lora_unet_{block.replace('.', '_')}_{name.replace('.', '_', name.count('.') - 1)}": added[
            n
        ]
        for n, name in names.items()
        if name is not None
    }
    out = f"unet.{block}.transformer_blocks.0.attn1.to_out.0"
    bias = added["transformer_blocks.0.attn1.to_out.0.bias"]
    tensors |= {f"{out}.lora_A.weight": torch.zeros(2, len(bias)),
                f"{out}.lora_B.weight": torch.zeros(len(bias), 2), f"{out}.lora_B.bias": bias,
                "strange.thing": torch.ones(1)}  # fmt: skip
    file = tmp_path / "whole.safetensors"
    save_file(tensors, file)
    made: Any = model.adapt(file, 0.5)
    for n, value in before.items():
        found = made.denoiser.network.net.get_parameter(f"{block}.{n}")
        assert torch.allclose(found, value + 0.5 * added[n], atol=1e-6), n
    assert (
        "1 of its tensors are no change that is known here, left out: strange.thing" in caplog.text
    )


def test_layers_own_biases_are_applied(
    folders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """kohya's are added, peft's (bias "all") take the place of the old; a down factor's as well."""
    model: Any = sf.load(str(folders("sd1")), dtype="float32")
    block = "down_blocks.0.attentions.0"
    attention = f"{block}.transformer_blocks.0.attn1"
    net = model.denoiser.network.net
    before = {
        n: net.get_parameter(f"{n}.bias") for n in (f"{block}.proj_in", f"{attention}.to_out.0")
    }
    generator = torch.Generator().manual_seed(3)
    given = {n: torch.randn(v.shape, generator=generator) for n, v in before.items()}
    first, second = before
    width = len(before[second])
    down, up = (
        torch.randn(2, width, generator=generator),
        torch.randn(width, 2, generator=generator),
    )
    inner = torch.randn(2, generator=generator)
    kohya = {f"lora_unet_{name.replace('.', '_')}": name for name in before}
    stem = next(k for k, name in kohya.items() if name == second)
    tensors = {f"{k}.bias": given[name] for k, name in kohya.items()}
    tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up,
                f"{stem}.lora_down.bias": inner,
                f"{stem.removesuffix('to_out_0')}to_q.bias": torch.ones(width)}  # fmt: skip
    save_file(tensors, tmp_path / "kohya.safetensors")
    made: Any = model.adapt(tmp_path / "kohya.safetensors", 0.5)
    found = {n: made.denoiser.network.net.get_parameter(f"{n}.bias") for n in before}
    assert torch.allclose(found[first], before[first] + 0.5 * given[first], atol=1e-6)
    added = given[second] + up @ inner
    assert torch.allclose(found[second], before[second] + 0.5 * added, atol=1e-5)
    assert "1 of its" in caplog.text  # to_q has no bias in this model
    assert "to_q.bias" in caplog.text

    peft = {f"base_model.model.{first}.bias": given[first],
            f"base_model.model.{second}.base_layer.bias": given[second],
            f"base_model.model.{second}.lora_A.weight": down,
            f"base_model.model.{second}.lora_B.weight": up}  # fmt: skip
    save_file(peft, tmp_path / "peft.safetensors")
    for strength in (1.0, 0.25):
        made = model.adapt(tmp_path / "peft.safetensors", strength)
        for name, value in before.items():
            found[name] = made.denoiser.network.net.get_parameter(f"{name}.bias")
            wanted = torch.lerp(value, given[name], strength)
            assert torch.allclose(found[name], wanted, atol=1e-5), name


def test_peft_writes_the_bias_itself(tmp_path: Path) -> None:
    """What is read as the trained bias is what peft saves: not what was added."""
    import peft

    must_do("peft", (0, 15), "save the bias of an adapted layer")
    net = torch.nn.Sequential(torch.nn.Linear(4, 4))
    made = peft.get_peft_model(net, peft.LoraConfig(target_modules=["0"], bias="lora_only"))
    before = made.base_model.model[0].base_layer.bias.detach().clone()
    with torch.no_grad():
        made.base_model.model[0].base_layer.bias.add_(1)
    made.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert torch.equal(saved["base_model.model.0.base_layer.bias"], before + 1)
    tensors, header = adapter_files.read_adapter(tmp_path / "adapter_model.safetensors")
    found = adapter_files.changes(tensors, header, tmp_path)
    (bias,) = [one for one in found if isinstance(one, adapter_files.Full)]
    assert (bias.layer, bias.leaf, bias.replaces) == ("base_model.model.0", "bias", True)
    assert torch.allclose(bias.change(1.0, before), torch.ones(4))


def test_adapters_on_the_prompts_branch_alone(folders: Any, tmp_path: Path) -> None:
    """Per branch: the away branch is the plain model, text encoder and all."""
    folder = folders("sd1")
    pipe = fresh(folder)
    file = kohya_file(pipe, tmp_path / "mine.safetensors")
    model = sf.load(str(folder), dtype="float32")
    adapted = model.adapt(file)
    made = ours(adapted, pipe, adapters="prompt")
    times = times_of(pipe.scheduler, "ddim")
    process = adapted.process("red cat", negative="a dog", spacing=times, solver="ddim")
    assert (process | sf.CFG(3.0, adapters="prompt")).calls == 8
    assert (process | sf.CFG(3.0)).calls == 4
    by_hand = one_step_mixture(model, adapted, times)
    assert float((made - by_hand).abs().max()) < 1e-5


def one_step_mixture(plain: sf.Model, adapted: sf.Model, times: tuple[float, ...]) -> torch.Tensor:
    """3 times the adapted prompt's eps less 2 times the plain negative's, walked by DDIM."""
    x, schedule = NOISE, plain.denoiser.schedule
    with torch.no_grad():
        positive = adapted.denoiser.prepare(adapted.encode(["red cat"]))
        negative = plain.denoiser.prepare(plain.encode(["a dog"]))
        for t, s in itertools.pairwise(times):
            towards = adapted.denoiser(x, t, positive).eps
            away = plain.denoiser(x, t, negative).eps
            eps = 3 * towards - 2 * away
            x0 = (x - schedule.sigma(t) * eps) / schedule.alpha(t)
            x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
        return (plain.space.decode(x) / 2 + 0.5).clamp(0, 1)


def embeddings(path: Path, way: str) -> tuple[Path, str]:
    """A learned word of two vectors as a file of each program; its name in prompts."""
    generator = torch.Generator().manual_seed(9)
    vectors = torch.randn(2, 32, generator=generator)
    if way == "diffusers":
        save_file({"<mine>": vectors}, path / "learned_embeds.safetensors")
        return path / "learned_embeds.safetensors", "<mine>"
    if way == "pickled":
        data = {"string_to_param": {"*": vectors}, "name": "mine", "step": 100}
        torch.save(data, path / "word.pt")
        return path / "word.pt", "mine"
    save_file({"emb_params": vectors}, path / "mine.safetensors")
    return path / "mine.safetensors", "mine"


@pytest.mark.parametrize("way", ["diffusers", "pickled", "emb_params"])
def test_learned_words_are_read_as_in_diffusers(folders: Any, tmp_path: Path, way: str) -> None:
    folder = folders("sd1")
    pipe = fresh(folder)
    file, word = embeddings(tmp_path, way)
    prompt = f"a {word} cat"
    before = theirs(pipe, prompt)
    pipe.load_textual_inversion(str(file), token=word)
    wanted = theirs(pipe, prompt)
    model = sf.load(str(folder), dtype="float32").adapt(file)
    assert float((wanted - before).abs().max()) > 0.01
    assert float((ours(model, pipe, prompt) - wanted).abs().max()) < 1e-5


def test_a_learned_word_of_two_encoders(folders: Any, tmp_path: Path) -> None:
    folder = folders("sdxl")
    pipe = fresh(folder)
    generator = torch.Generator().manual_seed(9)
    vectors = {"clip_l": torch.randn(2, 32, generator=generator)}
    vectors["clip_g"] = torch.randn(2, 48, generator=generator)
    save_file(vectors, tmp_path / "mine.safetensors")
    for part, name in (("clip_l", ""), ("clip_g", "_2")):
        pipe.load_textual_inversion(
            vectors[part], token="mine", text_encoder=getattr(pipe, f"text_encoder{name}"),
            tokenizer=getattr(pipe, f"tokenizer{name}"),
        )  # fmt: skip
    model = sf.load(str(folder), dtype="float32").adapt(tmp_path / "mine.safetensors")
    found = ours(model, pipe, "a mine cat")
    assert float((found - theirs(pipe, "a mine cat")).abs().max()) < 1e-5


def test_what_does_not_fit_is_refused(folders: Any, tmp_path: Path) -> None:
    model = sf.load(str(folders("sd1")), dtype="float32")
    file = tmp_path / "other.safetensors"
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        (
            {f"unet.elsewhere.{n}.lora_{x}.weight": torch.zeros(2, 2) for n in "ab" for x in "AB"},
            r"none of its 2 layers \(unet.elsewhere.a\) is one of",
        ),
        ({"lora_unet_x.hada_w1_a": torch.zeros(2, 2)}, "LoHa is not supported"),
        ({"unet.x.lora_A.weight": torch.zeros(2, 2)}, "lora_B.weight is missing"),
        ({"model.weight": torch.zeros(2, 2)}, "no LoRA layers in it"),
        ({"lora_unet_x.a1.weight": torch.zeros(2, 2)}, "GLoRA is not supported"),
        (
            {"unet.x.lora_A.weight": torch.zeros(0, 2), "unet.x.lora_B.weight": torch.zeros(2, 0)},
            "is empty, rank 0 changes nothing",
        ),
        (
            {f"unet.x.lora_{x}.weight": torch.zeros(2, 2, dtype=torch.int8) for x in "AB"},
            "holds torch.int8, not floats",
        ),
        (
            {f"unet.x.lora_{x}.weight": torch.full((2, 2), float("nan")) for x in "AB"},
            "values that are not finite",
        ),
        (
            {"unet.x.lora_A.weight": torch.zeros(2, 2), "unet.x.lora_B.weight": torch.zeros(2, 3)},
            "are no two factors of one change",
        ),
        ({"emb_params": torch.zeros(1, 77)}, "vectors of 77, the text encoder's have 32"),
        ({"clip_l": torch.zeros(1, 32), "clip_g": torch.zeros(1, 32)}, "vectors for 2 text"),
    ]
    for tensors, said in cases:
        save_file(tensors, file)
        with pytest.raises(SfumatoError, match=said):
            model.adapt(file)
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    plain = {f"{layer}.lora_{x}.weight": torch.zeros(2, 2) for x in "AB"}
    for note, said in (
        ("{", "is not JSON"),
        ('{"unet.lora_alpha": "x"}', "lora_alpha = 'x'"),
        ('{"unet.alpha_pattern": {"(": 1}}', "is none"),
        ('{"unet.alpha_pattern": {"(a+)+": 1}}', "too involved"),
    ):
        save_file(plain, file, {"lora_adapter_metadata": note})
        with pytest.raises(SfumatoError, match=said):
            model.adapt(file)
    wrong = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": 99,
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight": 2,
    }
    save_file({name: torch.zeros(16 if n == 2 else 2, n) for name, n in wrong.items()}, file)
    with pytest.raises(SfumatoError, match="16x99, the model's is 16x16"):
        model.adapt(file)
    file.write_bytes(b"no weights")
    with pytest.raises(SfumatoError, match="damaged"):
        model.adapt(file)
    with pytest.raises(SfumatoError, match="models pull some/lora"):
        model.adapt("some/lora")


def test_another_autoencoder_decodes(folders: Any, tmp_path: Path) -> None:
    """A tiny one as the space, and beside the full one for previews."""
    from diffusers import AutoencoderTiny

    folder = folders("sd1")
    tiny = pipelines.tiny_autoencoder()
    tiny.save_pretrained(tmp_path / "tiny")
    model = sf.load(str(folder), dtype="float32")
    adapted = model.adapt(tmp_path / "tiny")
    state = torch.randn(1, 4, 8, 8)
    assert torch.equal(adapted.space.decode(state), tiny.decode(state).sample)
    assert adapted.denoiser.network.net is model.denoiser.network.net  # type: ignore[attr-defined]
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    small.save_pretrained(tmp_path / "small")
    with pytest.raises(SfumatoError, match="latents of 4 channels at stride 2"):
        model.adapt(tmp_path / "small")
