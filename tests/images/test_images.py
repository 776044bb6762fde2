"""Pictures in and out: every mode and mishap of files, work geometry, masks, paste, saving."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFilter

from sfumato import images
from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput, Picture, metadata, open_image, plan_frame
from sfumato.images.stroke import median

RNG = np.random.default_rng(5)
NATIVE: dict[str, Any] = {"native": 32, "multiple": 8, "maximum": 256}
CASCADE: dict[str, Any] = {**NATIVE, "cascade": True, "factor": 4}


def noise(width: int, height: int, channels: int = 3) -> np.ndarray[Any, Any]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(width, height))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def fails(call: Callable[[], Any], *words: str) -> None:
    """Refused with one line that contains the words."""
    with pytest.raises(SfumatoError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@dataclass
class Said:
    """Stands for a recipe."""

    prompt: str = "pomme « rouge » <b> & 山水画 🍎"

    def to_json(self) -> str:
        return json.dumps({"prompt": self.prompt}, ensure_ascii=False)

    def parameters(self) -> str:
        return f"{self.prompt}\nSteps: 30, Seed: 7"


# in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    stored = {  # what a camera held that way writes
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    image.putalpha(Image.fromarray(np.ascontiguousarray(stored)))
    opened = open_image(encoded(image, "PNG", exif=exif))
    assert same(opened.getchannel("G"), upright)
    assert same(opened.alpha, upright)
    in_memory = Image.open(io.BytesIO(encoded(image, "PNG", exif=exif)))
    assert same(open_image(in_memory), opened)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes(mode: str) -> None:
    source = photo(9, 7).filter(ImageFilter.GaussianBlur(2))
    image = (source.convert("RGB") if mode == "P" else source).convert(mode)
    opened = open_image(image)
    assert (opened.mode, opened.alpha) == ("RGB", None)
    assert same(opened, image.convert("RGB"))
    if mode not in ("1", "L", "P"):
        assert np.abs(np.asarray(opened).astype(int) - np.asarray(source)).mean() < 8


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_alpha_is_apart_and_colours_are_straight(mode: str) -> None:
    alpha = Image.fromarray(np.full((4, 4), 128, np.uint8))
    image = Image.new("RGB", (4, 4), (200, 200, 200)).convert("L" if mode[0] == "L" else "RGB")
    if mode == "PA":
        image = Image.merge("PA", (image.quantize(4), alpha))
        image.putpalette([200, 200, 200] * 4)
    else:
        image.putalpha(alpha)
        image = image.convert(mode)
    opened = open_image(image)
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened).astype(int) - 200).max() <= 1
    assert same(opened.alpha, alpha)


def test_opaque_alpha_is_none_and_hidden_colours_stay() -> None:
    assert open_image(photo(3, 3).convert("RGBA")).alpha is None
    hidden = np.array([[[9, 8, 7, 0], [1, 2, 3, 255]]], np.uint8)
    opened = open_image(encoded(Image.fromarray(hidden)))
    assert same(opened, hidden[..., :3])
    assert same(opened.with_alpha(), hidden)


def test_sixteen_bits_and_floats() -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    rounded = np.array([[0, 0, 1, 1, 128, 255]])
    sixteen = Image.fromarray(values)
    for image in (sixteen, Image.open(io.BytesIO(encoded(sixteen))), sixteen.convert("I")):
        assert same(open_image(image).getchannel("R"), rounded)
    big = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    assert same(open_image(big).getchannel("R"), rounded)
    assert same(open_image(Image.fromarray(np.array([[3, 250]], "i4"))).getchannel("R"), [[3, 250]])
    floats = np.array([[0, 0.5, 1]], "f4")
    assert same(open_image(Image.fromarray(floats)).getchannel("R"), [[0, 128, 255]])
    assert same(open_image(Image.fromarray(floats * 300)).getchannel("R"), [[0, 150, 255]])


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (Image.fromarray(np.array([[5, 9]], np.uint8)), 9),
        (Image.fromarray(np.array([[500, 900]], np.uint16)), 900),
        (Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), (4, 5, 6)),
        (Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), 1),
    ],
)
def test_colour_key_is_alpha(image: Image.Image, key: Any) -> None:
    assert same(open_image(encoded(image, transparency=key)).alpha, [[255, 0]])


def test_palette_with_transparency() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    opened = open_image(encoded(image, transparency=b"\xff\x80\x00"))
    assert same(opened, [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert same(opened.alpha, [[255, 128, 0]])
    assert same(open_image(encoded(image, "GIF", transparency=1)).alpha, [[255, 0, 255]])


def test_cmyk_jpeg_and_first_frame() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    r, g, b = np.asarray(open_image(encoded(cyan, "JPEG")))[8, 8]
    assert r < 10
    assert min(g, b) > 245
    frames = [Image.new("RGB", (4, 4), name) for name in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(moving).getpixel((0, 0)) == (255, 0, 0)


def matrix_profile(swapped: bool) -> bytes:
    """An sRGB-like profile under another name, with red and green primaries swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    place = {}
    for k in range(struct.unpack(">I", data[128:132])[0]):
        tag, offset, size = struct.unpack(">4sII", data[132 + 12 * k : 144 + 12 * k])
        place[tag] = slice(offset, offset + size)
    if swapped:
        red = bytes(data[place[b"rXYZ"]])
        data[place[b"rXYZ"]] = data[place[b"gXYZ"]]
        data[place[b"gXYZ"]] = red
    return bytes(data).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def test_colour_profile_is_converted() -> None:
    image = photo(8, 8)
    tagged = encoded(image, icc_profile=matrix_profile(swapped=True))
    r, g, b = image.split()
    apart = np.asarray(open_image(tagged)).astype(int) - np.asarray(Image.merge("RGB", (g, r, b)))
    assert np.abs(apart).max() <= 2
    assert "icc_profile" not in open_image(tagged).info
    grey = encoded(image.convert("L"), icc_profile=matrix_profile(swapped=False))
    with warnings.catch_warnings():  # an RGB profile fits a grey picture
        warnings.simplefilter("error")
        assert (
            np.abs(np.asarray(open_image(grey)).astype(int)[..., 0] - image.convert("L")).max() < 3
        )
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert same(open_image(encoded(image, icc_profile=plain)), image)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for broken in (b"not a profile at all", lab):
        with pytest.warns(UserWarning, match="colour profile was ignored"):
            assert same(open_image(encoded(image, icc_profile=broken)), image)


