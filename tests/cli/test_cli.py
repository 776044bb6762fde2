"""The program: verbs from methods, exit codes, one line for every failure, no torch for help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import sfumato
from helpers.families import bundled, upsampling
from helpers.program import FAST, STROKES, call, fails, home
from sfumato import methods
from sfumato.cli import compose, main, show
from sfumato.cli.verbs import generate
from sfumato.images import read_metadata
from sfumato.recipe import Recipe

__all__ = ["home"]


def test_help_and_method_files_need_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import sfumato, sfumato.core.process, sfumato.images\n"
        "from sfumato.methods import registry\n"
        "assert {'sdedit', 'cfg', 'threshold'} <= set(registry())\n"
        "from sfumato.cli.main import build\n"
        "app = build()\n"
        "for words in ([], ['generate'], ['sdedit'], ['run'], ['doctor']):\n"
        "    try: app([*words, '--help'])\n"
        "    except SystemExit as e: assert e.code == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--t0" in done.stdout
    assert "0<=x<=1" in done.stdout, "ranges are in the help"
    assert "compositing" in done.stdout, "and presets"


def test_stub_is_fresh() -> None:
    folder = Path(__file__).parents[2] / "tools"
    done = subprocess.run(
        [sys.executable, "-c", "import stub; assert stub.FILE.read_text() == stub.text()"],
        cwd=folder,
    )
    assert done.returncode == 0, "run: python tools/stub.py"
    for name in dir(sfumato):
        assert getattr(sfumato, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sfumato.nothing


def test_sdedit_run_and_info(app: Any, tmp_path: Path) -> None:
    source = str(STROKES / "red-apple.png")
    guided = ["--cfg", "2", "--with", "cfg.window=0.1,1"]
    words = ["-p", "red apple", "--t0", "0.4", "-n", "2", "-o", "a.png", "--sheet"]
    done = call(app, "sdedit", source, *words, *guided, *FAST)
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["a-1.png", "a-2.png", "a-1-sheet.png"]
    side = bundled().card.native[0]
    assert f"work size: 256x256 -> {side}x{side}" in done.stderr
    recipe = json.loads(call(app, "info", "a-2.png").stdout)
    assert recipe["methods"][0] | {"t0": 0.4, "mask": None} == recipe["methods"][0]
    assert recipe["methods"][0]["image"]["name"] == "red-apple.png"
    assert recipe["methods"][1]["window"] == [0.1, 1.0]
    assert recipe["run"]["start"]["ratio"] == pytest.approx(0.73787, abs=1e-4)
    done = call(app, "run", "a-2.png", "-o", "again.png")
    assert done.exit_code == 0, done.output
    pictures = [np.asarray(PIL.Image.open(name)) for name in ("a-2.png", "again.png")]
    assert (pictures[0] == pictures[1]).all()


def test_recipe_file_runs(app: Any, tmp_path: Path) -> None:
    recipe = {
        "model": "emoji",
        "prompt": "rose, flat",
        "steps": 2,
        "stages": 1,
        "methods": [{"method": "cfg", "scale": 2}],
    }
    Path("r.json").write_text(json.dumps(recipe))
    done = call(app, "run", "r.json", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert Path(told["paths"][0]).exists()
    assert Recipe.from_data(told["recipe"]).methods[0]["scale"] == 2
    recipe["extra"] = 1
    Path("r.json").write_text(json.dumps(recipe))
    assert "there is no field 'extra'" in fails(app, 1, "run", "r.json")


def test_a_recipe_that_never_ran_runs_through_all_stages(app: Any, tmp_path: Path) -> None:
    Path("r.json").write_text(json.dumps({"model": "emoji", "prompt": "rose", "steps": 2}))
    done = call(app, "run", "r.json", "-o", "a.png")
    assert done.exit_code == 0, done.output
    run = json.loads(call(app, "info", "a.png", "--json").stdout)["run"]
    assert run["calls"] == [2, *upsampling(bundled())]


def test_a_given_default_wins_over_presets_and_recipes(app: Any, tmp_path: Path) -> None:
    rose = str(STROKES / "rose.png")
    words = ["ilvr", rose, "-p", "rose", *FAST]
    done = call(app, *words, "--preset", "paint", "--factor", "8", "-o", "a.png")
    assert done.exit_code == 0, done.output
    assert held("a.png")["factor"] == 8
    assert call(app, *words, "--preset", "paint", "-o", "b.png").exit_code == 0
    assert held("b.png")["factor"] == 16
    assert (
        call(app, "ilvr", rose, "--recipe", "b.png", "--factor", "8", "-o", "c.png").exit_code == 0
    )
    assert held("c.png")["factor"] == 8
    done = call(app, "sdedit", rose, *FAST, "--with", "sdedit.noise=auto", "-o", "d.png")
    assert done.exit_code == 0, "auto is also a name among a field's choices: " + done.output


def held(name: str) -> dict[str, Any]:
    methods = json.loads(read_metadata(Path(name))["sfumato"])["methods"]
    return next(method for method in methods if method["method"] == "ilvr")


def test_names_that_cannot_be_saved_are_refused_before_sampling(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(compose.Composed, "sample", never)
    assert "unknown picture suffix '.foo'" in fails(app, 1, "generate", *FAST, "-o", "a.foo")
    assert "does not exist" in fails(app, 1, "generate", *FAST, "-o", "no/such/x.png")
    (Path("in")).mkdir()
    Path("in/rose.png").write_bytes((STROKES / "rose.png").read_bytes())
    line = fails(app, 1, "batch", "sdedit", "in", *FAST, "-o", "out/{name}")
    assert "unknown picture suffix ''" in line


def test_what_a_file_lacks_is_a_notice(app: Any, tmp_path: Path) -> None:
    words = ["generate", "-p", "rose", *FAST, "-o"]
    done = call(app, *words, "a.bmp")
    assert "a.bmp: BMP files carry no recipe and no mark" in done.stderr
    assert ".py" not in done.stderr
    assert "Warning" not in done.stderr
    for name in ("b.bmp", "b.gif", "b.jpg"):
        done = call(app, *words, name, "--quiet")
        assert (done.exit_code, done.stderr) == (0, "")
    PIL.Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save("clear.png")
    words = ["sdedit", "clear.png", "--t0", "0", "--background", "#00ff00", *FAST, "-o"]
    done = call(app, *words, "c.jpg")
    assert "JPEG files hold no such transparency; it was laid on #00ff00" in done.stderr
    red, green, _ = PIL.Image.open("c.jpg").convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red < 20
    assert green > 230


def test_embedded_inputs_travel_with_the_picture(app: Any, tmp_path: Path) -> None:
    source = STROKES / "rose.png"
    done = call(app, "sdedit", str(source), *FAST, "-o", "e.png", "--embed", "--no-store")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "home").exists()
    call(app, "sdedit", str(source), *FAST, "-o", "g.png", "--no-store")
    assert "rose.png" in fails(app, 1, "run", "g.png")
    assert call(app, "run", "e.png", "-o", "f.png").exit_code == 0


def test_plan_models_doctor(app: Any) -> None:
    source = str(STROKES / "rose.png")
    done = call(app, "sdedit", source, "--steps", "7", "--plan", "--json")
    plan = json.loads(done.stdout)
    assert plan["calls"] == [7, *upsampling(bundled())]
    assert plan["work_size"] == [*bundled().card.native]
    assert not list(Path().glob("*.png"))
    assert call(app, "--version").stdout.strip() == sfumato.__version__
    listed = call(app, "models").stdout
    assert "emoji" in listed
    assert "256x256_diffusion_uncond" in listed
    done = call(app, "doctor")
    assert done.exit_code == 0, done.output
    assert "it is red" in done.stdout
    assert json.loads(call(app, "info", "emoji", "--json").stdout)["native"] == plan["work_size"]


def test_failures_are_one_line(app: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes((STROKES / "rose.png").read_bytes()[:3000])
    (tmp_path / "text.png").write_text("hello")
    PIL.Image.new("L", (9, 9), 255).save("mask.png")
    rose = str(STROKES / "rose.png")
    assert "no such file" in fails(app, 1, "sdedit", "missing.png")
    assert "cut.png" in fails(app, 1, "sdedit", "cut.png", *FAST)
    assert "text.png" in fails(app, 1, "sdedit", "text.png", *FAST)
    assert "9x9" in fails(app, 1, "sdedit", rose, "--mask", "mask.png", *FAST)
    assert "tokens" in fails(app, 1, "generate", "-p", "word " * 500)
    assert "does not exist" in fails(app, 1, "generate", *FAST, "-o", "no/such/x.png")
    assert "METHOD.FIELD" in fails(app, 1, "generate", "--with", "cfg")
    assert "has no 'strength'" in fails(app, 1, "generate", "--with", "cfg.strength=2")
    assert "unknown" in fails(app, 1, "generate", "--solver", "euler-z")
    assert "no preset 'x'" in fails(app, 1, "sdedit", rose, "--preset", "x")
    assert "carries no sfumato recipe" in fails(app, 1, "run", rose)
    assert "t0" in fails(app, 2, "sdedit", rose, "--t0", "1.5")
    assert "--size" in fails(app, 1, "generate", "--size", "huge")
    fails(app, 2, "sdedit")


def test_a_bug_is_one_line_too_and_debug_shows_it(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(generate, "make", broken)
    assert "internal error: ZeroDivisionError: oops" in fails(app, 1, "generate")
    assert "test_cli.py" in call(app, "generate", "--debug").stderr

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "make", stopped)
    assert "cancelled" in fails(app, 130, "generate")


NEW_METHOD = '''
"""Fade (a test): pulls every state towards grey."""
from __future__ import annotations
from typing import Annotated, ClassVar
from sfumato.core.guides import Guide
from sfumato.methods import Method, knob, method

@method
class Fade(Method):
    """x <- (1 - amount) x on arrival."""
    verb: ClassVar[bool] = True
    amount: Annotated[float, knob("how much", main=True, ge=0, le=1, unit="share")] = 0.5

    def __call__(self, process):
        return process.add(guides=(_Fade(self.amount),))

class _Fade(Guide):
    def __init__(self, amount):
        self.amount = amount
    def arrive(self, x, t, call):
        return x * (1 - self.amount)
'''


def test_a_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file: a verb with help and range, an option elsewhere, a schema, a recipe."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "fade.py").write_text(NEW_METHOD)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    methods.registry.cache_clear()
    try:
        fresh = main.app.__class__(pretty_exceptions_enable=False)
        monkeypatch.setattr(main, "app", fresh)
        main.build()
        told = call(fresh, "fade", "--help").stdout
        assert "how much (share)" in told
        assert "0<=x<=1" in told.replace(".0", "")
        done = call(fresh, "fade", "--amount", "0.9", "-p", "rose", *FAST, "-o", "f.png")
        assert done.exit_code == 0, done.output
        assert np.asarray(PIL.Image.open("f.png")).std() < 40
        done = call(fresh, "run", "f.png", "-o", "g.png")
        assert done.exit_code == 0, done.output
        assert (np.asarray(PIL.Image.open("f.png")) == np.asarray(PIL.Image.open("g.png"))).all()
        schema = methods.schema(methods.find("fade"))["properties"]["amount"]
        assert (schema["maximum"], schema["unit"]) == (1, "share")
    finally:
        methods.registry.cache_clear()
        sys.modules.pop("sfumato.methods.fade", None)


def test_methods_are_data_and_back() -> None:
    for value in (methods.find("cfg")(2.0, window=(0.1, 0.9)), methods.find("threshold")("none")):
        assert methods.from_data(json.loads(json.dumps(methods.to_data(value)))) == value
    assert "methods" in methods.recipe_schema()["properties"]
    for cls in methods.registry().values():
        described = methods.schema(cls)["properties"]
        assert all("description" in field for field in described.values()), cls.id


def test_what_users_typed_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither ":b:" nor "[red]" is markup."""
    show.errors.print("--over t0=a:b:c [red] is no number")
    assert "a:b:c [red] is" in capsys.readouterr().err


LISTED = """
import sys, typer
from sfumato.cli.main import build
command = typer.main.get_command(build(sys.argv[1:] if sys.argv[1:] != ["all"] else None))
for name, verb in sorted(command.commands.items()):
    print(name, len(verb.params) + len(getattr(verb, "commands", ())), verb.help.split()[:4])
"""


def test_the_verb_that_is_called_has_its_options_and_the_others_their_line() -> None:
    """What is not called is not worked out, so that help is fast."""

    def listed(*words: str) -> dict[str, tuple[int, str]]:
        done = subprocess.run(
            [sys.executable, "-c", LISTED, *words], capture_output=True, text=True, check=True
        )
        lines = (line.split(" ", 2) for line in done.stdout.splitlines())
        return {name: (int(count), text) for name, count, text in lines}

    whole = listed("all")
    assert all(count > 0 for count, _ in whole.values())
    for verb in ("sdedit", "sweep", "models"):
        some = listed("--version", verb, "--help")
        assert some[verb] == whole[verb]
        assert {name: text for name, (_, text) in some.items()} == {
            name: text for name, (_, text) in whole.items()
        }
        assert all(count == 0 for name, (count, _) in some.items() if name != verb)
