"""Masks of every form: understood and said, or refused with one line before anything runs."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

import sfumato as sf
from sfumato import images
from sfumato.core import schedule
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.images import open_image

SIDE = 32
HOLE = (10, 8, 22, 20)  # the part to edit: 12 x 12 of 32 x 32


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shape() -> Image.Image:
    """White where an edit is meant."""
    made = Image.new("L", (SIDE, SIDE))
    made.paste(255, HOLE)
    return made


def values(low: int, high: int, mode: str = "L") -> Image.Image:
    return shape().point(lambda v: high if v else low).convert(mode)


def colours(ground: Any, paint: Any) -> Image.Image:
    made = Image.new("RGB", (SIDE, SIDE), ground)
    made.paste(Image.new("RGB", (SIDE, SIDE), paint), (0, 0), shape())
    return made


def layer(paint: Any) -> Image.Image:
    made = Image.new("RGBA", (SIDE, SIDE))
    made.paste((*paint, 255), HOLE)
    return made


def palette(ground: Any, paint: Any) -> Image.Image:
    made = shape().point(lambda v: 1 if v else 0).convert("P")
    made.putpalette([*ground, *paint])
    return made


def wide(low: int, high: int) -> Image.Image:
    where = np.asarray(shape()) > 0
    return Image.fromarray(np.where(where, high, low).astype(np.uint16))


def drawn() -> Image.Image:
    """A red brush whose edge is soft, on black."""
    made = Image.new("RGB", (SIDE * 4, SIDE * 4))
    ImageDraw.Draw(made).rectangle([4 * v for v in HOLE], fill=(230, 20, 20))
    return made.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


UNDERSTOOD: dict[str, bytes] = {
    "usual": file(shape()),
    "rgb": file(shape().convert("RGB")),
    "one bit": file(shape().convert("1")),
    "jpeg": file(shape().filter(ImageFilter.GaussianBlur(0.5)), "JPEG", quality=70),
    "0 and 1": file(values(0, 1)),
    "0 and 1 in three channels": file(values(0, 1, "RGB")),
    "1 and 2": file(values(1, 2)),
    "100 and 255": file(values(100, 255)),
    "0 and 128": file(values(0, 128)),
    "16 bit": file(wide(0, 65535)),
    "16 bit, 0 and 1": file(wide(0, 1)),
    "16 bit, 0 and 255": file(wide(0, 255)),
    "16 bit, 7 and 300": file(wide(7, 300)),
    "16 bit tiff": file(wide(0, 1), "TIFF"),
    "floats": file(values(0, 1).convert("F"), "TIFF"),
    "32 bit": file(values(0, 1).convert("I"), "TIFF"),
    "palette": file(palette((0, 0, 0), (255, 255, 255))),
    "dark palette": file(palette((0, 0, 0), (1, 1, 1))),
    "dark red palette": file(palette((0, 0, 0), (128, 0, 0))),
    "dark blue palette": file(palette((0, 0, 4), (0, 0, 20))),
    "bright of two colours": file(palette((68, 1, 84), (253, 231, 37))),
    "gif": file(palette((0, 0, 0), (1, 1, 1)), "GIF"),
    "red on black": file(colours("black", "red")),
    "blue on black": file(colours("black", "blue")),
    "green on near black": file(colours((3, 2, 5), (0, 255, 0))),
    "red on black, jpeg": file(colours("black", "red"), "JPEG", quality=95, subsampling=0),
    "soft red brush": file(drawn()),
    "white on nothing": file(layer((255, 255, 255))),
    "red on nothing": file(layer((255, 0, 0))),
    "grey on nothing": file(layer((90, 90, 90))),
    "webp": file(shape().convert("RGB"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_mask_of_this_form_marks_the_part(name: str) -> None:
    found = np.asarray(images.open_mask(UNDERSTOOD[name], (SIDE, SIDE))) > 127
    wanted = np.asarray(shape()) > 0
    off = (found != wanted).sum()
    assert off == 0 or (off <= 48 and ("jpeg" in name or "brush" in name)), off
    inverted = images.open_mask(UNDERSTOOD[name], (SIDE, SIDE), invert=True)
    assert np.array_equal(np.asarray(inverted) > 127, ~found)


def photo(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(3)
    things = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    coarse = np.asarray(things.resize((SIDE, SIDE), Image.Resampling.NEAREST))
    made = np.clip(coarse + rng.normal(0, 12, (SIDE, SIDE, 3)), 0, 255)
    return Image.fromarray(made.astype(np.uint8)).convert(mode)


def classes(numbers: int, step: int = 1) -> Image.Image:
    rows = np.arange(SIDE, dtype=np.uint8)[:, None].repeat(SIDE, 1) * numbers // SIDE * step
    return Image.fromarray(rows.astype(np.uint8))


def scribbled() -> Image.Image:
    made = photo()
    made.paste((255, 0, 0), HOLE)
    return made


def holed() -> Image.Image:
    made = photo()
    made.putalpha(shape().point(lambda v: 255 - v))
    return made


def striped(*paints: Any) -> Image.Image:
    made = Image.new("RGB", (SIDE, SIDE))
    for k, paint in enumerate(paints):
        made.paste(paint, (0, 6 * k, SIDE, 6 * k + 5))
    return made


REFUSED: dict[str, tuple[Image.Image, str]] = {
    "photo": (photo(), "photo"),
    "grey photo": (photo("L"), "photo"),
    "scribble on a photo": (scribbled(), "strokes"),
    "photo with a hole": (holed(), "alpha_mask"),
    "one grey": (Image.new("L", (SIDE, SIDE), 128), "one grey"),
    "ones": (Image.new("L", (SIDE, SIDE), 1), "one grey"),
    "class numbers": (classes(5), "end at 4 of 255"),
    "class numbers in steps": (classes(6, 10), "end at 50 of 255"),
    "wide class numbers": (
        Image.fromarray(np.asarray(classes(5)).astype(np.uint16)),
        "end at 4 of 255",
    ),
    "two paints": (striped("red", "blue"), "3 colours"),
    "red and white": (striped("red", "white"), "3 colours"),
    "red on white": (colours("white", "red"), "2 colours"),
    "red on blue": (colours("blue", "red"), "2 colours"),
    "one colour": (Image.new("RGB", (SIDE, SIDE), "red"), "one colour everywhere"),
    "black on nothing": (layer((0, 0, 0)), "black on transparency"),
    "black": (Image.new("L", (SIDE, SIDE)), "black everywhere"),
    "wholly transparent": (Image.new("RGBA", (SIDE, SIDE)), "black everywhere"),
    "another size": (Image.new("L", (SIDE, SIDE - 1), 255), "32x31"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_says_nothing_clear_is_refused(name: str) -> None:
    picture = open_image(Image.new("RGB", (SIDE, SIDE), "grey"))
    mask, word = REFUSED[name]
    with pytest.raises(SfumatoError, match=": ") as caught:
        images.edit_mask(picture, mask=file(mask, "TIFF" if mask.mode == "I;16" else "PNG"))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


SOFT: dict[str, Callable[[], Image.Image]] = {
    "gradient": lambda: Image.linear_gradient("L"),
    "radial": lambda: Image.radial_gradient("L"),
    "brush": lambda: shape().resize((256, 256)).filter(ImageFilter.GaussianBlur(40)),
    "small brush": lambda: shape().resize((64, 64)).filter(ImageFilter.GaussianBlur(3)),
    "tiny brush": lambda: shape().filter(ImageFilter.GaussianBlur(1.5)),
    "half": lambda: values(0, 255).filter(ImageFilter.GaussianBlur(1)).point(lambda v: v // 2),
    "attention": lambda: photo("L").resize((9, 9)).resize((256, 256), Image.Resampling.BICUBIC),
}


@pytest.mark.parametrize("name", SOFT)
def test_soft_masks_stay_as_they_are(name: str) -> None:
    mask = SOFT[name]()
    assert np.array_equal(images.open_mask(file(mask), mask.size), mask)


def test_masks_of_one_value(caplog: pytest.LogCaptureFixture) -> None:
    picture = open_image(Image.new("RGB", (SIDE, SIDE), "grey"))
    white = file(Image.new("L", (SIDE, SIDE), 255))
    with caplog.at_level(logging.INFO, "sfumato"):
        assert images.edit_share(images.edit_mask(picture, mask=white)) == 1
    assert "all of the picture may change" in caplog.text
    with pytest.raises(SfumatoError, match="inverted: nothing may change"):
        images.edit_mask(picture, mask=white, invert=True)
    black = file(Image.new("L", (SIDE, SIDE)))
    assert images.edit_share(images.edit_mask(picture, mask=black, invert=True)) == 1
    faint = open_image(Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 250)))
    with pytest.raises(SfumatoError, match="by more than 2%"):
        images.edit_mask(faint)


def cutout() -> Image.Image:
    """A picture with clear corners, a soft edge and hidden colours."""
    made = photo("RGBA")
    made.putalpha(Image.new("L", (SIDE, SIDE), 255))
    alpha = made.getchannel("A")
    alpha.paste(0, (0, 0, 6, SIDE))
    alpha.paste(120, (6, 0, 7, SIDE))
    made.putalpha(alpha)
    return made


def stroked(ground: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    made = ground.copy()
    made.paste((255, 0, 255, 255)[: len(made.getbands())], box)
    return made


BRUSHES = [(10, 10, 16, 16), (0, 0, 6, 6), (3, 20, 9, 26)]  # on paint, on nothing, across


@pytest.mark.parametrize("box", BRUSHES)
def test_only_what_was_painted_is_marked(box: tuple[int, int, int, int]) -> None:
    picture = cutout()
    clear = Image.new("RGBA", picture.size)
    white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    forms = {
        "layer": stroked(clear, box),
        "copy": stroked(picture, box),
        "flattened": stroked(white.convert("RGB"), box),
        "alpha lost": stroked(picture.convert("RGB"), box),
    }
    for name, painted in forms.items():
        found = images.difference_mask(open_image(picture), open_image(painted))
        assert found.getbbox() == box, name
        assert images.edit_share(found) * SIDE * SIDE == 36, name
    opaque = open_image(picture.convert("RGB"))
    found = images.difference_mask(opaque, open_image(forms["layer"]))
    assert found.getbbox() == box
    with pytest.raises(SfumatoError, match="nothing may change"):
        images.edit_mask(open_image(picture), painted=open_image(clear))


def test_what_a_copy_erased_is_marked() -> None:
    erased = cutout()
    erased.paste((0, 0, 0, 0), HOLE)
    assert images.difference_mask(open_image(cutout()), open_image(erased)).getbbox() == HOLE


def test_a_layer_is_painted_over_the_picture() -> None:
    picture, box = open_image(cutout()), BRUSHES[2]
    over = images.painted_over(picture, open_image(stroked(Image.new("RGBA", picture.size), box)))
    wanted = open_image(stroked(cutout(), box))
    assert np.array_equal(over.alpha, wanted.alpha)
    assert np.array_equal(over, wanted)


STATE = torch.zeros(3, 32, 32)
STATES: dict[str, tuple[Callable[[], Any], str]] = {
    "transparency": (lambda: sf.SDEdit(STATE, alpha_mask=True), "alpha_mask is for pictures"),
    "strokes": (lambda: sf.SDEdit(STATE, strokes=file(shape())), "strokes is for pictures"),
    "grow": (lambda: sf.SDEdit(STATE, mask=STATE[:1] + 1, grow=3), "grow is for pictures"),
    "a picture": (lambda: sf.SDEdit(STATE, mask=file(shape())), "is a picture; a tensor is needed"),
    "of a picture": (lambda: sf.SDEdit(file(shape()), mask=STATE[:1] + 1), "holds a tensor"),
    "size": (lambda: sf.SDEdit(STATE, mask=torch.ones(1, 16, 16)), "is a tensor of 1x16x16"),
    "channels": (lambda: sf.SDEdit(STATE, mask=torch.ones(2, 32, 32)), "is a tensor of 2x32x32"),
    "range": (lambda: sf.SDEdit(STATE, mask=STATE[:1] + 7), "goes from 7 to 7"),
    "zeros": (lambda: sf.SDEdit(STATE, mask=STATE[:1]), "0 everywhere"),
    "not finite": (lambda: sf.SDEdit(STATE * float("nan")), "not finite"),
    "empty": (lambda: sf.SDEdit(torch.zeros(3, 0, 0)), "is empty"),
    "complex": (lambda: sf.SDEdit(STATE.to(torch.complex64)), "complex"),
    "inpaint, none": (lambda: sf.Inpaint(STATE, alpha_mask=True), "alpha_mask is for pictures"),
    "inpaint, margins": (lambda: sf.Inpaint(STATE, extend=(1, 1, 1, 1)), "extend is for pictures"),
    "inpaint, size": (lambda: sf.Inpaint(STATE, mask=torch.ones(1, 9, 9)), "is a tensor of 1x9x9"),
    "margins, inverted": (
        lambda: sf.Inpaint(file(photo()), extend=(1, 1, 1, 1), invert=True),
        "invert does nothing without mask or alpha_mask",
    ),
}


@pytest.fixture(scope="module")
def emoji() -> sf.Model:
    return sf.load("emoji", dtype="float32")


@pytest.mark.parametrize("name", STATES)
def test_masks_of_states(name: str, emoji: sf.Model) -> None:
    make, word = STATES[name]
    with pytest.raises(SfumatoError) as caught:
        (emoji.process("rose", steps=2, stages=1) | make()).sample()
    assert word in str(caught.value)


def test_a_mask_of_a_state_is_taken(emoji: sf.Model) -> None:
    for mask in (torch.ones(1, 32, 32), torch.ones(1, 1, 32, 32), torch.ones(3, 32, 32)):
        made = emoji.process("rose", steps=2, stages=1) | sf.SDEdit(STATE, mask=mask)
        assert made.sample().images[0].size == (32, 32)


# what is in memory already ------------------------------------------------------------------------

HOLED = np.asarray(shape()) > 0
WIDE = ((0, 1), (1, 2), (7, 100), (300, 301), (0, 255), (0, 256), (0, 65535))


@pytest.mark.parametrize("pair", WIDE)
@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_two_numbers_of_a_wide_mode_mean_the_same_in_memory_and_in_a_file(
    mode: str, pair: tuple[int, int]
) -> None:
    if mode == "F" and pair[0] > 255:
        pytest.skip("floats end at 255 in every picture")
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
    values = np.where(HOLED, pair[1], pair[0]).astype(kinds[mode])
    made = Image.frombytes(mode, (SIDE, SIDE), values.tobytes())
    mask = np.asarray(images.open_mask(made, (SIDE, SIDE)))
    assert np.array_equal(mask, HOLED * np.uint8(255))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_wide_greys_are_the_picture_that_they_were(mode: str) -> None:
    """What is kept for a mask changes no bit of a picture."""
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE)).astype(kinds[mode])
    made = Image.frombytes(mode, (SIDE, SIDE), values.tobytes())
    kept = np.asarray(images.ImageInput.of(made).picture())
    assert np.array_equal(kept, np.asarray(open_image(made)))
    assert np.array_equal(kept[..., 0], (values.astype("i8") + 128) // 257)
    made.getexif()[0x0112] = 6
    turned = images.ImageInput.of(made).picture()
    assert np.array_equal(np.asarray(turned), np.asarray(open_image(made)))


MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX")


@pytest.mark.parametrize("mode", MODES)
def test_white_is_white_in_every_mode(mode: str) -> None:
    way = {"LAB": "RGB", "PA": "LA"}.get(mode, "L")
    made = shape().convert(way).convert(mode)
    mask = np.asarray(images.open_mask(made, (SIDE, SIDE)))
    assert np.array_equal(mask > 127, HOLED)


ARRAYS: dict[str, tuple[Any, str]] = {
    "bool": (HOLED, ""),
    "uint8 of 0 and 1": (HOLED.astype("u1"), ""),
    "uint8": (HOLED * np.uint8(255), ""),
    "float16": (HOLED.astype("f2"), ""),
    "float64": (HOLED.astype("f8"), ""),
    "int8": (HOLED.astype("i1"), "is int8; give uint8, bool or floats in"),
    "uint16": (HOLED.astype("u2"), "is uint16; give uint8, bool or floats in"),
    "int64": (HOLED.astype("i8"), "is int64; give uint8, bool or floats in"),
    "complex": (HOLED.astype("c8"), "is complex64; give uint8"),
    "objects": (HOLED.astype("O"), "is object; give uint8"),
    "floats to 255": (HOLED * 255.0, "go from 0 to 255; floats must be in"),
    "nan": (np.where(HOLED, np.nan, 0.0), "floats must be in"),
    "infinite": (np.where(HOLED, np.inf, 0.0), "floats must be in"),
    "negative": (np.where(HOLED, 1.0, -1.0), "go from -1 to 1; floats must be in"),
    "an axis more": (HOLED[..., None], r"32x32x1; give \(H, W\)"),
    "a tensor": (torch.from_numpy(HOLED)[None], "a file, a PIL image or a numpy array"),
    "a list": (HOLED.tolist(), "got list; give a path"),
}


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays_mean_what_they_say_or_are_one_line(name: str) -> None:
    value, line = ARRAYS[name]
    if not line:
        mask = np.asarray(images.open_mask(value, (SIDE, SIDE)))
        assert np.array_equal(mask, HOLED * np.uint8(255))
        return
    with pytest.raises(SfumatoError, match=line) as raised:
        images.open_mask(value, (SIDE, SIDE))
    assert "\n" not in str(raised.value)


NUMBERS = ("bool", "uint8", "int8", "int16", "uint16", "int64", "float16", "bfloat16", "float64")


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("kind", NUMBERS)
def test_tensors_of_any_number_are_the_same_mask(kind: str, invert: bool) -> None:
    def made(mask: Any) -> torch.Tensor:
        network = Denoiser(lambda x, time, cond: 0.5 * x, schedule.named("cosine"), "v")
        process = Process(network, (3, SIDE, SIDE), cond=Cond(), n_steps=2, solver="ddim")
        state = torch.zeros(3, SIDE, SIDE)
        given: torch.Tensor = (
            process | sf.SDEdit(state, mask=mask, invert=invert, t0=0.5)
        ).sample()
        return given

    mask = torch.from_numpy(HOLED)[None]
    assert torch.equal(made(mask.to(getattr(torch, kind))), made(mask.float()))


@pytest.mark.parametrize("tensor", [
    torch.from_numpy(HOLED)[None].float().to_sparse(),
    torch.empty((1, SIDE, SIDE), device="meta"),
    torch.zeros((1, SIDE, SIDE)).to(torch.float8_e4m3fn),
], ids=["sparse", "without data", "of 8 bits"])  # fmt: skip
def test_tensors_that_cannot_be_kept_are_one_line(tensor: torch.Tensor) -> None:
    with pytest.raises(SfumatoError, match=r"cannot be kept .+ give a dense one of float32"):
        sf.SDEdit(torch.zeros(3, SIDE, SIDE), mask=tensor)