def test_bad_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "note.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(encoded(photo(64, 64))[:4000])
    (tmp_path / "cut.jpg").write_bytes(encoded(photo(64, 64), "JPEG")[:900])
    fails(lambda: open_image(tmp_path / "none.png"), "none.png", "no such file")
    fails(lambda: open_image(str(tmp_path)), "is a folder")
    fails(lambda: open_image(tmp_path / "note.png"), "note.png", "not a picture")
    fails(lambda: open_image(tmp_path / "empty.png"), "is empty")
    fails(lambda: open_image(tmp_path / "cut.png"), "cut.png", "damaged or cut short")
    fails(lambda: open_image(tmp_path / "cut.jpg"), "cut.jpg", "damaged or cut short")
    fails(lambda: open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not a picture")
    fails(lambda: open_image(object()), "object")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for side in (40, 400):  # PIL warns of the first and raises at the second
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            big = encoded(Image.new("L", (side, side)))
            fails(lambda big=big: open_image(big), "more than 1,000 pixels")


def test_text_bomb_in_png_is_refused() -> None:
    data = encoded(photo(4, 4))
    body = b"zTXt" + b"k\0\0" + zlib.compress(bytes(1 << 22))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    fails(lambda: open_image(data[:33] + chunk + data[33:]), "damaged")


def test_input_reads_at_once_and_knows_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(first := encoded(photo(5, 5)))
    given = ImageInput.of(path)
    path.write_bytes(encoded(photo(5, 5)))
    assert given.data == first
    assert given.name == "a.png"
    assert given.sha256 == hashlib.sha256(first).hexdigest()
    assert given.picture().sha256 == given.sha256
    assert given == ImageInput.of(first)
    assert len({given, ImageInput.of(first), ImageInput.of(path)}) == 2
    assert pickle.loads(pickle.dumps(given)) == given
    given.picture().paste((0, 0, 0), (0, 0, 5, 5))
    assert same(given.picture(), Image.open(io.BytesIO(first)))
    assert ImageInput.of(first, r"C:\home\me\b.png").name == "b.png"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays(channels: int) -> None:
    array = noise(6, 4, channels)
    opened = open_image(array)
    whole = array[..., None].repeat(3, 2) if channels == 1 else array
    assert same(opened.with_alpha(), whole)
    assert same(open_image(array / 255.0), opened)
    assert same(open_image(array.swapaxes(0, 1)).size, (4, 6))
    fails(lambda: open_image(array.astype("i8")), "int64")
    fails(lambda: open_image(array / 127.5 - 1), "[0, 1]")
    fails(lambda: open_image(np.full((2, 2), np.nan)), "nan")
    fails(lambda: open_image(noise(2, 2, 2)), "2x2x2")


def test_bool_array_is_a_mask() -> None:
    assert same(images.open_mask(np.eye(3, dtype=bool), (3, 3)), np.eye(3) * 255)


def test_tensors_stay_states(tmp_path: Path) -> None:
    state = torch.randn(3, 8, 8, dtype=torch.float64)
    given = ImageInput.of(state)
    assert given.is_tensor
    assert torch.equal(given.tensor(), state)
    assert torch.equal(ImageInput.of(state.bfloat16()).tensor(), state.bfloat16().float())
    fails(given.picture, "tensor")
    fails(ImageInput.of(photo(2, 2)).tensor, "picture")
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    fails(ImageInput.of(tmp_path / "evil.npy").tensor, "evil.npy")


def test_field_of_a_pydantic_class(tmp_path: Path) -> None:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.dataclasses import dataclass as pydantic_dataclass

    @pydantic_dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
    class Edit:
        image: images.Image
        mask: images.Image | None = None

    path = tmp_path / "a.png"
    path.write_bytes(data := encoded(photo(4, 4)))
    edit: Any = Edit(str(path))  # type: ignore[arg-type]
    assert edit == Edit(data)  # type: ignore[arg-type]
    assert images.inputs_of(edit) == [edit.image]
    named = {"sha256": hashlib.sha256(data).hexdigest(), "name": "a.png"}
    adapter = TypeAdapter(Edit)
    assert adapter.dump_python(edit, mode="json") == {"image": named, "mask": None}
    schema = adapter.json_schema()["properties"]["image"]
    assert (schema["type"], schema["format"]) == ("object", "image")
    fails(lambda: adapter.validate_python({"image": named}), "a.png", named["sha256"][:12])
    token = images.resolver.set(lambda digest, name: data)
    try:
        assert adapter.validate_json(json.dumps({"image": named})) == edit
        fails(lambda: adapter.validate_python({"image": {"sha256": "0" * 64}}), "was changed")
    finally:
        images.resolver.reset(token)
    fails(lambda: adapter.validate_python({"image": {"sha256": "../secret"}}), "64 hexadecimal")
    fails(lambda: adapter.validate_json(json.dumps({"image": str(path)})), "sha256")
    closed = {"files": False}
    fails(lambda: adapter.validate_python({"image": str(path)}, context=closed), "sha256")


# frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "scaled", "work"),
    [
        ((4032, 3024), (37, 28), (40, 32)),
        ((3000, 2000), (39, 26), (40, 32)),
        ((61, 47), (36, 28), (40, 32)),
        ((128, 128), (32, 32), (32, 32)),
        ((1, 1), (32, 32), (32, 32)),
        ((1000, 1), (256, 1), (256, 8)),
    ],
)
def test_cascade_frames(picture: Any, scaled: Any, work: Any) -> None:
    frame = plan_frame(picture, **CASCADE)
    assert (frame.scaled, frame.work, frame.target) == (scaled, work, picture)
    assert frame.offset == ((work[0] - scaled[0]) // 2, (work[1] - scaled[1]) // 2)


def test_frame_note_is_the_line_of_the_design() -> None:
    frame = plan_frame((4032, 3024), **CASCADE)
    assert frame.note == "work size: 4032x3024 -> 37x28, padded to 40x32; result 4032x3024"
    assert plan_frame((32, 40), **NATIVE).note == ""
    assert plan_frame(None, **CASCADE).note == ""


def test_model_without_upsamplers_keeps_sizes_up_to_one_and_a_half() -> None:
    assert plan_frame((48, 30), **NATIVE).scaled == (48, 30)
    assert plan_frame((49, 49), **NATIVE).scaled == (32, 32)
    assert plan_frame((64, 48), **NATIVE, size="input").scaled == (64, 48)
    fails(lambda: plan_frame((4032, 3024), **NATIVE, size="input"), "4032x3024", "256")


def test_sizes() -> None:
    assert plan_frame((400, 300), **CASCADE, size="native").target == (148, 112)
    assert plan_frame((400, 300), **CASCADE, size=800).target == (800, 600)
    assert plan_frame((400, 300), **CASCADE, size=(201, 151)).target == (201, 151)
    fails(lambda: plan_frame((400, 300), **CASCADE, size=(256, 256)), "stretched", "256x192")
    made = plan_frame(None, **CASCADE)
    assert (made.work, made.target) == ((32, 32), (128, 128))
    assert plan_frame(None, **CASCADE, size=(300, 200)).work == (40, 32)
    assert plan_frame(None, **NATIVE, size=40).work == (40, 40)
    fails(lambda: plan_frame(None, **CASCADE, size="input"), "no input")
    for wrong in (0, -3, "abc", 3.5, True, (1, 2, 3), (5, 0), 10**9, (10**5, 10**5)):
        fails(lambda wrong=wrong: plan_frame((4, 4), **CASCADE, size=wrong), "size")


def test_mask_box() -> None:
    mask = Image.new("L", (200, 100))
    assert images.mask_box(mask, mask.size) is None
    mask.paste(1, (50, 40, 70, 50))
    assert images.mask_box(mask, mask.size) == (40, 30, 80, 60)
    mask.paste(255, (0, 0, 4, 4))
    assert images.mask_box(mask, mask.size) == (0, 0, 105, 85)
    mask.paste(255, (0, 0, 150, 80))
    assert images.mask_box(mask, mask.size) is None


# masks ----------------------------------------------------------------------------------------


def test_masks() -> None:
    given = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    assert same(images.open_mask(given, (3, 1)), given)
    assert same(images.open_mask(given, (3, 1), invert=True), [[255, 155, 0]])
    clear = Image.new("RGBA", (3, 1), (255, 255, 255, 0))
    assert same(images.open_mask(clear, (3, 1)), [[0, 0, 0]])
    fails(lambda: images.open_mask(given, (4, 1)), "3x1", "4x1")
    square = Image.new("L", (64, 64))
    square.paste(255, (20, 20, 45, 45))
    jpeg = images.open_mask(encoded(square.convert("RGB"), "JPEG", quality=80), (64, 64))
    assert np.asarray(jpeg)[:16].max() == 0
    assert (
        images.alpha_mask(open_image(Image.new("RGBA", (1, 1), (9, 9, 9, 55)))).getpixel((0, 0))
        == 200
    )
    fails(lambda: images.alpha_mask(open_image(photo(2, 2))), "transparent")


def test_difference_mask_finds_strokes_after_jpeg() -> None:
    base = open_image(Image.new("RGB", (64, 64), (90, 120, 150)))
    painted = base.copy()
    painted.paste((200, 30, 30), (20, 20, 40, 40))
    painted = open_image(encoded(painted, "JPEG", quality=95, subsampling=0))
    found = np.asarray(images.difference_mask(base, painted))
    assert found[20:40, 20:40].min() == 255
    assert found[:16].max() == found[48:].max() == 0
    layer = Image.new("RGBA", (64, 64))
    layer.paste((200, 30, 30, 255), (1, 1, 3, 3))
    assert images.difference_mask(base, open_image(layer)).getbbox() == (1, 1, 3, 3)
    fails(lambda: images.difference_mask(base, open_image(photo(3, 3))), "64x64", "3x3")


def test_grow_and_feather() -> None:
    mask = Image.fromarray((RNG.random((40, 50)) > 0.98).astype(np.uint8) * 200)
    for pixels in (0, 1, 3, 20):
        wide = mask.filter(ImageFilter.MaxFilter(2 * pixels + 1))
        padded = np.pad(np.asarray(mask), pixels)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1,) * 2)
        grown = images.grow(mask, pixels)
        assert same(grown, windows.max((2, 3)))
        inner = slice(pixels, -pixels or None)
        assert same(np.asarray(grown)[inner, inner], np.asarray(wide)[inner, inner])
    block = Image.new("L", (30, 30))
    block.paste(255, (5, 5, 25, 25))
    soft = np.asarray(images.feather(block, 4))
    assert list(soft[15, 3:11]) == [0, 0, 51, 102, 153, 204, 255, 255]
    assert same(soft > 0, np.asarray(block) > 0)
    assert images.feather(Image.new("L", (9, 9), 255), 4).getextrema() == (255, 255)


