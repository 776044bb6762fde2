"""Taps in networks of diffusers: hooks for maps, torch's fused kernel caught for attentions.

The hooks are put in place once and do nothing unless a call of this thread has taps (`acting`), so
networks keep them. Attention is caught where its processor calls torch's kernel, whatever processor
that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sfumato.core.errors import SfumatoError
from sfumato.core.taps import ATTENTIONS, Kind, Site, Taps, has

BLOCKS = (
    "DownBlock2D", "CrossAttnDownBlock2D", "AttnDownBlock2D", "SimpleCrossAttnDownBlock2D",
    "ResnetDownsampleBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "AttnUpBlock2D",
    "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D",
)  # fmt: skip
"""Blocks whose parts run one after the other, each map down being one skip."""

ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_attaching = Lock()


@dataclass(eq=False)
class Acting:
    """The taps of a network's call; height and width of what it reads; the attention that runs."""

    taps: Taps
    height: int
    width: int
    running: Site | None = None
    caught: bool = field(default=False)

    def grid(self, pixels: int) -> tuple[int, int]:
        """(height, width) of a map of so many pixels, by halving the state's."""
        height, width = self.height, self.width
        while height * width > pixels:
            height, width = -(-height // 2), -(-width // 2)
        return height, width


_acting: ContextVar[Acting | None] = ContextVar("sfumato_taps", default=None)


@contextmanager
def acting(net: Any, taps: Taps, x: Tensor) -> Iterator[None]:
    """While it lasts, the taps act in this network of this thread, which reads x (B, C, H, W)."""
    attach(net)
    here = Acting(taps, x.shape[-2], x.shape[-1])
    attending = any(
        has(entry.tap, hook) for entry in taps.entries for hook in ("scores", "probs", "attended")
    )
    before = _acting.set(here)
    try:
        with Kernel(here) if attending else nullcontext():
            yield
    finally:
        _acting.reset(before)


def sites(net: Any) -> tuple[Site, ...]:
    """Every place where taps act, numbered as in networks of our own."""
    placed = [site for site, _ in maps(net)]
    skips = [Site("skip", site.index, site.name) for site in placed if site.kind == "down"]
    return (*placed, *skips, *(site for site, _ in attentions(net)))


def attach(net: Any) -> None:
    """Put the hooks in place, unless they are."""
    with _attaching:
        if any(isinstance(hook, Map) for hook in net.conv_in._forward_hooks.values()):
            return
        for site, module in maps(net):
            module.register_forward_hook(Map(site))
        first = sum(site.kind == "down" for site, _ in maps(net))
        for block in net.up_blocks:
            first -= len(block.resnets)
            block.register_forward_pre_hook(Skips(first), with_kwargs=True)
        for site, module in attentions(net):
            module.register_forward_pre_hook(Begins(site))
            module.register_forward_hook(Ends(), always_call=True)


def maps(net: Any) -> list[tuple[Site, nn.Module]]:
    """Modules whose output is a map: the stem, then what each block gives."""
    for block in (*net.down_blocks, *net.up_blocks):
        if type(block).__name__ not in BLOCKS:
            raise SfumatoError(
                f"{type(net).__name__}: its {type(block).__name__} lets nothing act inside it"
            )
    pairs: list[tuple[Site, nn.Module]] = [(Site("down", 0, "conv_in"), net.conv_in)]
    for k, block in enumerate(net.down_blocks):
        named = [*_layers(block), *_named(block, "downsamplers")]
        for name, module in named:
            pairs.append((Site("down", len(pairs), f"down_blocks.{k}.{name}"), module))
    if net.mid_block is not None:
        pairs.append((Site("middle", 0, "mid_block"), net.mid_block))
    index = 0
    for k, block in enumerate(net.up_blocks):
        named = _layers(block)
        if ends := _named(block, "upsamplers"):  # the next block reads the enlarged map
            named = [*named[:-1], *ends]
        for name, module in named:
            pairs.append((Site("up", index, f"up_blocks.{k}.{name}"), module))
            index += 1
    return pairs


def _layers(block: Any) -> list[tuple[str, nn.Module]]:
    """Each residual block, or the attention that follows it."""
    return _named(block, "attentions") or _named(block, "resnets")


def _named(block: Any, name: str) -> list[tuple[str, nn.Module]]:
    return [(f"{name}.{k}", module) for k, module in enumerate(getattr(block, name, None) or ())]


def attentions(net: Any) -> list[tuple[Site, nn.Module]]:
    """In the order in which they run: downwards, middle, upwards; the network lists its middle
    last."""
    from diffusers.models.attention_processor import Attention

    counts: Counter[Kind] = Counter()
    pairs: list[tuple[Site, nn.Module]] = []
    for part in ("down_blocks", "mid_block", "up_blocks"):
        block = getattr(net, part)
        for name, module in () if block is None else block.named_modules():
            if isinstance(module, Attention):
                kind = kind_of(module)
                pairs.append((Site(kind, counts[kind], f"{part}.{name}"), module))
                counts[kind] += 1
    return pairs


def kind_of(attention: Any) -> Kind:
    """Where text keys are added to those of pixels, both are under one softmax (GLIDE, IF)."""
    if attention.added_kv_proj_dim is not None:
        return "cross" if attention.only_cross_attention else "joint"
    return "cross" if attention.is_cross_attention else "self"


@dataclass(frozen=True)
class Map:
    """A hook on what a module gives."""

    site: Site

    def __call__(self, module: nn.Module, args: Any, out: Any) -> Any:
        here = _acting.get()
        if here is None:
            return None
        if isinstance(out, tuple):
            return (here.taps.feature(out[0], self.site), *out[1:])
        return here.taps.feature(out, self.site)


@dataclass(frozen=True)
class Skips:
    """A hook on the skips that a block of the way up reads; first: the index of its first."""

    first: int

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        here = _acting.get()
        if here is None:
            return None
        named = "res_hidden_states_tuple" in kwargs  # UNet2DModel gives it by its place
        skips = kwargs["res_hidden_states_tuple"] if named else args[1]
        count = len(module.resnets)  # type: ignore[arg-type]  # of a block, a list
        own = tuple(
            here.taps.feature(h, Site("skip", self.first + k, f"skip {self.first + k}"))
            for k, h in enumerate(skips[-count:])
        )
        skips = (*skips[:-count], *own)
        if named:
            return args, {**kwargs, "res_hidden_states_tuple": skips}
        return (args[0], skips, *args[2:]), kwargs


@dataclass(frozen=True)
class Begins:
    """A hook that says which attention runs."""

    site: Site

    def __call__(self, module: nn.Module, args: Any) -> None:
        if (here := _acting.get()) is not None:
            here.running, here.caught = self.site, False


@dataclass(frozen=True)
class Ends:
    """A hook that an attention has ended; one that taps act on must have come by the kernel."""

    def __call__(self, module: nn.Module, args: Any, out: Any) -> None:
        here = _acting.get()
        if here is None or here.running is None:
            return
        site, here.running = here.running, None
        if here.caught or out is None:  # None: it has failed, and says so itself
            return
        for hook in ("scores", "probs", "attended"):
            if any(has(e.tap, hook) and e.tap.at(site) for e in here.taps.entries):
                processor = type(getattr(module, "processor", module)).__name__
                raise SfumatoError(
                    f"{site.name}: its {processor} does not attend by torch's kernel, so nothing "
                    "can act inside it; leave the network its own processors"
                )


class Kernel(TorchFunctionMode):
    """Runs taps in place of the fused kernel of the attention that runs."""

    def __init__(self, here: Acting) -> None:
        super().__init__()
        self.here = here

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        site = self.here.running
        if func is not F.scaled_dot_product_attention or site is None or self.here.caught:
            return func(*args, **named)  # a second one is an adapter's own
        named |= dict(zip(ARGUMENTS, args, strict=False))
        q, k, v = (named.pop(name) for name in ARGUMENTS[:3])
        assert site.kind in ATTENTIONS
        text = {"self": 0, "cross": k.shape[2], "joint": k.shape[2] - q.shape[2]}[site.kind]

        def fused(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return func(q, k, v, **named)

        self.here.caught = True
        here = site.here(self.here.grid(q.shape[2]), text)
        taps, mask, scale = self.here.taps, named.get("attn_mask"), named.get("scale")
        return taps.attend(q, k, v, here, fused, mask, scale)
