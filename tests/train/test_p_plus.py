"""P+: a word with vectors for every cross-attention layer, in networks, training and files."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import sfumato as sf
from helpers import pipelines
from helpers.pictures import photo
from helpers.program import call, fails
from sfumato.core.errors import SfumatoError
from sfumato.models.files import learned_words
from sfumato.models.latents import LayerContext, cross_attentions
from sfumato.train import config, program
from sfumato.train.tuners import p_plus

LAYERS, WIDTH = 4, 32  # of the tiny pipeline: one downwards, one in the middle, two upwards
WORD = "<thing>"
PROMPT = f"a {WORD} cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd1")
    pipelines.stable(root, "sd1")
    return root / "pipeline"


@pytest.fixture
def model(folder: Path) -> Any:
    return sf.load(str(folder), dtype="float32")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for k, size in enumerate(((32, 32), (48, 32))):
        photo(*size).save(made / f"{k}.png")
    return made


def vectors(*shape: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def knowing(model: Any, tmp_path: Path, value: torch.Tensor, word: str = WORD) -> Any:
    """The model with a word, by a file as --adapt reads it."""
    save_file({word: value.clone()}, tmp_path / "word.safetensors")
    return model.adapt(tmp_path / "word.safetensors")


def drawn(model: Any, prompt: str = PROMPT, negative: str = "", **given: Any) -> torch.Tensor:
    """Two pictures of three guided steps, one in the batch shares the other's condition."""
    process = model.process(prompt, negative=negative, n=2, steps=3, size=32, **given)
    made = list((process | sf.CFG(3.0)).steps(seed=4))[-1].x
    return made.detach()  # type: ignore[no-any-return]


def noticed(model: Any, cond: Any) -> list[tuple[str, torch.Tensor]]:
    """(name, output) of every module of the network, in the order in which they end."""
    net, seen, handles = model.denoiser.network.net, [], []
    for name, module in net.named_modules():

        def note(module: Any, args: Any, out: Any, name: str = name) -> None:
            if isinstance(out, torch.Tensor):
                seen.append((name, out.detach().clone()))

        handles.append(module.register_forward_hook(note))
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    try:
        with torch.no_grad():
            model.denoiser(x, 0.5, cond)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_layers_are_numbered_as_they_run() -> None:
    """The network's own list of modules has the middle last, and would number it so."""
    net = pipelines.unet(WIDTH, layers_per_block=2)
    ran: list[Any] = []
    for module in net.modules():
        if getattr(module, "is_cross_attention", False):
            module.register_forward_hook(lambda module, args, out: ran.append(module))
    with torch.no_grad():
        net(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 5, WIDTH))
    assert len(ran) == 6
    assert [id(layer) for layer in cross_attentions(net)] == [id(layer) for layer in ran]
    listed = [module for name, module in net.named_modules() if name.endswith("attn2")]
    assert [id(layer) for layer in listed] != [id(layer) for layer in ran]


def test_stable_diffusion_has_sixteen() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        net = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    widths = [layer.to_q.in_features for layer in cross_attentions(net)]
    assert widths == [320, 320, 640, 640, *[1280] * 6, *[640] * 3, *[320] * 3]


