"""Outputs, patterns and batch sources of every bad kind: one line, and before any work."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import sfumato as sf
from sfumato import images
from sfumato.cli import compose
from sfumato.images.destination import Destination, bare, unable
from sfumato.images.folders import pictures_in
from sfumato.images.picture import reread
from sfumato.models import batch
from sfumato.models.result import save_new
from sfumato.recipe import Recipe
from sfumato.train import program

LONG = "n" * 252 + ".png"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is called."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was called")

    monkeypatch.setattr(compose.Composed, "sample", never)


REFUSED = [
    ("", "is empty"),
    ("  ", "is empty"),
    ("a\0.png", "null"),
    ("a", "unknown picture suffix ''"),
    ("a.foo", "unknown picture suffix '.foo'"),
    ("a.png ", "unknown picture suffix"),
    ("a.msp", "MSP cannot hold"),
    ("a.xbm", "XBM cannot hold"),
    ("a.palm", "Palm"),
    ("a.bufr", "BUFR cannot hold"),
    ("a.h5", "HDF5 cannot hold"),
    ("a.icns", "ICNS would make it 1024x1024"),
    ("none/a.png", "the folder none does not exist"),
    ("none/", "the folder none does not exist"),
    ("../none/a.png", "does not exist"),
    ("file.txt/a.png", "file.txt is no folder"),
    ("/proc/a.png", "nothing can be written in /proc"),
    ("{seed}/a.png", "the folder 0 does not exist"),
    ("{prompt}/{i}.png", "the folder rose-3d-render does not exist"),
    ("{name}.png", "there is no {name} here; there are {i}, {seed}, {prompt}"),
    ("{index}.png", "there is no {index}"),
    ("{seed:05d}.png", "there is no {seed:05d}"),
    ("{prompt.__class__}.png", "there is no {prompt.__class__}"),
    (LONG, "the name is 256 bytes long"),
    ("각" * 84 + ".png", "the name is 256 bytes long"),
]


@pytest.mark.parametrize(("pattern", "message"), REFUSED)
def test_refused_before_the_work(app: Any, idle: None, pattern: str, message: str) -> None:
    refused(app, pattern, message, "generate", "-p", "rose")


@pytest.mark.parametrize(("pattern", "message"), [("a.msp", "MSP"), (LONG, "256 bytes")])
def test_replays_refuse_alike(app: Any, idle: None, pattern: str, message: str) -> None:
    Path("r.json").write_text(json.dumps({"model": "emoji", "prompt": "rose", "steps": 2}))
    refused(app, pattern, message, "run", "r.json")


def refused(app: Any, pattern: str, message: str, *words: str) -> None:
    Path("file.txt").write_text("")
    before = set(Path().iterdir())
    done = CliRunner().invoke(app, [*words, f"--output={pattern}"])
    assert done.exit_code in (1, 2), done.output
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert set(Path().iterdir()) == before


def test_plans_refuse_what_runs_refuse(app: Any, idle: None) -> None:
    done = CliRunner().invoke(app, ["generate", "-p", "rose", "--plan", "-o", "{seed}/a.png"])
    assert done.exit_code == 1
    assert "does not exist" in done.stderr


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("a.ico", (300, 300), "ICO would make it 256x256"),
        ("a.webp", (20_000, 8), "up to 16383 px a side"),
        ("a.jpg", (70_000, 8), "up to 65500 px a side"),
    ],
)
def test_sizes_that_a_format_lacks(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(sf.SfumatoError, match=message):
        Destination.of(name).check([Path(name)], size=size)


def test_embedded_inputs_fit_or_are_refused(
    app: Any, idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.images.destination.PNG_TEXT", 100_000)
    PIL.Image.effect_noise((400, 400), 90).save("noise.png")
    words = ["sdedit", "noise.png", "--embed", "--size", "native", "-o"]
    for name, room in (
        ("a.png", "PNG take 100,000"),
        ("a.jpg", "JPEG take 65,000"),
        ("a.bmp", "BMP take 0"),
    ):
        assert f"readers of {room} bytes" in CliRunner().invoke(app, [*words, name]).stderr


def test_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"total": 10**9, "free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(sf.SfumatoError, match=r"2 pictures take .* or more, 1,000 bytes are free"):
        Destination.of("a.png").check([Path("a-1.png"), Path("a-2.png")], size=(512, 512))


VALUES = [
    ("../../x", "x"),
    ("/etc/passwd", "etc-passwd"),
    ("a/b", "a-b"),
    ("..\\..\\x", "x"),
    ("C:\\x", "C:-x"),
    (".hidden", "hidden"),
    ("...x", "x"),
    ("a\nb\x00c\x1b[2J", "a-b-c-[2J"),
    ("a\u2028b\u202ec", "a-b-c"),
    ("x.png", "x.png"),
    ("{seed}", "{seed}"),
    ("\ud800x", "x"),
    ("한글 名", "한글 名"),
    ("ordinary name-1", "ordinary name-1"),
]


@pytest.mark.parametrize(("value", "wanted"), VALUES)
def test_values_stay_in_the_folder(value: str, wanted: str) -> None:
    assert bare("name", value) == wanted
    for pattern in ("out/{name}.png", "out/{name}/x.png", "out/a-{name}-{prompt}.png"):
        target = Destination.of(pattern, "name")
        (path,) = target.paths("../../p", 3, [0], name=value)
        assert len(path.parts) == len(Path(pattern).parts)
        assert ".." not in path.parts
        assert path.is_relative_to("out")
        assert target.folder == Path("out")


def test_a_training_recipes_name_stays_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[Path] = []
    monkeypatch.setattr(program, "work", lambda config, data, folder, *_: went.append(folder))
    (recipe,) = (Path(__file__).parents[2] / "recipes").glob("classifier-64.toml")
    text = recipe.read_text(encoding="utf-8")
    given = next(line for line in text.splitlines() if line.startswith("name"))
    Path("r.toml").write_text(text.replace(given, 'name = "../../outside"'))
    with pytest.raises(sf.SfumatoError, match="becomes the name of a file"):
        program.train(Path("r.toml"), Path())
    assert went == []


@pytest.mark.parametrize("value", ["", "..", "/", "../..", "\\", "...", "\x00", " ", "-"])
def test_values_of_which_nothing_is_left(value: str) -> None:
    with pytest.raises(sf.SfumatoError, match="nothing of it can be a file's name"):
        bare("name", value)


def rows_of(text: bytes | str, name: str) -> list[batch.Row]:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    Path(name).write_bytes(data)
    return batch.read_rows(name)


PROMPTS = [
    ("a.csv", "prompt\nrose\n", ["rose"]),
    ("a.csv", "\ufeffprompt\r\nrose\r\n\r\ncat\r\n", ["rose", "cat"]),
    ("a.csv", '\n\nprompt\n"a\nb"\n,\n"c ""d"""\n', ["a\nb", 'c "d"']),
    ("a.csv", 'prompt,seed\n"a, b",1\n', ["a, b"]),
    ("a.csv", " prompt ,seed\nrose,1\n", ["rose"]),
    ("a.csv", f"prompt\n{'x' * 200_000}\n", ["x" * 200_000]),
    ("a.csv", "prompt\nre\u2028d\x0bro\x85se\x1c\n", ["re\u2028d\x0bro\x85se\x1c"]),
    ("a.txt", "\ufeffrose\r\n\r\n  \ncat\rdog", ["rose", "cat", "dog"]),
    ("a.txt", "re\u2028d ro\x85se\x0b\x0cx\n", ["re\u2028d ro\x85se\x0b\x0cx"]),
    ("a.jsonl", '\ufeff{"prompt": "a"}\n\n \r\n{"prompt": "b\\u2028\x85"}', ["a", "b\u2028\x85"]),
]


