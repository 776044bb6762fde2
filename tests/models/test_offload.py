"""Networks that lie in main memory: the same bits from copies alone, as few as are promised, and
all at home whatever happens in between."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

import sfumato as sf
from helpers import families, pipelines
from helpers.places import Spoiling, apart, loaded
from helpers.taps import LookDeep
from sfumato.cli import main
from sfumato.core.errors import SfumatoError
from sfumato.models import cost, movers, offload, planning
from sfumato.nn import packed
from sfumato.server.runner.warm import Warm

HOW = ("modules", "layers")
KINDS = ("sd1", "sdxl", "sd3", "flux-dev", "flux2", "zimage", "qwen", "sana")
WORDS = ("a red cat", "a (red:1.4) car")


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All text encoders are large."""
    monkeypatch.setattr(offload, "LARGE", 0)


@pytest.fixture
def mover() -> Iterator[Spoiling]:
    made = Spoiling()
    yield made
    made.heal()


def state(model: sf.Model, *methods: Any, seed: int = 3, **given: Any) -> Tensor:
    """The last state of a short run, and its picture's pixels."""
    process = model.process(WORDS[0], negative=WORDS[1], **{"steps": 2, "size": 32, **given})
    for method in methods:
        process = process | method
    with torch.no_grad():
        *_, last = process.steps(seed=seed)
        return torch.cat([last.x.flatten(), model.space.decode(last.x).flatten()])


@cache
def plain(kind: str) -> sf.Model:
    """A family's model, not offloaded."""
    return copied(sf.load(str(families.pipeline(kind)), dtype="float32", device="cpu"))


def copied(model: sf.Model) -> sf.Model:
    """With plain layers, as on a device, and copies of its weights, whose places in memory are such
    as those of copies: products on the CPU round by where a matrix begins."""
    for net in nets_of(model):
        packed.unpack(net)
    for weight in weights_of(model):
        weight.data = weight.data.clone()
    return model


def nets_of(model: sf.Model) -> list[nn.Module]:
    return cost.networks_in(model)


def at_home(model: sf.Model, before: list[Tensor]) -> bool:
    """Whether every weight stands where it stood."""
    now = [one for net in nets_of(model) for one in (*net.parameters(), *net.buffers())]
    return [*map(id, now)] == [*map(id, before)]


def weights_of(model: sf.Model) -> list[Tensor]:
    return [one for net in nets_of(model) for one in (*net.parameters(), *net.buffers())]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_alone_give_the_same_bits_in_the_memory_that_is_promised(
    kind: str, how: str, mover: Spoiling
) -> None:
    wanted = state(plain(kind))
    model = loaded(families.pipeline(kind), how, mover)
    before, coders = weights_of(model), cost.networks_in(model.space)
    assert torch.equal(state(model), wanted)
    assert torch.equal(state(model), wanted), "also with what the first run has learned"
    sizes = [
        offload.least_bytes(net) if how == "layers" and net not in coders else offload.nbytes(net)
        for net in nets_of(model)
    ]
    assert mover.peak <= max(sizes) < cost.weight_bytes(model)
    assert at_home(model, before)


@pytest.mark.parametrize("make", [pipelines.pixart, lambda f: pipelines.hunyuan(f, True)])
def test_transformers_with_a_table_too(
    make: Callable[[Path], Any], mover: Spoiling, tmp_path: Path
) -> None:
    make(tmp_path)
    folder = str(tmp_path / "pipeline")
    wanted = state(copied(sf.load(folder, dtype="float32", device="cpu")))
    for how in HOW:
        assert torch.equal(state(loaded(folder, how, mover)), wanted)
        mover.heal()


def test_a_network_stays_while_it_walks_and_goes_for_the_next_one(mover: Spoiling) -> None:
    model = loaded(families.pipeline("sd1"), "modules", mover)
    network: Any = model.denoiser.network
    space: Any = model.space
    text: Any = model.text
    mover.name(network.net, "network")
    mover.name(space.autoencoder, "autoencoder")
    mover.name(text.encoders[0].network, "text")
    state(model, steps=3)
    assert mover.log == ["fetch text", "fetch network", "fetch autoencoder"]
    assert mover.bytes == offload.nbytes(space.autoencoder)