@pytest.mark.parametrize("count", [1, 3])
def test_equal_vectors_are_textual_inversion_bit_for_bit(
    model: Any, tmp_path: Path, count: int
) -> None:
    one = vectors(count)
    plain = drawn(knowing(model, tmp_path, one))
    everywhere = knowing(model, tmp_path, one.expand(LAYERS, count, WIDTH))
    assert everywhere.encode([PROMPT])["context"].shape == (1, LAYERS, 16, WIDTH)
    assert torch.equal(drawn(everywhere), plain)
    assert not torch.equal(drawn(knowing(model, tmp_path, vectors(LAYERS, count))), plain)
    alone = everywhere.process(PROMPT, n=2, steps=2, size=32) | sf.CFG(1.0)
    same = knowing(model, tmp_path, one).process(PROMPT, n=2, steps=2, size=32) | sf.CFG(1.0)
    ends = [list(process.steps(seed=4))[-1].x for process in (alone, same)]
    assert torch.equal(*ends), "unguided, where the batch shares one row"


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_layers_vectors_act_from_that_layer_on(model: Any, tmp_path: Path, layer: int) -> None:
    before, after = vectors(LAYERS, 2), vectors(LAYERS, 2)
    after[layer] += 1
    seen, changed = (
        noticed(adapted, adapted.encode([PROMPT]))
        for adapted in (knowing(model, tmp_path, before), knowing(model, tmp_path, after))
    )
    net = model.denoiser.network.net
    its = cross_attentions(net)[layer]
    name = next(name for name, module in net.named_modules() if module is its)
    assert [name for name, _ in seen] == [name for name, _ in changed]
    differ = [
        k for k, (one, two) in enumerate(zip(seen, changed, strict=True))
        if not torch.equal(one[1], two[1])
    ]  # fmt: skip
    assert seen[differ[0]][0] == f"{name}.to_k", "the first to see it"
    assert differ[-1] == len(seen) - 1, "the network's end"


def test_other_prompts_stay_as_they_are(model: Any, tmp_path: Path) -> None:
    """Same tensors and bits, before and after the network has served a word for each layer."""
    plain = model.encode(["red cat"], beside=[""])["context"]
    picture = drawn(model, "red cat")
    adapted = knowing(model, tmp_path, vectors(LAYERS, 1))
    for _ in range(2):
        found = adapted.encode(["red cat"], beside=[""])["context"]
        assert found.shape == plain.shape
        assert torch.equal(found, plain)
        assert torch.equal(drawn(adapted, "red cat"), picture)
        drawn(adapted)
    assert adapted.denoiser.network.net is model.denoiser.network.net
    assert torch.equal(drawn(model, "red cat"), picture)
    drawn(adapted.adapt(tmp_path / "word.safetensors"))
    assert hooks(model.denoiser.network.net) == [LayerContext(k) for k in range(LAYERS)]


def hooks(net: Any) -> list[Any]:
    layers = cross_attentions(net)
    return [hook for layer in layers for hook in layer._forward_pre_hooks.values()]


def test_copies_of_the_network_and_threads_at_once(model: Any, tmp_path: Path) -> None:
    """A LoRA copies the network, with its hooks or before it has any; threads share it."""
    adapted = knowing(model, tmp_path, vectors(LAYERS, 1))
    wanted = {PROMPT: drawn(adapted), "red cat": drawn(adapted, "red cat")}
    network = adapted.denoiser.network
    unused = sf.load(str(model.folder), dtype="float32").denoiser.network.net
    for net in (network.net, copy.deepcopy(network.net), copy.deepcopy(unused)):
        twin = replace(network, net=net)
        twin = replace(adapted, denoiser=replace(adapted.denoiser, network=twin))
        assert torch.equal(drawn(twin), wanted[PROMPT])
        assert hooks(net) == [LayerContext(k) for k in range(LAYERS)], (
            "one each, however often it is shared"
        )
    assert hooks(unused) == []
    found: dict[int, torch.Tensor] = {}

    def work(k: int, prompt: str) -> None:
        found[k] = drawn(adapted, prompt)

    prompts = [PROMPT, "red cat"] * 3
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(prompts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[k], wanted[prompt]) for k, prompt in enumerate(prompts))


@pytest.mark.parametrize("negative", ["", "a dog", f"blurry {WORD}"])
def test_guidance_costs_one_call_a_step(model: Any, tmp_path: Path, negative: str) -> None:
    """Whichever of the two texts has the word; the other one's layers all read the same."""
    adapted = knowing(model, tmp_path, vectors(LAYERS, 1))
    for prompt in (PROMPT, "red cat"):
        process = adapted.process(prompt, negative=negative, steps=3, size=32) | sf.CFG(3.0)
        assert (process.calls, list(process.sample(1).calls)) == (3, [3])
    both = adapted.encode([PROMPT, "red cat"])["context"]
    assert torch.equal(both[1], adapted.encode(["red cat"])["context"].expand(LAYERS, -1, -1))
    assert not torch.equal(both[0, 0], both[0, 1])