@pytest.mark.parametrize(("name", "text", "wanted"), PROMPTS)
def test_manifests_are_read_exactly(name: str, text: str, wanted: list[str]) -> None:
    assert [row.values["prompt"] for row in rows_of(text, name)] == wanted


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", 'prompt\n"rose\ncat\n', "a.csv, line 3: is not CSV"),
        ("a.csv", 'prompt\n"rose" red\n', "is not CSV"),
        ("a.csv", "prompt,prompt\na,b\n", "has the column 'prompt' twice"),
        ("a.csv", "prompt\n,\n", "holds no rows"),
        ("a.csv", "prompt\na,b\n", "line 2: has more fields than the header"),
        ("a.csv", "prompt,row\na,²\n", "row = '²' is no whole number"),
        ("a.csv", f"prompt,row\na,{'9' * 5000}\n", "is no whole number"),
        ("a.csv", b"prompt\n\xff\xfe\n", "is not UTF-8"),
        ("a.jsonl", "[1]\n", "a.jsonl, line 1: "),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}\n', "line 1: has 'prompt' twice"),
        ("a.jsonl", '{"prompt": ["a"]}\n', "prompt = ['a'] is neither text nor a number"),
        ("a.jsonl", '{"image": true}\n', "image = True is neither text nor a number"),
        ("a.jsonl", '{"prompt": {}}\n', "prompt = {} is neither text nor a number"),
        ("a.jsonl", '{"source": "/etc/passwd"}\n', "line 1: unknown column 'source'"),
        ("a.jsonl", '{"a":' * 300_000, "a.jsonl, line 1: "),
        ("a.jsonl", '{"prompt": "\\ud800"}\n', "a.jsonl, line 1: "),
        ("a.txt", "\n \n", "holds no rows"),
    ],
)
def test_manifests_that_cannot_be_read(name: str, text: Any, message: str) -> None:
    with pytest.raises(sf.SfumatoError) as caught:
        rows_of(text, name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [None, True, 5, [], {}, np.zeros(3), sf.CFG])
