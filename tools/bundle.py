"""Assemble a bundled cascade from finished runs, and check its size.

    python tools/bundle.py TARGET base=RUN upsampler=RUN clip=RUN classifier=RUN art=RUN words=DATA

TARGET already holds a card.json, whose licence, styles and defaults stay; its sizes, title and
about follow from the runs. What is not given stays as it is, but adapters, which belong to one
base, go with it, and a CLIP or classifier of half its size reads its bands, if it has any. Each RUN
is a run folder whose `model/` the trainer exported; DATA the packed set whose captions the base
learned from.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sfumato.models import known_words
from sfumato.nn.assembly import UNetConfig
from sfumato.nn.bands import FACTOR
from sfumato.nn.classifier import Classifier
from sfumato.nn.clip import CLIPConfig, NoisedCLIP
from sfumato.train import checkpoint, config, warm_start
from sfumato.train.data import captions, store

LIMIT = 45_000_000
SHARD = 15 * 2**20
PARTS = ("base", "upsampler", "clip", "classifier", "words", "art")
"""In the order in which they are taken: the adapter gets the room that the others leave."""
ABOUT = (
    "About 1000 emoji concepts in seven styles, with colours, backgrounds, two things side by side "
    "and, for a part, Korean words. {parameters} parameters, trained on two CPU cores: a "
    "demonstration, not a general image generator. Prompt = [COLOUR] LABEL, STYLE[, COLOUR "
    "background]. Common things come out well, most of the thousand do not; see "
    "benchmarks/README.md."
)


def take(run: Path, target: Path, pattern: str) -> None:
    """Copy a run's weights in place of the old ones."""
    for old in target.glob(pattern):
        old.unlink()
    for file in sorted((run / "model").glob(pattern)):
        shutil.copy(file, target / file.name)


def stage(run: Path, defaults: dict[str, Any]) -> dict[str, Any]:
    """A run's stage for the card."""
    data = json.loads((run / "model" / "stage.json").read_text(encoding="utf-8"))
    return {**data, **({"defaults": defaults} if defaults else {})}


