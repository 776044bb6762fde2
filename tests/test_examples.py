"""The examples run: the notebook from top to bottom, the demo, the benchmarks' peer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import numpy as np
import PIL.Image
import pytest
import torch
from nbclient import NotebookClient

import sfumato as sf
from helpers import pipelines
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.models.loaders.library import BUNDLED
from sfumato.nn.bands import BandsConfig
from sfumato.nn.unet import UNet

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import gallery  # noqa: E402


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))


def test_bundled_base_equals_the_plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/plain.py is written apart from the package: two readings of one architecture."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from plain import Plain

    model = sf.load("emoji", dtype="float32")
    files = [BUNDLED["emoji"] / name for name in model.card.base.weights]
    plain = Plain(read_state_dict(files), model.card.base.network)
    cond = model.encode(["red apple, 3d render", ""])
    x, t = torch.randn(2, 3, 48, 64), torch.tensor([17.0, 801.5])
    with torch.no_grad():
        ours = model.denoiser.network(x, t, cond)
        assert torch.allclose(ours, plain(x, t, cond["tokens"], cond["mask"]), atol=1e-4)
        config = replace(model.denoiser.network.config, bands=BandsConfig())
        banded = pipelines.scrambled(UNet(config), 1)
        plain = Plain(banded.state_dict(), asdict(config))
        ours = banded(x, t, cond)
        assert torch.allclose(ours, plain(x, t, cond["tokens"], cond["mask"]), atol=1e-3)


def test_paintings_are_those_of_their_script(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "examples" / "strokes"))
    try:
        import paint
    finally:
        sys.path.pop(0)
    for seed, (name, strokes) in enumerate(paint.PAINTINGS.items()):
        kept = PIL.Image.open(ROOT / "examples" / "strokes" / f"{name.replace(' ', '-')}.png")
        gap = np.asarray(paint.paint(strokes, seed)).astype(int) - np.asarray(kept).astype(int)
        assert abs(gap).max() <= 2


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, marks=() if path.stem in gallery.QUICK else pytest.mark.slow)
        for path in gallery.examples()
    ],
    ids=lambda path: path.stem,
)
def test_example(script: Path, tmp_path: Path) -> None:
    """The slow ones show methods that have tests of their own."""
    sheet = PIL.Image.open(gallery.run(script, tmp_path))
    assert np.asarray(sheet).std() > 20
    code = [line for line in script.read_text().split('"""', 2)[2].splitlines() if line.strip()]
    lines = 30 if script.stem == "dreambooth" else 10  # that one teaches before it shows
    assert len([line for line in code if "import" not in line]) <= lines
    assert (ROOT / "docs" / "gallery" / f"{script.stem}.webp").is_file()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    sheets = sorted(tmp_path.glob("*.png"))
    assert len(sheets) == 7
    for path in sheets:
        assert str(path) in done.stdout
        assert np.asarray(PIL.Image.open(path)).std() > 20


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "examples")}},
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("bool("):
            assert cell.outputs[0]["data"]["text/plain"] == "True"
