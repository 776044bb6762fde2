"""Every method on tiny flow models: it runs, or one line says why it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfumato as sf
from helpers import pipelines
from helpers.clips import clip
from helpers.families import bundled, family
from helpers.pictures import mask_of, photo
from sfumato import methods
from sfumato.core.errors import SfumatoError
from sfumato.nn.control import Control
from sfumato.nn.image_prompt import ImagePrompt
from sfumato.nn.vgg import VGG19

FAMILIES = ("sd3", "flux-dev", "flux-schnell", "flux-fill", "flux-kontext", "flux2", "zimage",
            "qwen", "sana", "sana-sprint")  # fmt: skip
BOX = (8, 8, 24, 32)
INSIDE = "lets nothing act inside it"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What methods are lent: a CLIP, features, and weights of the bundled model."""
    folder = tmp_path_factory.mktemp("lent")
    clip(folder / "clip")
    torch.save(pipelines.scrambled(VGG19((4,) * 16), 3).state_dict(), folder / "vgg.pth")
    model: Any = bundled()
    network: Any = model.denoiser.network
    own: dict[str, dict[str, torch.Tensor]] = {
        "asyrp": {"shift": torch.ones(network.config.widths[-1], 1, 1)},
        "boundary": {
            "t": torch.tensor(0.6), "h.normal": torch.ones(network.config.widths[-1], 4, 4),
            "h.offset": torch.tensor(0.7), "h.spread": torch.tensor(3.0),
        },
        "control": pipelines.scrambled(Control.copy_of(network), 1).state_dict(),
        "prompt": pipelines.scrambled(
            ImagePrompt.beside(network, model.clip().text(["a"]).shape[-1]), 2
        ).state_dict(),
    }  # fmt: skip
    for name, weights in own.items():
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / f"{name}.safetensors")
    return folder


def edit(*more: Any) -> list[Any]:
    return [sf.SDEdit(photo(), t0=0.5), *more]


RUNS: dict[str, Any] = {
    "cfg": lambda files: [sf.CFG(2.0, rescale=0.3)],
    "clip_guidance": lambda files: [sf.CLIPGuidance(noised=False, clip=str(files / "clip"))],
    "diffstyler": lambda files: [sf.DiffStyler(photo(), art="none", inversion="ddim")],
    "fast": lambda files: [sf.CFG(2.0), sf.Fast("low")],
    "flow_edit": lambda files: [sf.FlowEdit(photo(), source="a dog")],
    "gradient": lambda files: [sf.TotalVariation(1.0), sf.Gradient(0.1)],
    "ilvr": lambda files: [sf.ILVR(photo(), factor=8)],
    "inpaint": lambda files: [sf.Inpaint(photo(), mask=mask_of(BOX))],
    "instruction": lambda files: edit(sf.Instruction(500.0, clip=str(files / "clip"))),
    "low_pass": lambda files: edit(sf.LowPass(5.0, factor=8)),
    "null_text": lambda files: [sf.NullText(photo(), inner=1), sf.CFG(2.0)],
    "patch_nce": lambda files: edit(sf.PatchNCE(300.0, features=str(files / "vgg.pth"))),
    "perceptual": lambda files: edit(sf.Perceptual(3000.0, features=str(files / "vgg.pth"))),
    "rf_inversion": lambda files: [sf.RFInversion(photo())],
    "sdedit": lambda files: [sf.SDEdit(photo(), t0=0.5, mask=mask_of(BOX))],
    "sdg": lambda files: [sf.SDG(photo(), weight=2.0, noised=False, clip=str(files / "clip"))],
    "stego": lambda files: [sf.Stego("at noon", key="elm", check=False)],
    "temperature": lambda files: [sf.Temperature(0.9)],
    "total_variation": lambda files: [sf.TotalVariation(1.0)],
}
REFUSED: dict[str, tuple[Any, str]] = {
    "aesthetic": (lambda files: [sf.Aesthetic(clip=str(files / "clip"))], "head"),
    "asyrp": (lambda files: [sf.Asyrp(files / "asyrp.safetensors")], INSIDE),
    "boundary_diffusion": (
        lambda files: [sf.BoundaryDiffusion(files / "boundary.safetensors")],
        INSIDE,
    ),
    "classifier": (lambda files: [sf.Classifier("cat")], "this model has none"),
    "controlnet": (lambda files: [sf.ControlNet(photo(), files / "control.safetensors")], "contr"),
    "dense_diffusion": (lambda files: [sf.DenseDiffusion(regions=("red=0,0,0.5,0.5",))], INSIDE),
    "diffuseit": (lambda files: [sf.DiffuseIT(photo(), text="ink", was="x")], "give vit"),
    "distilled_guidance": (lambda files: [sf.DistilledGuidance(2.0)], "take cfg"),
    "ip_adapter": (lambda files: [sf.IPAdapter(photo(), files / "prompt.safetensors")], "has none"),
    "prompt_to_prompt": (lambda files: [sf.PromptToPrompt(("red dog",))], INSIDE),
    "reference": (lambda files: [sf.Reference(photo())], "network reads no picture"),
    "refine": (lambda files: [sf.Refine(score=7.0)], "reads no score; name a refiner"),
    "sine": (lambda files: [sf.SINE(files / "clip", "a dog")], "card.json"),
    "threshold": (lambda files: [sf.Threshold()], "latents, which have no bounds"),
    "upscale": (lambda files: [sf.Upscale(photo())], "needs an upsampler"),
    "variation": (lambda files: [sf.Variation(photo())], "reads no picture's vector"),
}


