"""Every method's verb by a server, byte for byte, with weights of methods that it offers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import sfumato as sf
from helpers import pipelines
from helpers.adapters import of_a_style
from helpers.program import FAST, STROKES, call, fails, home
from helpers.remote import Program, both
from sfumato import methods
from sfumato.cli.remote.chosen import Chosen
from sfumato.cli.remote.sent import check_way
from sfumato.cli.remote.server import Server
from sfumato.core.errors import SfumatoError
from sfumato.methods.stego import Stego
from sfumato.nn.control import Control
from sfumato.nn.image_prompt import ImagePrompt

__all__ = ["home"]

WEIGHTS = ("asyrp", "boundary_diffusion", "controlnet", "ip_adapter")
VERBS = {
    "asyrp": ("asyrp.safetensors", "-p", "rose"),
    "boundary_diffusion": ("boundary_diffusion.safetensors", "--spaces", "x", "-p", "rose"),
    "controlnet": ("small.png", "controlnet.safetensors", "-p", "rose"),
    "ip_adapter": ("small.png", "ip_adapter.safetensors", "-p", "rose"),
    "diffuseit": ("small.png", "-p", "rose"),
    "null_text": ("small.png", "-p", "rose", "--inner", "1"),
    "prompt_to_prompt": ("-p", "red apple", "--edited", "green apple", "-n", "2"),
    "rf_inversion": ("small.png", "-p", "rose"),
    "sdg": ("--image", "small.png", "-p", "rose"),
    "sine": ("castle", "a drawing", "-p", "rose"),
    "stego": ("--message", "at noon", "--key", "elm", "-p", "rose", "--size", "32"),
    "flow_edit": ("small.png", "-p", "red cat", "--model", "pipeline", "--size", "32"),
}
ELSEWHERE = {"sdedit", "inpaint", "ilvr", "diffstyler", "upscale"}  # in test_remote


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """With a model of a flow, and weights that it calls otherwise than its clients do."""
    folder = tmp_path_factory.mktemp("server")
    pipelines.flow(folder, "sd3")
    model: Any = sf.load("emoji", dtype="float32")
    network: Any = model.denoiser.network
    own: dict[str, dict[str, torch.Tensor]] = {
        "asyrp": {"shift": torch.ones(network.config.widths[-1], 1, 1)},
        "boundary_diffusion": {
            "t": torch.tensor(0.6), "x.normal": torch.ones(3, *model.card.native),
            "x.offset": torch.tensor(0.7), "x.spread": torch.tensor(3.0),
        },
        "controlnet": pipelines.scrambled(Control.copy_of(network), 1).state_dict(),
        "ip_adapter": pipelines.scrambled(
            ImagePrompt.beside(network, model.clip().text(["a"]).shape[-1]), 2
        ).state_dict(),
    }  # fmt: skip
    ink = folder / "ink.safetensors"
    shutil.copy(of_a_style(folder), ink)
    words = ["--model", "emoji", "--model", str(folder / "pipeline"), "--adapter", str(ink)]
    for name in WEIGHTS:
        file = folder / f"the-{name}.safetensors"
        save_file({key: value.contiguous() for key, value in own[name].items()}, file)
        words += ["--weights", f"{name}={file}"]
    program = Program(folder, *words)
    program.start()
    yield program
    program.stop()


@pytest.fixture
def inputs(server: Program) -> None:
    Image.open(STROKES / "hamburger.png").convert("RGBA").resize((48, 48)).save("small.png")
    (Path.cwd() / "pipeline").symlink_to(server.folder / "pipeline")
    Path("castle").mkdir()
    shutil.copy(server.folder / "ink.safetensors", "castle/adapter.safetensors")
    for name in WEIGHTS:
        shutil.copy(server.folder / f"the-{name}.safetensors", f"{name}.safetensors")


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("verb", VERBS)
def test_remote_equals_local(app: Any, server: Program, verb: str) -> None:
    code, *_, made = both(app, server, verb, *VERBS[verb], *FAST, "-o", "out/a.png")
    assert code == 0
    assert made


def test_there_is_a_row_for_every_method() -> None:
    assert {*VERBS} | ELSEWHERE == {id for id, cls in methods.registry().items() if cls.verb}


@pytest.mark.usefixtures("inputs")
def test_a_recorded_picture_finds_its_weights(app: Any, server: Program) -> None:
    """By what its run recorded, also where the file is not here any more; and in a sweep."""
    words = ("asyrp", *VERBS["asyrp"], *FAST, "-o", "a.png")
    assert call(app, *words).exit_code == 0
    both(app, server, "run", "a.png", "-o", "out/b.png")
    sweep = ("sweep", "asyrp", *VERBS["asyrp"], "--over", "strength=0,1", *FAST, "--seeds", "1")
    both(app, server, *sweep, "-o", "out/s")
    Path("asyrp.safetensors").unlink()
    shutil.rmtree("home")
    assert call(app, "--server", server.url, "run", "a.png", "-o", "b.png").exit_code == 0
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()


def test_weights_that_are_not_offered_are_refused(app: Any, server: Program) -> None:
    """By what lies here or by name, in a line, before anything is sent."""
    Path("other.safetensors").write_bytes(b"x")
    for name in ("other.safetensors", "gone.safetensors"):
        said = fails(app, 1, "--server", server.url, "asyrp", name, "-p", "rose", *FAST)
        assert "not offered by" in said
        assert "it offers the-asyrp.safetensors" in said


def test_a_secret_goes_no_way_that_others_read() -> None:
    """To this machine or by https, and else a line."""
    for url, private in {
        "http://127.0.0.1:1": True, "https://far.example": True, "http://far.example": False,
    }.items():  # fmt: skip
        server = Server(Chosen(url))
        with nullcontext() if private else pytest.raises(SfumatoError, match="message is a secret"):
            check_way(server, [Stego("at noon")])