def test_edit_mask() -> None:
    picture = open_image(photo(20, 20))
    mask = Image.new("L", (20, 20))
    fails(lambda: images.edit_mask(picture, mask=mask), "black everywhere")
    mask.putpixel((10, 10), 255)
    assert images.edit_mask(picture, mask=mask, grow=2).getbbox() == (8, 8, 13, 13)
    assert images.edit_mask(picture, mask=mask, invert=True).getpixel((10, 10)) == 0
    painted = open_image(picture)
    painted.paste((0, 0, 0), (0, 0, 5, 5))
    assert images.edit_mask(picture, painted=painted).getbbox() == (0, 0, 5, 5)
    fails(lambda: images.edit_mask(picture, painted=picture), "nothing may change")


@pytest.mark.parametrize("target", [None, 90, 20])
def test_every_edited_pixel_is_in_an_edited_cell(target: int | None) -> None:
    for width, height in ((61, 47), (200, 33), (5, 90), (1, 1)):
        edited = RNG.random((height, width)) > 0.995
        edited[RNG.integers(height), RNG.integers(width)] = True
        mask = Image.fromarray(edited.astype(np.uint8))
        frame = plan_frame(mask.size, **CASCADE, size=target)
        cells = images.mask_to_work(mask, frame)[0].numpy()
        assert cells.shape == frame.work[::-1]
        left, top = frame.offset
        for y, x in zip(*edited.nonzero(), strict=True):
            for part in (0.01, 0.99):  # of the pixel
                column = left + int((x + part) * frame.scaled[0] / width)
                row = top + int((y + part) * frame.scaled[1] / height)
                assert cells[row, column] > 0


