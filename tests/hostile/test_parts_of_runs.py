"""Values of wrong kinds in processes, searches, sheets, and in the small files of methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import Table, named
from sfumato.images import Picture
from sfumato.measure import auto
from sfumato.methods.common.weights import opened
from sfumato.methods.common.words import factors
from sfumato.models.devices import choose
from sfumato.models.files.cards import Card
from sfumato.models.files.configs import check_autoencoder
from sfumato.models.files.learned_words import words_of
from sfumato.models.loaders import diffusers
from sfumato.nn.control import Control
from sfumato.nn.unet import UNetConfig
from sfumato.train.config import parse
from sfumato.train.data.captions import Scene, Thing, Wording, caption
from sfumato.train.data.store import Concept
from sfumato.train.networks import described
from sfumato.train.objective import Objective, check_bound
from sfumato.train.subject.class_pictures import Wanted
from sfumato.train.tuners.dreambooth import DreamBooth

PICTURE = PIL.Image.new("RGB", (32, 32), "red")


@cache
def nothing() -> Picture:
    return Picture.of(PIL.Image.new("RGB", (0, 8)))


def loaded() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def short(**values: Any) -> Any:
    return loaded().process("red apple", **{"steps": 2, "stages": 1, **values})


def based(**values: Any) -> Any:
    return short().based(**values).plan()


def searched(**values: Any) -> Any:
    return auto(short() | sf.SDEdit(PICTURE, t0=0.5), **{"seeds": 1, "probes": 1, **values})


class Odd:
    def __len__(self) -> int:
        return -1


VALUES: dict[str, tuple[Callable[[], Any], str]] = {
    "methods": (lambda: based(methods=5), "methods = 5: give a tuple"),
    "a method": (lambda: based(methods=(5,)), "methods = 5"),
    "denoiser": (lambda: based(denoiser={"a": 1}), "denoiser = "),
    "shape": (lambda: based(shape=np.array(2)), "shape = array"),
    "side": (lambda: based(shape=("a", 32, 32)), "shape[0] = 'a'"),
    "guides": (lambda: based(guides=True), "guides = True: give a tuple"),
    "a guide": (lambda: short().add(guides=[5]), "guides = 5"),
    "a tap": (lambda: short().add(taps=["x"]), "taps = 'x'"),
    "a branch": (lambda: short().add(positives=[5]), "positives = 5"),
    "start": (lambda: based(start=float("nan")), "start = nan"),
    "a start's class": (lambda: based(start=sf.SDEdit), "is a class, not a value"),
    "canvas": (lambda: based(canvas=Odd()), "canvas = "),
    "device": (lambda: based(device=5), "device = 5: give one such as cpu"),
    "device's name": (lambda: based(device="range(0, 3)"), "device = 'range(0, 3)'"),
    "space": (lambda: based(space=torch.ones(2)), "space = tensor"),
    "cond": (lambda: based(cond={"a": 1}), "cond = {'a': 1}"),
    "prompts": (lambda: based(prompts="a"), "prompts = 'a': give a tuple"),
    "a network": (lambda: sf.Denoiser(None, named("linear")), "network None: cannot be called"),
    "a schedule": (lambda: sf.Denoiser(len, "linear"), "schedule 'linear': is none"),
    "a kind": (lambda: sf.Denoiser(len, named("linear"), kind="evil"), "kind 'evil': give one of"),
    "edm's variance": (
        lambda: sf.Denoiser(len, named("linear"), kind="edm", learned_range=True),
        "kind edm: has no learned variance",
    ),
    "pnginfo": (
        lambda: Picture.of(PICTURE, recipe=sf.Recipe("x")).save("a.png", pnginfo=5),
        "pnginfo 5: give a PngInfo",
    ),
    "eta": (lambda: sf.DPMpp2M(eta=torch.ones(2)), "eta tensor"),
    "table": (lambda: named("linear", 0), "schedule: steps = 0"),
    "large table": (lambda: named("linear", 10**9), "schedule: steps = 1000000000"),
    "no name": (lambda: named(None), "schedule 'None': unknown"),
    "state": (
        lambda: list(short().steps(torch.zeros(1, 3, 32, 32, device="meta"))),
        "x: got shape (1, 3, 32, 32)",
    ),
    "texts": (lambda: loaded().encode(b"x"), "texts b'x': give a list of texts"),
    "a text": (lambda: loaded().encode("apple"), "texts 'apple': give a list of texts"),
    "no texts": (lambda: loaded().encode(None), "texts None: give a list of texts"),
    "no pixels": (lambda: nothing().save("none.png"), "none.png: 0x8 has no pixels to save"),
    "title": (lambda: sf.sheet([PICTURE], title=torch.ones(2)), "sheet: title tensor"),
    "sweep": (lambda: sf.sweep([1], "cfg.scale=1,2", "s"), "process [1]: is none"),
    "between": (lambda: searched(between="x"), "auto: between 'x': give two numbers"),
    "one end": (lambda: searched(between=(0.1,)), "auto: between (0.1,): give two numbers"),
    "swapped": (lambda: searched(between=(0.9, 0.1)), "the lower one first"),
    "say": (lambda: searched(say=5), "auto: say 5: give a function"),
    "what is searched": (lambda: searched(name=None), "auto: None: give METHOD.FIELD"),
    "probes": (lambda: searched(probes=10**9), "auto: probes = 1000000000"),
    "target": (lambda: searched(target=float("nan")), "auto: target = nan"),
    "progress": (lambda: short().sample(0, progress=[1]), "progress = [1]: give a function"),
    "a class": (lambda: short().sample(0, progress=int), "progress = <class 'int'>: give a"),
    "rows": (lambda: list(short(n=2).steps(torch.zeros(3, 3, 32, 32))), "x: has 3 rows for n = 2"),
    "betas": (lambda: Table.from_betas(["x"]), "beta = 'x': must be a finite number"),
    "no betas": (lambda: Table.from_betas(None), "betas = None: give numbers"),
    "layout": (
        lambda: sf.DenseDiffusion(regions=("apple=0,0,1,1",), layout=PICTURE),
        "layout does nothing, since no region has a colour of it",
    ),
    "bands": (
        lambda: described(UNetConfig, {"bands": {"low": -1.0}}),
        "model.network.low = -1.0: must be above 0",
    ),
    "weights twice": (lambda: factors("m", "apple=2, apple=3"), "'apple' is there twice"),
    "weights nan": (lambda: factors("m", "apple=nan"), "m: weights apple=nan"),
    "weights huge": (lambda: factors("m", "apple=1e30"), "must be -1,000 to 1,000"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_of_another_kind_is_one_line(case: str) -> None:
    make, message = VALUES[case]
    with pytest.raises(SfumatoError) as error:
        make()
    assert message in str(error.value)


def written(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def control(**changed: Tensor) -> dict[str, Tensor]:
    network: Any = loaded().denoiser.network
    return {**Control.copy_of(network).state_dict(), **changed}


def planes(**changed: Tensor) -> dict[str, Tensor]:
    numbers = {"x.offset": torch.tensor(0.0), "x.spread": torch.tensor(1.0)}
    return {"x.normal": torch.ones(3, 32, 32), "t": torch.tensor(0.5), **numbers, **changed}


CONTROLS: dict[str, Tensor] = {
    "five channels": torch.ones(16, 5, 3, 3),
    "no channels": torch.ones(16, 0, 3, 3),
    "many channels": torch.ones(16, 10_000, 3, 3),
}


@pytest.mark.parametrize("case", CONTROLS)
def test_a_control_of_other_hints_is_one_line(case: str, tmp_path: Path) -> None:
    file = written(control(**{"hint.0.weight": CONTROLS[case]}), tmp_path / "c.safetensors")
    with pytest.raises(SfumatoError, match=r"c\.safetensors: reads hints of .* channels"):
        (short() | sf.ControlNet(PICTURE, file)).sample()


PLANES: dict[str, dict[str, Tensor]] = {
    "three offsets": {"x.offset": torch.ones(3)},
    "no spread": {"x.spread": torch.ones(0)},
    "a complex offset": {"x.offset": torch.tensor(1j)},
    "whole numbers": {"x.normal": torch.ones(3, 32, 32, dtype=torch.int64)},
    "a flat normal": {"x.normal": torch.ones(32, 32)},
    "a complex level": {"t": torch.tensor(0.5 + 0j)},
}


@pytest.mark.parametrize("case", PLANES)
def test_planes_of_other_forms_are_one_line(case: str, tmp_path: Path) -> None:
    file = written(planes(**PLANES[case]), tmp_path / "b.safetensors")
    with pytest.raises(SfumatoError, match=r"b\.safetensors: (holds no plane|does not say)"):
        (short() | sf.BoundaryDiffusion(file, spaces="x")).sample()


WORDS: dict[str, tuple[dict[str, Tensor], str]] = {
    "nan": ({"<a>": torch.full((32,), float("nan"))}, "<a> is not of finite numbers"),
    "whole numbers": ({"<a>": torch.ones(32, dtype=torch.int64)}, "<a> is not of finite numbers"),
    "no name": ({"": torch.ones(32)}, "'' is no word"),
    "a line": ({"a\nb": torch.ones(32)}, "is no word"),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_learned_word_is_finite_and_has_a_name(case: str) -> None:
    tensors, message = WORDS[case]
    with pytest.raises(SfumatoError) as error:
        words_of(tensors, Path("a.safetensors"))
    assert message in str(error.value)


def test_an_image_prompt_of_single_numbers_is_one_line(tmp_path: Path) -> None:
    tensors = {name: torch.tensor(1.0) for name in ("image_proj.proj.weight",
               "image_proj.norm.weight", "ip_adapter.0.kv.weight")}  # fmt: skip
    file = written(tensors, tmp_path / "p.safetensors")
    with pytest.raises(SfumatoError, match=r"p\.safetensors: is for Stable Diffusion's"):
        (short() | sf.IPAdapter(PICTURE, file)).sample()


def test_small_numbers_of_8_bits_are_looked_at(tmp_path: Path) -> None:
    file = written({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "a.safetensors")
    assert opened(str(file))[0]["a"].dtype == torch.float8_e4m3fn


def test_what_cannot_be_taught_is_said_before_class_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(Wanted, "pictures", lambda self: pytest.fail("class pictures were made"))
    adapter = {"rank": 2, "targets": ["conv", "evil"]}
    tables = {"subject": {"noun": "dog"}, "adapter": adapter}
    made = parse({"name": "x", "tuner": "dreambooth", **tables})
    with pytest.raises(SfumatoError, match="no layer ends in evil"):
        DreamBooth(made, tmp_path, tmp_path / "run", "cpu")


def test_a_bound_needs_a_learned_variance() -> None:
    plain = sf.Denoiser(len, named("linear"))
    with pytest.raises(SfumatoError, match=r"objective\.vb: weighs a learned variance"):
        check_bound(Objective(vb=1.0), plain)
    check_bound(Objective(vb=1.0), sf.Denoiser(len, named("linear"), learned_range=True))


def test_a_pipeline_of_no_known_class_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "os.system"}')
    with caplog.at_level("WARNING", "sfumato"), pytest.raises(SfumatoError, match="not supported"):
        diffusers.load("x", tmp_path, choose("cpu"))
    assert "'os.system' is not known" in caplog.text


def test_a_caption_may_have_no_words() -> None:
    scene = Scene((Thing(Concept("a.png", ""), "red"),), "")
    assert caption(scene, Wording(empty=0, nonsense=0), ("a",), Random(0)) == "red"


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    """What a model keeps beside it goes by the file, not by its name alone."""
    model, file = loaded(), tmp_path / "c.safetensors"
    written(control(), file)
    first = model.control(str(file))
    assert model.control(str(file)) is first
    written(control(**{"hint.0.bias": torch.ones(16)}), file)
    second = model.control(str(file))
    assert second.origin.sha256 != first.origin.sha256
    assert sum(key[:2] == ("control", str(file)) for key in model.memo) == 1
    file.write_text("torn")
    with pytest.raises(SfumatoError):
        model.control(str(file))


def test_a_card_is_no_larger_than_it_says() -> None:
    folder = loaded().folder
    assert folder is not None
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="must be at most maximum"):
        Card.model_validate_json(json.dumps({**card, "native": [30_000, 30_000]}))


@pytest.mark.parametrize("field", ["up_block_types", "down_block_types", "block_out_channels"])
def test_an_autoencoder_has_as_many_of_each(field: str, tmp_path: Path) -> None:
    kinds: dict[str, list[Any]] = {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [8, 8],
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**kinds, field: kinds[field][:1]}))
    with pytest.raises(SfumatoError, match="must have as many entries each"):
        check_autoencoder(file)