class Three(nn.Module):
    """Three layers, of which the second may break off."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(1))
        self.requires_grad_(False)
        self.breaks: BaseException | None = None
        self.said: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        for k, block in enumerate(self.blocks):
            self.said.append(f"run {k}")
            x = block(x) * self.scale
            if k == 1 and self.breaks is not None:
                raise self.breaks
        return x


def parked(mover: Spoiling, by_layers: bool = True) -> Three:
    torch.manual_seed(0)
    net = Three()
    net.said = mover.log
    for k, block in enumerate(net.blocks):
        mover.name(block, str(k))
    offload.park(net, offload.Place(mover), by_layers)
    return net


def test_the_layer_that_follows_is_fetched_before_it_runs(mover: Spoiling) -> None:
    net, x = parked(mover), torch.ones(1, 8)
    net(x)
    assert mover.log == ["run 0", "fetch 0", "run 1", "fetch 1", "run 2", "fetch 2"]
    mover.log.clear()
    net(x)
    assert mover.log == ["run 0", "fetch 0", "fetch 1", "run 1", "fetch 2", "run 2"]
    assert mover.peak <= offload.least_bytes(net)
    assert mover.bytes == net.scale.nbytes, "of layers nothing stays"


def test_another_order_costs_a_fetch_and_no_bits(mover: Spoiling) -> None:
    net, x = parked(mover), torch.ones(1, 8)
    net(x)
    blocks: Any = net.blocks
    net.blocks = nn.ModuleList([blocks[2], blocks[0], blocks[1]])
    first = net(x)
    assert torch.equal(net(x), first)
    mover.heal()
    for k in (2, 0, 1):
        x = nn.functional.linear(x, blocks[k].weight, blocks[k].bias)
    assert torch.equal(first, x)


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("by_layers", [False, True])
def test_what_breaks_off_leaves_all_at_home(
    error: BaseException, by_layers: bool, mover: Spoiling
) -> None:
    net, x = parked(mover, by_layers), torch.ones(1, 8)
    before, wanted = [*net.parameters()], net(x)
    net.breaks = error
    with pytest.raises(type(error)):
        net(x)
    assert [*map(id, net.parameters())] == [*map(id, before)]
    net.breaks = None
    assert torch.equal(net(x), wanted)


def test_a_signal_before_weights_are_put_back_does_no_harm(mover: Spoiling) -> None:
    """As if it had come in the middle of what every call ends with."""
    net, x = parked(mover), torch.ones(1, 8)
    wanted, before = net(x), [*net.parameters()]
    place = net.__dict__["_parked"].place
    block: Any = net.blocks[0]
    copies = place._begin([block.weight, block.bias])
    block._parameters.update(weight=copies[0], bias=copies[1])
    place.running = (net, block)
    assert torch.equal(net(x), wanted)
    assert [*map(id, net.parameters())] == [*map(id, before)]
    block._parameters.update(weight=copies[0], bias=copies[1])
    with offload.at_home(net):
        assert [*map(id, net.parameters())] == [*map(id, before)]


def test_copies_of_a_network_are_parked_too_and_share_its_weights(mover: Spoiling) -> None:
    net, x = parked(mover), torch.ones(1, 8)
    wanted = net(x)
    shared = {id(one): one for one in net.parameters()}
    with offload.at_home(net):
        again = copy.deepcopy(net, dict(shared))
    assert torch.equal(again(x), wanted)
    assert torch.equal(copy.copy(net)(x), wanted)
    assert [*map(id, again.parameters())] == [*shared]
    assert type(again).__name__ == "Three"


def lora(folder: Path) -> Path:
    torch.manual_seed(1)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora"
    words = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora"
    tensors = {}
    for one, width in ((name, 32), (words, 32)):
        tensors |= {f"{one}_A.weight": torch.randn(2, width) / 3}
        tensors |= {f"{one}_B.weight": torch.randn(width, 2)}
    save_file(tensors, folder / "style.safetensors")
    return folder / "style.safetensors"


@pytest.mark.parametrize("how", HOW)
def test_adapters_change_copies_of_what_lies_at_home(
    how: str, mover: Spoiling, tmp_path: Path
) -> None:
    """Before a run, since a weight is spoilt once it was taken."""
    file = lora(tmp_path)
    without = plain("sd1")
    wanted = state(without.adapt(file))
    assert not torch.equal(wanted, state(without))
    together = sf.CFG(3, adapters="prompt")
    both = state(without.adapt(file), together)
    model = loaded(families.pipeline("sd1"), how, mover)
    adapted = model.adapt(file)
    for _ in range(2):
        assert torch.equal(state(adapted), wanted)
        assert torch.equal(state(model), state(without))
    assert torch.equal(state(adapted, together), both), "two networks at every step"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "method",
    [
        lambda: sf.Fast("high"),
        lambda: sf.PromptToPrompt(("a red dog",)),
        lambda: sf.TotalVariation(5.0),
    ],
    ids=["kept maps", "taps", "gradients through the decoder"],
)
def test_methods_inside_the_network_find_it_there(
    method: Callable[[], Any], how: str, mover: Spoiling
) -> None:
    wanted = state(plain("sd1"), method(), steps=4)
    model = loaded(families.pipeline("sd1"), how, mover)
    before = weights_of(model)
    assert torch.equal(state(model, method(), steps=4), wanted)
    assert at_home(model, before)


def test_taps_see_the_same_maps(mover: Spoiling) -> None:
    def maps(model: sf.Model) -> list[Tensor]:
        look = LookDeep()
        state(model, look, steps=1)
        return [value for _, _, value in look.seen]

    pairs = list(
        zip(
            maps(plain("sd1")),
            maps(loaded(families.pipeline("sd1"), "layers", mover)),
            strict=True,
        )
    )
    assert pairs
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("how", HOW)
def test_threads_take_turns_and_plans_go_beside_them(how: str, mover: Spoiling) -> None:
    without = plain("sd1")
    wanted = [state(without, seed=k) for k in range(3)]
    model = loaded(families.pipeline("sd1"), how, mover)
    before, found = weights_of(model), dict[int, Any]()
    plan = planning.plan_data(without.process(WORDS[0], size=32), 0)["memory"]

    def sampled(k: int) -> None:
        found[k] = state(model, seed=k)

    def planned() -> None:
        found[3] = [
            planning.plan_data(model.process(WORDS[0], size=32), 0)["memory"] for _ in range(3)
        ]

    works = [threading.Thread(target=sampled, args=(k,)) for k in range(3)]
    works.append(threading.Thread(target=planned))
    for work in works:
        work.start()
    for work in works:
        work.join(60)
    assert all(torch.equal(found[k], wanted[k]) for k in range(3))
    assert found[3] == [plan] * 3
    assert at_home(model, before)


def test_weights_in_fewer_bits_lie_at_home_too(mover: Spoiling) -> None:
    folder = str(families.pipeline("sd1"))
    wanted = state(copied(sf.load(folder, device="cpu", dtype="int8")))
    with apart(mover):
        model = sf.load(folder, device="cpu", dtype="int8", offload="layers")
    assert torch.equal(state(model), wanted)


def test_another_autoencoder_lies_at_home_too(mover: Spoiling) -> None:
    folder = families.pipeline("sd1") / "vae"
    wanted = state(plain("sd1").adapt(folder))
    model = loaded(families.pipeline("sd1"), "modules", mover)
    with apart(mover):
        other = model.adapt(folder)
    assert torch.equal(state(other), wanted)


READS_VALUES = ("zimage", "qwen")  # their networks ask what a mask is


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_one_device_meets_what_is_on_another(
    kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With shapes alone, on a device that is not here; weights come from main memory."""
    where = torch.device("lazy:0")
    model = loaded(families.pipeline(kind), how, movers.Plain(where))
    model = replace(model, choice=replace(model.choice, device="lazy:0"))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        cond = model.encode(WORDS)
        assert {value.device for value in cond.values()} == {where}
        x = torch.empty(2, *model.shape((32, 32)), device=where)
        network: Any = model.denoiser.network
        if not kind.startswith(READS_VALUES):
            assert network(x, torch.full((2,), 0.5, device=where), cond).device == where
        assert model.space.encode(model.space.decode(x)).device == where