# work -----------------------------------------------------------------------------------------


def test_to_work_and_back_is_exact_at_the_same_size() -> None:
    picture = open_image(photo(30, 20))
    frame = plan_frame(picture.size, **NATIVE)
    x = images.to_work(picture, frame)
    assert x.shape == (3, 24, 32)
    assert x.dtype == torch.float32
    assert x.min() >= -1
    assert x.max() <= 1
    assert same(images.from_work(x, frame), picture)
    padded = np.pad(np.asarray(picture), ((2, 2), (1, 1), (0, 0)), mode="reflect")
    assert same(images.from_tensor(x), padded)


def test_tiny_pictures_pad_and_come_back() -> None:
    for size in ((1, 1), (2, 1), (1, 3), (3, 50)):
        picture = open_image(Image.new("RGB", size, (10, 200, 30)))
        frame = plan_frame(size, **CASCADE)
        x = images.to_work(picture, frame)
        assert x.shape == (3, frame.work[1], frame.work[0])
        up = x.repeat_interleave(4, 1).repeat_interleave(4, 2)
        assert same(images.from_work(up, frame), picture)


def test_transparent_parts_lie_on_the_background() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = (250, 10, 20, 255)
    picture = open_image(pixels)
    frame = plan_frame(picture.size, **NATIVE)
    x = images.to_work(picture, frame, "#0000ff")
    assert images.from_tensor(x).getpixel((5, 5)) == (250, 10, 20)
    assert images.from_tensor(x).getpixel((25, 5)) == (0, 0, 255)
    small = plan_frame((64, 64), **CASCADE)
    mixed = images.to_work(open_image(Image.fromarray(pixels).resize((64, 64), 0)), small)
    assert mixed[0, 0].unique().numel() == 2  # no fringe of hidden black
    fails(lambda: images.to_work(picture, frame, "mauvish"), "mauvish")