def test_a_picture_is_saved_to_a_path_or_a_file(target: Any) -> None:
    with pytest.raises(sf.SfumatoError, match="give a path or an open binary file"):
        picture().save(target)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "none/x.png"])
def test_a_picture_whose_name_no_file_can_have(name: str) -> None:
    with pytest.raises(sf.SfumatoError, match=r"could not be written|does not exist"):
        picture().save(name)


def test_a_prompt_of_rows_names_what_they_have(app: Any, tmp_path: Path) -> None:
    Path("rows.csv").write_text("prompt,name\na {name},b\n")
    done = CliRunner().invoke(app, ["batch", "generate", "rows.csv", "-p", "{nmae}, red", "-q"])
    assert done.exit_code == 1
    assert "-p: {nmae} stands for nothing of a row; {prompt} and {name} do" in done.stderr
    words = ["batch", "generate", "rows.csv", "-p", "{prompt} {name} {A}", "-q", "--json"]
    made = CliRunner().invoke(app, [*words, "--steps", "1", "--stages", "1", "-o", "x.png"])
    assert made.exit_code == 0, made.stderr
    text = json.loads(images.read_metadata("x.png")["sfumato"])["prompt"]
    assert text.startswith("a {name} b {A}")  # what a row says is no place


def test_hostile_rows_fail_alone(app: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": "rose", "name": "../../outside"},
        {"prompt": "rose", "name": "/etc/absolute"},
        {"prompt": "rose", "name": "n" * 300},
        {"prompt": "rose", "name": ".."},
        {"prompt": "rose", "name": "x", "seed": 1.5},
        {"prompt": "rose", "colour": "red"},
        {"prompt": "rose", "name": "last\n\u2028 one", "cfg.window": [0.1, 0.9]},
    ]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    before = {p for p in tmp_path.rglob("*") if "home" not in p.parts}
    words = ["batch", "generate", "rows.jsonl", "--steps", "2", "--stages", "1"]
    done = CliRunner().invoke(app, [*words, "-o", "out/{name}.png"])
    assert done.exit_code == 1
    assert "internal error" not in done.stderr
    for line, why in ((3, "the name is 304 bytes"), (4, "nothing of it"), (5, "seed = 1.5"),
                      (6, "unknown column 'colour'")):  # fmt: skip
        assert f"rows.jsonl, line {line}: " in done.stderr
        assert why in done.stderr
    made = {p for p in tmp_path.rglob("*") if "home" not in p.parts} - before
    names = ["failed.jsonl", "etc-absolute.png", "last- one.png", "outside.png"]
    assert sorted(p.name for p in made) == sorted(["out", *names])
    assert {p.parent.name for p in made} == {"work", "out"}
    again = CliRunner().invoke(
        app, [*words[:2], "out/failed.jsonl", *words[3:], "-o", "out/{name}.png"]
    )
    assert "0 made, 0 there already, 4 failed" in again.stderr


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> images.Picture:
    """A result: every pixel another colour, with a recipe."""
    image = PIL.Image.effect_noise(size, 90).convert("RGB")
    if mode == "RGBA":
        image.putalpha(PIL.Image.linear_gradient("L").resize(size))
    recipe = Recipe(model="emoji", methods=({"method": "sdedit", "background": "#ff0000"},))
    return images.Picture.of(image, recipe=recipe)