class Event:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    def synchronize(self) -> None:
        self.said.append("done")


class Stream:
    """What of CUDA's streams is used, noted."""

    said: ClassVar[list[str]] = []

    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        self.said.append("wait")

    def record_event(self) -> Event:
        self.said.append("ran")
        return Event(self.said)


def test_on_cuda_copies_have_a_stream_that_is_waited_for(
    mover: Spoiling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls alone: there is no such device here."""
    said: list[str] = []
    monkeypatch.setattr(Stream, "said", said)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: said.append("kept"))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self.clone())
    torch.manual_seed(0)
    net, x = Three(), torch.ones(1, 8)
    wanted = net(x)
    offload.park(net, offload.Place(movers.Streamed(torch.device("cpu"))), by_layers=True)
    assert torch.equal(net(x), wanted)
    assert torch.equal(net(x), wanted)
    layer = ["wait", "kept", "kept", "ran"]
    first = ["wait", "kept", *layer, *layer, "done", *layer, "done"]
    assert said == [*first, "wait", *layer, "done", *layer, "done", *layer, "done"]


def test_what_cannot_be_is_refused_in_a_line() -> None:
    with pytest.raises(SfumatoError, match="offload modules: the model is on the CPU already; "):
        sf.load(str(families.pipeline("sd1")), device="cpu", offload="modules")
    for wrong in ("disk", "", None):
        with pytest.raises(SfumatoError, match=r"offload .+: must be none, modules, layers"):
            sf.load("emoji", offload=wrong)  # type: ignore[arg-type]
    with pytest.raises(SfumatoError, match="offload layers: moves networks of diffusers"):
        loaded("emoji", "layers", Spoiling())


def test_the_program_and_a_runner_hand_it_on(tmp_path: Path) -> None:
    """A verb, a replay, a server's runner, up to what says no."""
    folder, line = families.pipeline("sd1"), "offload {}: the model is on the CPU already"
    recipe = plain("sd1").asked(plain("sd1").process("a", size=32)).to_json()
    (tmp_path / "a.json").write_text(recipe)
    (tmp_path / folder.name).symlink_to(folder)
    for words in (("generate", "a", "--model", str(folder)), ("run", str(tmp_path / "a.json"))):
        asked = [*words, "--device", "cpu", "--offload", "layers"]
        done = CliRunner().invoke(main.build(), asked)
        assert line.format("layers") in " ".join(done.stderr.split())
    with pytest.raises(SfumatoError, match=line.format("modules")):
        Warm({"x": str(folder)}, "cpu", offload="modules").open("x")