def test_divergence_is_never_a_black_picture() -> None:
    x = torch.zeros(3, 32, 32)
    x[0, 3, 3] = torch.nan
    fails(lambda: images.from_work(x, plan_frame((32, 32), **NATIVE)), "diverged")
    levels = images.from_tensor(torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]).expand(3, 1, 5))
    assert same(levels.getchannel("R"), [[0, 0, 128, 255, 255]])


def test_paste_is_bit_for_bit_outside_the_mask() -> None:
    original = open_image(photo(61, 47))
    edit = Image.new("L", original.size)
    edit.paste(3, (30, 20, 34, 23))
    box = images.mask_box(edit, edit.size)
    frame = plan_frame(original.size, **CASCADE, box=box)
    assert frame.target_box == box == (22, 12, 42, 31)
    x = images.to_work(original, frame).repeat_interleave(4, 1).repeat_interleave(4, 2)
    result = images.from_work(-x, frame)
    made = np.asarray(images.paste(result, original, edit, frame))
    changed = np.asarray(edit) > 0
    assert np.array_equal(made[~changed], np.asarray(original)[~changed])
    assert np.array_equal(made[changed], np.asarray(result)[8:11, 8:12].reshape(-1, 3))
    assert "61x47" in frame.note
    fails(lambda: images.paste(result, open_image(photo(9, 9)), edit, frame), "9x9", "61x47")