def test_a_condition_is_broadcast_to_the_layers(model: Any) -> None:
    """P, the space without layers, is P+ with one condition for all; other numbers are refused."""
    cond = model.encode(["red cat"])
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model.denoiser(x, 0.5, cond).eps
        wide = cond.map(lambda v: v[:, None].expand(-1, LAYERS, -1, -1))
        assert torch.equal(model.denoiser(x, 0.5, wide).eps, plain)
        with pytest.raises(SfumatoError, match=r"contexts for 3 .* layers, the network has 4"):
            model.denoiser(x, 0.5, wide.map(lambda v: v[:, :3]))


def recipe(model: Path, pictures: Path, **optim: Any) -> config.Config:
    tables: dict[str, Any] = {
        "name": "mine", "tuner": "p_plus", "model": {"start": str(model)},
        "subject": {"pictures": str(pictures), "noun": "red", "vectors": 2},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {"batch": 2, "steps": 30, "rate": 0.02, "warmup": 1, "ema": 0.5,
                  "dtype": "float32", **optim},
        "run": {"log": 1, "grid": 1000, "judge": 1000},
    }  # fmt: skip
    return config.parse(tables, json.dumps(tables))


def test_training_lowers_the_loss_and_moves_every_layer(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    """And both files hold what was learned, as --adapt reads it back."""
    given, run = recipe(folder, pictures), tmp_path / "run"
    tuner = p_plus.tuner(given, pictures, tmp_path / "fresh", "cpu")
    start = tuner.words["0"].detach().clone()
    assert start.shape == (LAYERS, 2, WIDTH)
    assert all(torch.equal(start[0], layer) for layer in start)
    with torch.no_grad():
        before = {k: v for k, v in tuner.judge().items() if "subject" in k}
    program.work(given, pictures, run, device="cpu", quiet=True)
    held = (run / "heldout.csv").read_text().splitlines()
    after = dict(zip(held[0].split(","), map(float, held[-1].split(",")), strict=True))
    assert sum(after[k] for k in before) < sum(before.values())
    said = json.loads((run / "run.json").read_text())
    assert (said["name"], said["file"]) == ("<red>", "learned_layers.safetensors")
    learned = load_file(run / "learned_layers.safetensors")["<red>"]
    moved = (learned - start).norm(dim=(1, 2))
    assert float(moved.min()) > 0.01, "every layer"
    assert len({round(float(m), 6) for m in moved}) == LAYERS, "each by itself"
    plain = sf.load(str(folder), dtype="float32")
    prompt = "a <red> cat"
    words = {file: plain.adapt(run / file) for file in ("", "learned_words.safetensors")}
    for adapted in words.values():
        assert torch.equal(adapted.text.encoders[0].words["<red>"], learned)  # type: ignore[union-attr]
    assert torch.equal(*(drawn(adapted, prompt) for adapted in words.values()))
    assert words[""].adapters[0]["file"] == "learned_layers.safetensors"


def test_both_forms_are_read_and_what_does_not_fit_is_refused(model: Any, tmp_path: Path) -> None:
    file, value = tmp_path / "word.safetensors", vectors(LAYERS, 2)
    for forms in ({f"<a>-{k}": value[k] for k in range(LAYERS)}, {"<a>": value}):
        save_file({name: v.clone() for name, v in forms.items()}, file)
        assert torch.equal(model.adapt(file).text.encoders[0].words["<a>"], value)
    many = {f"<a>-{k}": vectors(1, seed=k) for k in range(16)}
    (read,) = learned_words.words_of(dict(reversed(many.items())), file)["<a>"]
    assert torch.equal(read, torch.cat([*many.values()])[:, None]), "by number, not by name"
    single = {f"<a>-{k}": vectors(1, seed=k)[0] for k in range(LAYERS)}
    assert learned_words.words_of(single, file)["<a>"][0].shape == (LAYERS, 1, WIDTH)
    two = {"red-1": vectors(1), "blue-2": vectors(1)}
    assert learned_words.words_of(two, file).keys() == two.keys(), "words, not layers of one"
    cases = [
        ({f"<a>-{k}": value[k] for k in range(3)}, "<a> is for 3 cross-attention layers, .* has 4"),
        ({"<a>": vectors(16, 1)}, "<a> is for 16 cross-attention layers, model .* has 4"),
        ({f"<a>-{k}": value[k] for k in (0, 1, 3)}, "<a>-2 is missing; the file is damaged"),
        ({"<a>-0": vectors(1), "<a>-1": vectors(2)}, "the layers of <a> differ"),
        ({"<a>": torch.zeros(LAYERS, 1, 77)}, "vectors of 77, the text encoder's have 32"),
    ]
    for tensors, said in cases:
        save_file({name: v.clone() for name, v in tensors.items()}, file)
        with pytest.raises(SfumatoError, match=said):
            model.adapt(file)


def test_style_mixing_is_rows_of_two_words(model: Any, tmp_path: Path) -> None:
    """Layers k <= i < K read the shape's word and the others the look's."""
    shape, look = vectors(LAYERS, 1), vectors(LAYERS, 1, seed=10)
    mixed = knowing(model, tmp_path, torch.cat([look[:1], shape[1:3], look[3:]]))
    of_mixed, of_shape, of_look = (
        adapted.encode([PROMPT])["context"][0]
        for adapted in (mixed, *(knowing(model, tmp_path, value) for value in (shape, look)))
    )
    for k in range(LAYERS):
        source = of_shape if 1 <= k < 3 else of_look
        assert torch.equal(of_mixed[k], source[k])
        assert not torch.equal(of_shape[k], of_look[k])


def test_two_text_encoders_are_refused(tmp_path: Path, pictures: Path) -> None:
    """SDXL's pooled vector is read by no layer; words for all layers together work there."""
    pipelines.stable(tmp_path, "sdxl")
    given = recipe(tmp_path / "pipeline", pictures)
    with pytest.raises(SfumatoError, match=r"for Stable Diffusion 1\.x and 2\.x"):
        p_plus.tuner(given, pictures, tmp_path / "run", "cpu")
    parts = {"clip_l": torch.zeros(LAYERS, 1, 32), "clip_g": torch.zeros(LAYERS, 1, 48)}
    save_file(parts, tmp_path / "mine.safetensors")
    with pytest.raises(SfumatoError, match=r"for Stable Diffusion 1\.x and 2\.x"):
        sf.load(str(tmp_path / "pipeline"), dtype="float32").adapt(tmp_path / "mine.safetensors")


def test_the_program_learns_a_word_for_each_layer(
    folder: Path, pictures: Path, tmp_path: Path, app: Any
) -> None:
    run = tmp_path / "my-word"
    common = ["dreambooth", str(pictures), "--class", "dog", "--model", str(folder)]
    common += ["-o", str(run), "--per-layer"]
    assert "give --word too" in fails(app, 1, *common)
    plan = call(app, *common, "--word", "--plan")
    assert plan.exit_code == 0, plan.output
    assert "1 vector(s) of a word for each of 4 layers, 500 steps of 2, rate 0.005" in plan.stdout
    assert call(app, *common, "--word", "--steps", "1").exit_code == 0
    picture = call(
        app, "generate", "-p", "a <dog>", "--model", str(folder), "--steps", "1", "--size", "32",
        "--adapt", str(run), "-o", str(tmp_path / "out.png"),
    )  # fmt: skip
    assert picture.exit_code == 0, picture.output
    bundled = ["--model", "emoji", "--word", "--plan", "-o", str(tmp_path / "bundled")]
    assert "for latent models with text" in fails(app, 1, *common, *bundled)
    dotted = [*common, "--word", "--steps", "1", "--name", "v1.0", "-o", str(tmp_path / "dotted")]
    assert "leave dots and 'lora' out" in fails(app, 1, *dotted)