def process(kind: str, made: list[Any], **given: Any) -> Any:
    size = {} if any(hasattr(one, "image") for one in made) else {"size": 32}
    whole = family(kind).process("red cat", **{"steps": 3, **size, **given})
    for one in made:
        whole = whole | one
    return whole


def test_there_is_a_row_for_every_method() -> None:
    assert {*RUNS, *REFUSED} == {*methods.registry()}
    assert not {*RUNS} & {*REFUSED}


@pytest.mark.parametrize("name", RUNS)
def test_a_method_runs_on_a_flow_and_does_something(files: Path, name: str) -> None:
    made = process("sd3", RUNS[name](files))
    picture = made.sample(3).images[0]
    assert picture.size == (32, 32)
    plain = process("sd3", [sf.SDEdit(photo(), t0=0.5)] if "image" in dir(made.methods[0]) else [])
    assert np.abs(np.asarray(plain.sample(3).images[0], int) - np.asarray(picture)).max() > 0


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_that_a_flow_cannot_have_is_refused_with_the_reason(
    files: Path, name: str
) -> None:
    make, says = REFUSED[name]
    with pytest.raises(SfumatoError, match=says):
        process("sd3", make(files), n=2 if name == "prompt_to_prompt" else 1).sample(3)


def drawn(kind: str, *made: Any, **given: Any) -> torch.Tensor:
    """The last state."""
    with torch.no_grad():
        *_, last = process(kind, list(made), **given).steps(seed=3)
    x: torch.Tensor = last.x
    return x


@pytest.mark.parametrize("kind", FAMILIES)
def test_flow_edit_rf_inversion_and_maps_on_every_family(kind: str) -> None:
    """Each is exact where it says so: wholly held, black, or with nothing to change."""
    known = family(kind).space.encode(
        torch.tensor(np.asarray(photo())).permute(2, 0, 1)[None] / 127.5 - 1
    )
    held = drawn(kind, sf.RFInversion(photo(), eta=1.0, window=(0.0, 1.0)))
    assert float((held - known).abs().max()) < 2e-3
    free = drawn(kind, sf.RFInversion(photo(), eta=0.3))
    assert float((free - known).abs().max()) > 0.01
    result = process(kind, [sf.SDEdit(photo(), t0_map=mask_of(BOX).point(lambda v: v * 3 // 4))])
    picture = np.asarray(result.sample(3).images[0])
    black = np.asarray(mask_of(BOX)) == 0
    assert np.array_equal(picture[black], np.asarray(photo())[black])
    assert not np.array_equal(picture, np.asarray(photo()))
    even = drawn(kind, sf.SDEdit(photo(), t0_map=mask_of((0, 0, 32, 32)).point(lambda v: 102)))
    torch.testing.assert_close(even, drawn(kind, sf.SDEdit(photo(), t0=0.4)))
    edit = sf.FlowEdit(photo(), source="a dog", source_scale=1.0)
    if kind == "sana-sprint":
        with pytest.raises(SfumatoError, match="its solver must draw no noise; take ddim"):
            drawn(kind, edit)
    edited = drawn(kind, edit, solver="ddim")
    assert bool(torch.isfinite(edited).all())
    assert float((edited - known).abs().max()) > 0.01


def test_a_shift_beyond_all_bounds_is_refused_in_a_line() -> None:
    """A picture of a size for which the scheduler's file shifts every time to the noisy end."""
    with pytest.raises(SfumatoError, match="shift is beyond 1e"):
        family("flux-dev").process("red cat", steps=3, size=512).sample(1)