def test_paste_puts_alpha_back_and_resizes_all() -> None:
    pixels = noise(40, 30, 4)
    original = open_image(pixels)
    frame = plan_frame(original.size, **CASCADE)
    result = photo(40, 30)
    made = images.paste(result, original, None, frame)
    assert same(made, np.dstack([np.asarray(result), pixels[..., 3]]))
    assert same(images.resized(original, frame), pixels)
    double = plan_frame(original.size, **CASCADE, size=80)
    edit = Image.new("L", (40, 30))
    edit.putpixel((7, 9), 255)
    whole = images.paste(photo(80, 60), original, edit, double)
    kept = images.resized(original, double)
    changed = (np.asarray(whole) != np.asarray(kept)).any(2)
    assert whole.size == (80, 60)
    assert [list(axis) for axis in changed.nonzero()] == [[18, 18, 19, 19], [14, 15, 14, 15]]


def test_filled_parts_become_opaque() -> None:
    pixels = noise(40, 30, 4)
    original = open_image(pixels)
    edit = images.alpha_mask(original)
    frame = plan_frame(original.size, **CASCADE)
    made = np.asarray(images.paste(photo(40, 30), original, edit, frame, opaque=True))
    assert (made[..., 3] == 255).all()
    kept = pixels[..., 3] == 255
    assert np.array_equal(made[kept], pixels[kept])


def test_box_at_another_target_stays_in_register() -> None:
    picture = open_image(photo(200, 100))
    frame = plan_frame((200, 100), **NATIVE, size=80, box=(11, 13, 47, 50))
    assert frame.target_box == (4, 5, 19, 20)
    whole = picture.resize((80, 40), Image.Resampling.BOX).crop(frame.target_box)
    back = images.from_work(images.to_work(picture, frame), frame)
    assert np.abs(np.asarray(back).astype(int) - np.asarray(whole)).max() <= 1


