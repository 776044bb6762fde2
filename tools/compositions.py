"""Writes docs/compositions.md: every pair of methods composed and walked for two steps.

The model is the bundled one with tiny networks of random weights in the place of its own, so that
its words, CLIP and classifier are there. A test walks the same pairs and compares the page with
`text`, so that a new method cannot be forgotten. Run `python tools/compositions.py`.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

import sfumato as sf
from sfumato.core.context import Call
from sfumato.core.errors import SfumatoError
from sfumato.core.taps import Site, Tap
from sfumato.methods import Method, find, registry
from sfumato.models.cascade import Cascade
from sfumato.nn.control import Control
from sfumato.nn.image_prompt import ImagePrompt
from sfumato.nn.unet import UNet

FILE = Path(__file__).parents[1] / "docs" / "compositions.md"
PROMPT = "red apple, 3d render"
SMALL = {
    "model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "xf_width": 32,
    "xf_layers": 1, "xf_heads": 2, "num_head_channels": 16,
}  # fmt: skip


def tiny(denoiser: Any, seed: int) -> Any:
    """The denoiser with a small network of the same kind."""
    config = denoiser.network.config
    fields = {**SMALL, "attention_resolutions": config.attention_resolutions[:1]}
    if not config.xf_width:
        fields = {k: v for k, v in fields.items() if not k.startswith("xf")}
    return replace(denoiser, network=noised(UNet(replace(config, **fields)), seed))


def noised(net: Any, seed: int) -> Any:
    """With random weights everywhere, also where a network begins with zeros."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.eval().requires_grad_(False).parameters():
        noise = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
        parameter.copy_(noise if parameter.dim() > 1 else 1 + 0.1 * noise)
    return net


class Middle(Tap):
    """Notes the shape (C, h, w) of the bottleneck."""

    shape: tuple[int, ...] = ()

    def feature(self, h: torch.Tensor, site: Site, call: Call) -> torch.Tensor:
        if site.kind == "middle":
            self.shape = tuple(h.shape[1:])
        return h