def bundle(target: Path, runs: dict[str, Path]) -> dict[str, Any]:
    """The new card; weights are copied beside it."""
    card = json.loads((target / "card.json").read_text(encoding="utf-8"))
    for name in sorted(runs, key=order):
        run = runs[name]
        if name == "base":
            take(run, target, "base-*.safetensors")
            shutil.copy(run / "model" / "tokenizer.json", target / "tokenizer.json")
            card["base"] = stage(run, {})
            card |= sizes(run, card["base"]["network"])
            for file in card.pop("adapters", {}).values():
                (target / file).unlink(missing_ok=True)
            for part in {"clip", "classifier"} & set(card) - set(runs):
                if card["base"]["network"].get("bands"):
                    card[part] = banded(target, card[part], part, card["base"]["network"]["bands"])
        elif name == "upsampler":
            take(run, target, "upsampler-*.safetensors")
            card["upsamplers"] = [stage(run, card["upsamplers"][0].get("defaults", {}))]
        elif name in ("clip", "classifier"):
            take(run, target, f"{name}-*.safetensors")
            described = run / "model" / f"{name}.json"
            card[name] = json.loads(described.read_text(encoding="utf-8"))
        elif name == "art":
            (target / "art.safetensors").unlink(missing_ok=True)
            kept = slim(run / "model" / "adapter.safetensors", target / "art.safetensors",
                        LIMIT - weight(target) - 4000)  # fmt: skip
            print(f"art: {kept:.1%} of the adapter's energy fits")
            card["adapters"] = {"ink drawing": "art.safetensors"}
        else:
            known = sorted(words(run))
            (target / known_words.FILE).write_text("\n".join(known) + "\n", encoding="utf-8")
    card |= texts(target, card)
    (target / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return card


def order(name: str) -> int:
    """The place of a part among those that are taken."""
    if name not in PARTS:
        raise SystemExit(f"{name}: there are {', '.join(PARTS)}")
    return PARTS.index(name)


def banded(
    target: Path, described: dict[str, Any], part: Literal["clip", "classifier"], bands: Any
) -> dict[str, Any]:
    """A CLIP or classifier of half the base's size, exactly, as one that reads its bands."""
    network = described["network"]
    if network.get("bands"):
        return described
    sized = network if part == "clip" else described
    sized["size"] *= FACTOR
    network["bands"] = bands
    net = (
        NoisedCLIP(CLIPConfig(**network))
        if part == "clip"
        else Classifier(UNetConfig(**network), described["size"], described["pool"])
    )
    warm_start.start(net, str(target), part)
    half = {name: value.half() for name, value in net.state_dict().items()}
    return {**described, "weights": checkpoint.write_shards(target, part, half)}


def sizes(run: Path, network: dict[str, Any]) -> dict[str, Any]:
    """A base's side, which its recipe says, and what sides its network takes."""
    side = config.read(run / "recipe.toml").data.size
    return {"native": [side, side], "multiple": UNetConfig(**network).multiple}


def texts(target: Path, card: dict[str, Any]) -> dict[str, str]:
    """The title and about of a card, with the sizes of its stages and what its networks weigh."""
    side = card["native"][0]
    made = [side := side * stage["factor"] for stage in card["upsamplers"]]
    title = (
        f"Emoji drawings from words, {card['native'][0]} px base, "
        f"upsampled to {' and '.join(map(str, made))} px"
    )
    counts = [parameters(target, f"{name}-*.safetensors") for name in ("base", "upsampler")]
    said = " + ".join(f"{count / 1e6:.1f} M" for count in counts)
    return {"title": title, "about": ABOUT.format(parameters=said)}


def parameters(folder: Path, pattern: str) -> int:
    """Numbers in the shards of a network."""
    count = 0
    for file in folder.glob(pattern):
        with safe_open(file, "pt") as shard:
            count += sum(math.prod(shard.get_slice(name).get_shape()) for name in shard.keys())  # noqa: SIM118
    return count


def words(data: Path) -> set[str]:
    """Every word that a caption of the packed set may have."""
    pictures = store.read(data, size=64)
    concepts = {concept.key: concept for concept in pictures.concepts}.values()
    texts = [text for c in concepts for text in (c.label, *c.tags, c.label_ko, *c.tags_ko)]
    texts += [text for pair in captions.STYLES.values() for text in pair]
    for table in (captions.COLOURS, captions.BACKGROUNDS, captions.PLACES):
        texts += [text for name, (korean, *_) in table.items() for text in (name, korean)]
    texts += [text for pair in captions.RELATIONS.items() for text in pair]
    texts += ["small", "작은", "background", "배경"]
    return {word for text in texts for word in known_words.words_of(text)}


def weight(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(file.stat().st_size for file in folder.iterdir())


def slim(source: Path, target: Path, room: int) -> float:
    """An adapter in float16 with its strongest singular directions, as many as fit in `room` bytes.

    The share of the squared singular values that was kept.
    """
    tensors = load_file(source)
    with safe_open(source, "pt") as file:
        note = json.loads(file.metadata()["note"])
    directions, scale = [], note["alpha"] / note["rank"]
    for name in sorted(n.removesuffix(".down") for n in tensors if n.endswith(".down")):
        up, down = tensors[f"{name}.up"].float(), tensors[f"{name}.down"].float()
        u, s, v = torch.linalg.svd(scale * up @ down, full_matrices=False)
        for k in range(len(down)):
            root = s[k].sqrt()
            directions.append((float(s[k]) ** 2, name, u[:, k] * root, v[k] * root))
    directions.sort(key=lambda found: -found[0])
    kept: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    energy, left = 0.0, room // 2 - 150 * len(tensors)  # float16, and the file's own header
    for strength, name, up, down in directions:
        if len(up) + len(down) <= left:
            left -= len(up) + len(down)
            energy += strength
            kept.setdefault(name, []).append((up, down))
    made = {}
    for name, pairs in kept.items():
        made[f"{name}.up"] = torch.stack([up for up, _ in pairs], dim=1).half()
        made[f"{name}.down"] = torch.stack([down for _, down in pairs]).half()
    note |= {"alpha": 1.0, "rank": 1, "layers": len(kept)}
    save_file(made, target, {"note": json.dumps(note, ensure_ascii=False)})
    return energy / sum(found[0] for found in directions)


def main() -> None:
    """Bundle and say what it weighs."""
    target = Path(sys.argv[1])
    runs = dict(argument.split("=", 1) for argument in sys.argv[2:])
    bundle(target, {name: Path(run) for name, run in runs.items()})
    total = 0
    for file in sorted(target.glob("*.safetensors")):
        size = file.stat().st_size
        total += size
        print(f"{file.name:36} {size / 1e6:6.2f} MB")
        assert size <= SHARD, f"{file.name} is larger than {SHARD} bytes"
    print(f"{'all':36} {total / 1e6:6.2f} MB")
    assert total <= LIMIT, f"the cascade is larger than {LIMIT} bytes"


if __name__ == "__main__":
    main()