# out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("composite", [False, True])
def test_metadata_round_trip(tmp_path: Path, suffix: str, composite: bool) -> None:
    said = Said(Said().prompt + " \x01 \ud800")
    path = tmp_path / f"bild-ü.{suffix}"
    Picture.of(photo(16, 16), recipe=said, composite=composite).save(path)
    found = images.read_metadata(path)
    assert json.loads(found["sfumato"]) == {"prompt": said.prompt}
    assert found["parameters"] == said.parameters().replace("\ud800", "?")
    kind = b"compositeWithTrained" if composite else b"digitalsourcetype/trained"
    assert kind in path.read_bytes()
    assert images.read_metadata(path.read_bytes()) == found
    assert list(tmp_path.iterdir()) == [path]


def test_recipe_survives_other_programs() -> None:
    packet = metadata.xmp(False).replace(b"rdf:about", b"sfumato:recipe='{}' rdf:about")
    assert images.read_metadata(encoded(photo(4, 4), "JPEG", xmp=packet)) == {"sfumato": "{}"}
    bomb = b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + packet
    assert images.read_metadata(encoded(photo(4, 4), "JPEG", xmp=bomb)) == {}
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "猫 Steps: 3".encode("utf-16-le")
    found = images.read_metadata(encoded(photo(4, 4), "JPEG", exif=exif))
    assert found == {"parameters": "猫 Steps: 3"}