@dataclass(frozen=True)
class Table:
    """Files that methods need lie in a folder."""

    folder: Path

    @cached_property
    def model(self) -> sf.Model:
        whole = sf.load("emoji", dtype="float32")
        up = tiny(whole.upsamplers[0], 1)
        base = tiny(whole.denoiser, 0)
        stages = tuple(up for _ in whole.upsamplers)
        return replace(whole, denoiser=base, upsamplers=stages, memo={})

    @cached_property
    def picture(self) -> Path:
        file = self.folder / "picture.png"
        Image.radial_gradient("L").resize(self.model.card.native).convert("RGB").save(file)
        return file

    @cached_property
    def mask(self) -> Path:
        """The left half may change."""
        file = self.folder / "mask.png"
        width, height = self.model.card.native
        mask = Image.new("L", (width, height))
        mask.paste(255, (0, 0, width // 2, height))
        mask.save(file)
        return file

    @cached_property
    def adapter(self) -> Path:
        """A low-rank change of one layer."""
        net: Any = self.model.denoiser.network
        name = next(n for n, _ in net.named_modules() if n.endswith("encoder_kv"))
        weight = net.get_submodule(name).weight
        file = self.folder / "adapter.safetensors"
        tensors = {
            f"{name}.down": torch.ones(1, weight[0].numel()),
            f"{name}.up": torch.ones(len(weight), 1),
        }
        save_file(tensors, file, {"note": '{"alpha": 1.0, "rank": 1}'})
        return file

    @cached_property
    def control(self) -> Path:
        """A second network, as its tuner writes it."""
        return self.saved("control", noised(Control.copy_of(self.network), 2))

    @cached_property
    def prompted(self) -> Path:
        """An adapter that reads pictures."""
        return self.saved("prompted", noised(ImagePrompt.beside(self.network, self.seen), 3))

    @cached_property
    def shift(self) -> Path:
        """Of the bottleneck."""
        return self.saved("shift", {"shift": torch.full((self.bottleneck[0], 1, 1), 0.5)})

    @cached_property
    def planes(self) -> Path:
        """In the state and in the bottleneck, at half of the way."""
        planes = {"t": torch.tensor(0.5)}
        state = (3, *reversed(self.model.card.native))
        for space, shape in (("x", state), ("h", self.bottleneck)):
            planes[f"{space}.normal"] = torch.ones(shape)
            planes |= {f"{space}.offset": torch.tensor(0.5), f"{space}.spread": torch.tensor(2.0)}
        return self.saved("planes", planes)

    @cached_property
    def head(self) -> Path:
        """Of ratings."""
        weights = {"weight": torch.ones(1, self.seen), "bias": torch.zeros(1)}
        return self.saved("head", weights)

    @property
    def network(self) -> Any:
        return self.model.denoiser.network

    @cached_property
    def seen(self) -> int:
        """Width of what the CLIP says of a picture."""
        clip: Any = self.model.clip()
        return int(clip.text(["a"]).shape[-1])

    @cached_property
    def bottleneck(self) -> tuple[int, ...]:
        middle = Middle()
        process = replace(self.model.process(PROMPT, steps=1, stages=1), taps=(middle,))
        with torch.no_grad():
            *_, _ = process.steps(seed=0)
        return middle.shape

    def saved(self, name: str, weights: Any) -> Path:
        file = self.folder / f"{name}.safetensors"
        tensors = weights if isinstance(weights, dict) else weights.state_dict()
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
        return file

    def method(self, name: str) -> Method:
        """The method as it acts on a short run."""
        made = SETTINGS[name](self)
        return find(name)(**made)  # type: ignore[no-any-return, call-arg]

    def walked(self, *names: str, n: int = 1, seed: int = 0) -> torch.Tensor:
        """The last state of the methods together, in this order; n: pictures, but where a method
        says how many there are."""
        steps = None if "upscale" in names else 2  # of the base, which that leaves out
        number = 1 if "prompt_to_prompt" in names else n
        process: Any = self.model.process(PROMPT, steps=steps, n=number)
        for name in names:
            process = process | self.method(name)
        if isinstance(process, Cascade) and "upscale" not in names:
            process = process.base
        with torch.no_grad():
            *_, last = process.steps(seed=seed)
        return last.x  # type: ignore[no-any-return]

    def why_not(self, one: str, other: str) -> str:
        """ "" where two methods run, to the same bits in either order; else why they do not."""
        found: list[Any] = []
        for names in ((one, other), (other, one)):
            try:
                found.append(self.walked(*names))
            except SfumatoError as error:
                found.append(str(error))
        refused = [why for why in found if isinstance(why, str)]
        if len(refused) == 1:
            raise AssertionError(f"{one}, {other}: in one order alone: {refused[0]}")
        if refused:
            return refused[0]
        if not (found[0].isfinite().all() and torch.equal(*found)):
            raise AssertionError(f"{one}, {other}: another order is another picture")
        return ""

    @cached_property
    def names(self) -> list[str]:
        return sorted(name for name in registry() if name in SETTINGS)

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """Every pair, and why it is refused."""
        for one, other in itertools.combinations(self.names, 2):
            yield one, other, self.why_not(one, other)


def start(table: Table) -> Mapping[str, Any]:
    return {"image": str(table.picture)}


SETTINGS: dict[str, Callable[[Table], Mapping[str, Any]]] = {
    "aesthetic": lambda t: {"head": str(t.head), "cutouts": 1},
    "asyrp": lambda t: {"file": str(t.shift), "t_boost": 0.0},
    "boundary_diffusion": lambda t: {"file": str(t.planes)},
    "cfg": lambda t: {"scale": 2.0},
    "classifier": lambda t: {"target": "flat"},
    "clip_guidance": lambda t: {},
    "controlnet": lambda t: {"hint": str(t.picture), "file": str(t.control), "make": "edges"},
    "dense_diffusion": lambda t: {"regions": ("red apple=0,0,0.5,1",)},
    "diffstyler": lambda t: {**start(t), "art": str(t.adapter)},
    "diffuseit": lambda t: {**start(t), "text": "ink drawing", "repeats": 1, "limit": 0},
    "gradient": lambda t: {"fraction": 0.2},
    "fast": lambda t: {},
    "ilvr": lambda t: {**start(t), "factor": 4},
    "inpaint": lambda t: {**start(t), "mask": str(t.mask)},
    "instruction": lambda t: {"weight": 10.0, "cutouts": 1},
    "ip_adapter": lambda t: {**start(t), "file": str(t.prompted)},
    "low_pass": start,
    "null_text": lambda t: {**start(t), "inner": 1},
    "patch_nce": start,
    "perceptual": start,
    "prompt_to_prompt": lambda t: {"edited": ("green apple, 3d render",)},
    "sdedit": lambda t: {**start(t), "t0": 0.6},
    "rf_inversion": start,
    "sdg": lambda t: {**start(t), "text": "blue heart"},
    "sine": lambda t: {"tuned": str(t.adapter), "caption": PROMPT},
    "stego": lambda t: {"message": "x", "check": False},
    "temperature": lambda t: {},
    "threshold": lambda t: {"mode": "dynamic"},
    "total_variation": lambda t: {},
    "upscale": start,
}
"""Methods that the bundled model's networks can run; the others are said to be left out. What
their tuners teach is random here."""
LEFT_OUT = {
    "distilled_guidance": "a network that was distilled",
    "flow_edit": "a flow model",
    "reference": "a network that reads a picture",
    "refine": "a second network of the same latents",
    "variation": "a network that reads what a picture shows",
}


def text(refused: Mapping[tuple[str, str], str], names: list[str]) -> str:
    """The page."""
    slots: dict[str, list[str]] = {}
    for name in names:
        if slot := find(name).slot:
            slots.setdefault(slot, []).append(name)
    lines = [HEAD.format(count=len(names), pairs=len(names) * (len(names) - 1) // 2)]
    for slot, together in slots.items():
        if len(together) > 1:
            lines.append(f"- One {slot}: {', '.join(f'`{name}`' for name in together)}.\n")
    rows = [
        f"| `{one}` | `{other}` | {why} |\n"
        for (one, other), why in refused.items()
        if not (find(one).slot and find(one).slot == find(other).slot)
    ]
    if rows:
        lines += ["\n| | | why not |\n|---|---|---|\n", *rows]
    left = [f"`{name}` ({why})" for name, why in LEFT_OUT.items()]
    lines.append(f"\nNot tried, for want of weights: {', '.join(left)}.\n")
    return "".join(lines)


HEAD = """# What goes together

Made by `python tools/compositions.py`, and compared by a test: {count} methods, {pairs} pairs, each
composed in both orders and walked for two steps on tiny networks; what a tuner teaches is random.
Each alone gives the same bits in several threads, and in a batch but for the kernels' rounding.
`asyrp` and `boundary_diffusion` act here on what the run begins from; with a picture they are its
start. All pairs run, and give the same bits in either order, except

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder))
        refused = {(one, other): why for one, other, why in table.pairs() if why}
        FILE.write_text(text(refused, table.names), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    sys.exit(main())