def formats() -> list[str]:
    PIL.Image.init()
    ends = {kind: end for end, kind in reversed(PIL.Image.registered_extensions().items())}
    return sorted(end for kind, end in ends.items() if kind in PIL.Image.SAVE)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("suffix", formats())
def test_every_format_holds_the_recipe_or_says_that_it_does_not(
    suffix: str, mode: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Also: transparency stays, or is laid on the run's background, which is said."""
    try:
        target = Destination.of(f"a{suffix}")
        target.check([Path(f"a{suffix}")], size=(40, 30))
    except sf.SfumatoError as error:
        why = str(error)
    else:
        why = ""
    if why:
        assert any(text in why for text in ("cannot hold", "would make it", "no colours"))
        return
    made = save_new(picture(mode), Path(f"a{suffix}"))
    assert (made.path.name, made.trouble) == (f"a{suffix}", "")
    said = " ".join(str(warning.message) for warning in recwarn)
    data = made.path.read_bytes()
    if "carry no recipe and no mark" not in said:
        found = images.read_metadata(data)
        assert Recipe.from_json(found["sfumato"]) == picture().recipe
        assert found["parameters"] == picture().recipe.parameters()
        assert b"trainedAlgorithmicMedia" in data
    if (shown := reread(io.BytesIO(data), target.kind)) is None:
        return  # such as PDF, which Pillow only writes
    assert shown.size == (40, 30)
    if mode == "RGBA" and "was laid on #ff0000" not in said:
        alpha = shown.convert("RGBA").getchannel("A").getextrema()
        assert alpha[0] < 20
        assert alpha[1] > 235
    elif mode == "RGBA":
        red, green, _ = shown.convert("RGB").resize((40, 15), 4, (0, 0, 40, 2)).getpixel((20, 0))  # type: ignore[misc]
        assert red > 180, "the background, not what was hidden"
        assert green < 80
    assert unable(target.kind, (40, 30)) == ""


def test_folders_name_what_they_leave_out() -> None:
    folder = Path("in")
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jfif", "b.jp2", "c", "d.PNG", "e.picture", ".hidden.png", "f.heic"):
        kind = {"a.jfif": "JPEG", "b.jp2": "JPEG2000"}.get(name, "PNG")
        PIL.Image.new("RGB", (9, 9)).save(folder / name, kind)
    for name in ("notes.md", "d.txt", "x.zip", ".DS_Store"):
        (folder / name).write_text("text")
    found = pictures_in(folder, beside=(".txt",))
    assert [p.name for p in found.pictures] == [
        "a.jfif",
        "b.jp2",
        "c",
        "d.PNG",
        "e.picture",
        "f.heic",
    ]
    assert list(found.others) == [".hidden.png", "notes.md", "sub/", "x.zip"]
    assert found.note == "no pictures, left out: .hidden.png, notes.md, sub/, x.zip"
    assert len(batch.read_rows(folder)) == 6