def test_long_recipe_in_jpeg_and_formats_without_text(tmp_path: Path) -> None:
    picture = Picture.of(photo(8, 8), recipe=Said("x" * 70_000))
    with pytest.warns(UserWarning, match="does not fit"):
        picture.save(tmp_path / "a.jpg")
    assert b"trainedAlgorithmicMedia" in (tmp_path / "a.jpg").read_bytes()
    picture.save(tmp_path / "a.png")
    assert len(images.read_metadata(tmp_path / "a.png")["sfumato"]) > 70_000
    with pytest.warns(UserWarning, match="carry no recipe"):
        picture.save(tmp_path / "a.bmp")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    picture = Picture.of(photo(8, 8), recipe=Said())
    picture.save(path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        fails(lambda: Picture.of(photo(8, 8)).save(path), "a.png", "No space left")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with path.open("rb") as reader:  # who reads meanwhile has the old file to its end
        Picture.of(photo(8, 8)).save(path)
        assert reader.read() == before
    picture.save(path)
    fails(lambda: picture.save(tmp_path / "none" / "a.png"), "does not exist")
    fails(lambda: picture.save(tmp_path / "a.xyz"), ".xyz")
    fails(lambda: picture.save(tmp_path / "a.png", "NOPE"), "NOPE")
    fails(lambda: picture.save(tmp_path), "suffix")
    transparent = Picture.of(photo(2, 2).convert("RGBA"))
    fails(lambda: transparent.save(tmp_path / "b.jpg"), "no transparency")
    assert path.read_bytes() == before


def test_picture_carries_on() -> None:
    picture = Picture.of(photo(6, 5), recipe=Said(), alpha=Image.new("L", (6, 5), 9), name="a.png")
    for other in (picture.copy(), pickle.loads(pickle.dumps(picture))):
        assert same(other, picture)
        assert (other.recipe, other.name) == (Said(), "a.png")
        assert same(other.alpha, picture.alpha)
    assert picture.with_alpha().mode == "RGBA"
    assert picture.with_alpha().recipe == Said()
    buffer = io.BytesIO()
    picture.with_alpha().save(buffer, "PNG")
    assert ImageInput.of(picture) == ImageInput.of(buffer.getvalue())
    plain = encoded(Picture.of(photo(3, 3)))
    assert images.read_metadata(plain) == {}


def test_what_a_picture_carries_stays_with_what_is_made_of_it() -> None:
    alpha = Image.new("L", (6, 5), 9)
    picture = Picture.of(
        photo(6, 5), recipe=Said(), alpha=alpha, name="a.png", sha256="0" * 64, composite=True
    )
    for other in (Picture.of(picture), open_image(picture), picture.copy()):
        assert (other.recipe, other.name) == (Said(), "a.png")
        assert (other.sha256, other.composite) == ("0" * 64, True)
        assert same(other.alpha, alpha)
    assert Picture.of(picture, alpha=None).alpha is None
    assert Picture.of(picture.resize((3, 3))).recipe is None
    assert same(open_image(picture.encode("PNG")).alpha, alpha), "save writes alpha"
    fails(lambda: picture.encode("JPEG"), "no transparency")
    fails(lambda: picture.with_alpha().encode("BMP"), "no transparency")


def test_transparent_parts_never_show_what_is_hidden() -> None:
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    for image in (red, Picture.of(red), open_image(red)):
        assert images.flattened(image, "white").getpixel((0, 0)) == (255, 255, 255)
    assert images.sheet([Picture.of(red)], cell=4).convert("RGB").getextrema()[1][0] > 200
    picture, mask = images.extended(open_image(red), (1, 0, 2, 3), "blue")
    assert picture.size == mask.size == (7, 7)
    assert picture.getpixel((0, 0)) == (0, 0, 255), "a margin has the background's colour"
    assert picture.alpha is not None
    assert (picture.alpha.getpixel((0, 0)), picture.alpha.getpixel((1, 0))) == (255, 0)
    assert picture.getpixel((1, 0)) == (255, 0, 0), "what is kept is kept bit for bit"
    plain, _ = images.extended(open_image(photo(4, 4)), (1, 0, 0, 0))
    assert plain.alpha is None
    fails(lambda: images.sheet([red], columns=0), "columns")
    fails(lambda: images.sheet([red] * 6, cell=4096), "more than")


# strokes and sheets ---------------------------------------------------------------------------


def test_median_equals_pil() -> None:
    image = photo(40, 23).filter(ImageFilter.GaussianBlur(1))
    for window in (1, 3, 9, 61):
        assert same(median(image, window), image.filter(ImageFilter.MedianFilter(window)))


def test_strokes() -> None:
    image = photo(64, 48).filter(ImageFilter.GaussianBlur(4))
    painted = images.strokes(image, colors=4)
    by_hand = image.filter(ImageFilter.MedianFilter(5))  # 48 * 23 / 256 = 4.3
    assert same(painted, by_hand.quantize(4, Image.Quantize.MEDIANCUT).convert("RGB"))
    assert images.strokes(photo(3, 3), window=23).size == (3, 3)
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    assert images.strokes(clear).getpixel((4, 4)) == (255, 255, 255)
    for wrong in ({"colors": 0}, {"colors": 300}, {"window": 4}, {"window": 0}):
        fails(lambda wrong=wrong: images.strokes(image, **wrong), *wrong)


def test_sheet() -> None:
    red = Image.new("RGB", (32, 32), "red")
    shown = [red, Image.new("L", (128, 64)), None, photo(700, 500).convert("L"), red]
    page = images.sheet(shown, ["a", "long words " * 20, "", "c", "d"], columns=3, title="T" * 300)
    assert page.mode == "RGB"
    reds = (np.asarray(page) == (255, 0, 0)).all(2)
    assert reds.sum() == 2 * 512 * 512  # enlarged by a whole factor to the largest picture's cell
    margins = np.asarray(page)
    assert (margins[:8] == margins[0, 0]).all()
    assert (margins[:, -8:] == margins[0, 0]).all()
    squares = Image.fromarray(np.indices((32, 32)).sum(0).astype(np.uint8) % 2 * 255)
    inside = np.asarray(images.sheet([squares]))[60:-60, 60:-60]
    assert set(np.unique(inside)) == {0, 255}  # pixels stay squares
    labelled = images.sheet([red] * 4, columns=2, rows=["first", "second"], background="black")
    assert labelled.width > images.sheet([red] * 4, columns=2).width
    fails(lambda: images.sheet([]), "sheet")
    fails(lambda: images.sheet([red], ["a", "b"]), "1 pictures but 2")


def test_import_is_light() -> None:
    code = (
        "import sys, sfumato.images; "
        "print([m for m in ('torch', 'torchvision', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
