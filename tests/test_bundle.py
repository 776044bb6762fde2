"""One command assembles the bundled cascade of runs, and writes their sizes into its card."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfumato.models.card import read_card
from sfumato.models.files.checkpoint import read_state_dict
from sfumato.nn.bands import BandsConfig, unhaar
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.nn.unet import UNetConfig
from sfumato.train import checkpoint

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import bundle  # noqa: E402

BANDS = {"low": 2.0, "high": 0.25}


def stage(factor: int, **network: Any) -> dict[str, Any]:
    """A stage with three levels, as the trainer exports it."""
    stem = "upsampler" if factor > 1 else "base"
    config = UNetConfig(model_channels=32, channel_mult=(1, 2, 2), low_res=factor > 1, **network)
    told = {"learned_range": True, "schedule": "squaredcos_cap_v2", "factor": factor}
    return {"network": asdict(config), "weights": [f"{stem}-1-of-1.safetensors"], **told}


def exported(folder: Path, side: int, part: dict[str, Any], numbers: int) -> Path:
    """A run's folder: its recipe, and a model of so many numbers."""
    model = folder / "model"
    model.mkdir(parents=True)
    (folder / "recipe.toml").write_text(
        f'name = "one"\ntuner = "diffusion"\n[model]\n[model.network]\n[data]\nsize = {side}\n'
    )
    (model / "stage.json").write_text(json.dumps(part))
    (model / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.zeros(numbers, 1000)}, model / part["weights"][0])
    return folder


def test_a_card_follows_from_its_runs(tmp_path: Path) -> None:
    """A base in bands and one upsampler take the place of a base and the two uses of another."""
    target = tmp_path / "emoji"
    target.mkdir()
    kept = {"steps": 6, "solver": "dpmpp-2m"}
    ups = [stage(factor) | {"defaults": kept} for factor in (4, 2)]
    old = {"name": "emoji", "base": stage(1), "upsamplers": ups, "licence": "kept", "maximum": 256}
    old |= {"native": [32, 32], "multiple": 4, "adapters": {"ink drawing": "art.safetensors"}}
    (target / "card.json").write_text(json.dumps(old))
    for name in ("art", "base-1-of-2", "base-2-of-2"):
        (target / f"{name}.safetensors").write_bytes(b"of before")
    base = exported(tmp_path / "base", 64, stage(1, bands=BANDS), 300)
    upsampler = exported(tmp_path / "upsampler", 256, stage(4, bands=BANDS), 1200)
    bundle.bundle(target, {"upsampler": upsampler, "base": base})
    card = read_card(target)
    assert (card.native, card.multiple, card.maximum, card.licence) == ((64, 64), 8, 256, "kept")
    assert card.title == "Emoji drawings from words, 64 px base, upsampled to 256 px"
    assert "0.3 M + 1.2 M parameters" in card.about
    assert [stage.factor for stage in card.upsamplers] == [4]
    assert card.upsamplers[0].defaults.steps == 6
    assert not card.adapters
    files = {file.name for file in target.glob("*.safetensors")}
    assert files == {"base-1-of-1.safetensors", "upsampler-1-of-1.safetensors"}
    written = json.loads((target / "card.json").read_text())
    widths = [w for part in (written["base"], *written["upsamplers"])
              for w in part["network"]["channel_mult"]]  # fmt: skip
    assert widths == [1, 2, 2] * 2
    assert all(type(w) is int for w in widths)


def test_what_looks_at_states_reads_the_bands_of_a_base_of_twice_its_size(tmp_path: Path) -> None:
    target = tmp_path / "emoji"
    target.mkdir()
    shape = CLIPConfig(
        embedding=16, head_width=16, size=32, patch=4, image_width=32, image_layers=1,
        text_width=16, text_layers=1, context=6, vocabulary=20,
    )  # fmt: skip
    config = UNetConfig(model_channels=32, channel_mult=(1, 2), out_channels=2)
    networks = {"clip": NoisedCLIP(shape), "classifier": Classifier(config, 32, "adaptive")}
    old = {"name": "emoji", "base": stage(1), "upsamplers": [stage(4)], "maximum": 256}
    old |= {"native": [32, 32], "multiple": 4}
    told = {"schedule": "squaredcos_cap_v2"}
    parts: dict[str, dict[str, Any]] = {
        "clip": told | {"network": asdict(shape), "tokenizer": "tokenizer.json"},
        "classifier": told | {"network": asdict(config), "size": 32, "pool": "adaptive",
                              "classes": {"style": ["flat", "ink"]}},
    }  # fmt: skip
    for name, net in networks.items():
        parts[name]["weights"] = checkpoint.write_shards(target, name, net.state_dict())
    (target / "card.json").write_text(json.dumps(old | parts))
    base = exported(tmp_path / "base", 64, stage(1, bands=BANDS), 300)
    card = bundle.bundle(target, {"base": base})
    assert card["clip"]["network"]["size"] == card["classifier"]["size"] == 64
    clip = NoisedCLIP(CLIPConfig(**card["clip"]["network"]))
    classifier = Classifier(UNetConfig(**card["classifier"]["network"]), 64, "adaptive")
    for name, wide in (("clip", clip), ("classifier", classifier)):
        assert wide.config.bands == BandsConfig()
        wide.load_state_dict(read_state_dict([target / file for file in card[name]["weights"]]))
        x = torch.randn(1, 3, 64, 64)
        low = 2 * torch.nn.functional.interpolate(x, scale_factor=0.5, mode="area")
        x_low = unhaar(torch.cat([low, torch.zeros(1, 9, 32, 32)], dim=1))
        sees = wide.image if isinstance(wide, NoisedCLIP) else wide
        time = torch.tensor([500.0])
        alike = torch.allclose(sees(x, time), sees(x_low, time), atol=1e-5)
        assert alike, "of the low band alone, as before"


def test_a_part_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(SystemExit, match="bass: there are base"):
        bundle.bundle(tmp_path, {"bass": tmp_path})
