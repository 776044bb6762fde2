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
from sfumato.core.errors import SfumatoError
from sfumato.methods import Method, find, registry
from sfumato.models.cascade import Cascade
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
    net = UNet(replace(config, **fields)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
        parameter.copy_(noise if parameter.dim() > 1 else 1 + 0.1 * noise)
    return replace(denoiser, network=net)


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
        Image.radial_gradient("L").resize((32, 32)).convert("RGB").save(file)
        return file

    @cached_property
    def mask(self) -> Path:
        """The left half may change."""
        file = self.folder / "mask.png"
        mask = Image.new("L", (32, 32))
        mask.paste(255, (0, 0, 16, 32))
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

    def method(self, name: str) -> Method:
        """The method as it acts on a short run."""
        made = SETTINGS[name](self)
        return find(name)(**made)  # type: ignore[no-any-return, call-arg]

    def walked(self, *names: str) -> torch.Tensor:
        """The last state of the methods together, in this order."""
        steps = None if "upscale" in names else 2  # of the base, which that leaves out
        process: Any = self.model.process(PROMPT, steps=steps)
        for name in names:
            process = process | self.method(name)
        if isinstance(process, Cascade) and "upscale" not in names:
            process = process.base
        with torch.no_grad():
            *_, last = process.steps(seed=0)
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
    "cfg": lambda t: {"scale": 2.0},
    "classifier": lambda t: {"target": "flat"},
    "clip_guidance": lambda t: {},
    "dense_diffusion": lambda t: {"regions": ("red apple=0,0,0.5,1",)},
    "diffstyler": lambda t: {**start(t), "art": str(t.adapter)},
    "diffuseit": lambda t: {**start(t), "text": "ink drawing", "repeats": 1, "limit": 0},
    "gradient": lambda t: {"fraction": 0.2},
    "fast": lambda t: {},
    "ilvr": lambda t: {**start(t), "factor": 4},
    "inpaint": lambda t: {**start(t), "mask": str(t.mask)},
    "instruction": lambda t: {"weight": 10.0, "cutouts": 1},
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
"""Methods of which a run needs nothing that is not here; the others are said to be left out."""
LEFT_OUT = {
    "aesthetic": "a file of weights that is not bundled",
    "asyrp": "a shift that its tuner learned",
    "boundary_diffusion": "a plane that its tuner fitted",
    "controlnet": "a second network that its tuner taught",
    "ip_adapter": "an adapter that its tuner taught",
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
composed in both orders and walked for two steps on tiny networks. All run, and give the same bits
in either order, except

"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder))
        refused = {(one, other): why for one, other, why in table.pairs() if why}
        FILE.write_text(text(refused, table.names), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    sys.exit(main())
