"""Claim: classifier and noised CLIP tell held-out drawings better than those before them did.

Drawings of concepts that no training saw, with noise of four levels. Right: the classifier's style
(of 7) and group of things (of 8); the CLIP's words (of all held-out concepts, in the drawing's own
style) and manner (of the styles, by the drawing's own words). With the folder of other weights
also theirs, and the difference on the same drawings with the same noise.
`python benchmarks/telling.py DATA [--before FOLDER] [--split train] [--styles ink,fluent]`;
DATA: the packed set; of its part train what has been learned by heart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import sfumato as sf
from sfumato.core.noise import Seeded
from sfumato.core.schedule import named
from sfumato.measure.evaluate import on_white
from sfumato.metrics import kernel
from sfumato.train.data import store

LEVELS, ROWS, SEED = (0.001, 0.25, 0.5, 0.75), 128, 0
WHAT = ("style", "group", "words", "manner")


class Told:
    """What a model's classifier and CLIP say of drawings."""

    def __init__(self, source: str, data: Path, split: str, styles: list[str]) -> None:
        model = sf.load(source)
        labeller, clip = model.classifier(), model.clip()
        if labeller is None or clip is None or not clip.noised:
            raise SystemExit(f"{source} has no classifier or no noised CLIP")
        self.labeller, self.clip = labeller, clip
        self.drawings = drawings = store.read(
            data, size=model.card.native[0], split=split, styles=styles
        )
        labels = {concept.key: concept.label for concept in drawings.concepts}
        self.keys, self.styles = list(labels), list(dict.fromkeys(drawings.styles))
        texts = [f"{labels[k]}, {store.STYLES[s][0]}" for k in self.keys for s in self.styles]
        with torch.no_grad():
            self.texts = clip.text(texts).unflatten(0, (len(self.keys), len(self.styles)))

    def right(self, x: Tensor, index: int, rows: slice) -> Tensor:
        """(B, 4): whether each of WHAT is right, of noisy drawings `rows`."""
        time = torch.full((len(x),), index)
        styles = self.drawings.styles[rows]
        concepts = self.drawings.concepts[rows]
        with torch.no_grad():
            said = self.labeller.log_probabilities(x, time)
            match = torch.einsum("be,kse->bks", self.clip.image(x, time), self.texts)
        classes = self.labeller.classes
        style = torch.tensor([classes["style"].index(one) for one in styles])
        group = torch.tensor([classes["group"].index(one.group) for one in concepts])
        word = torch.tensor([self.keys.index(one.key) for one in concepts])
        manner = torch.tensor([self.styles.index(one) for one in styles])
        row = torch.arange(len(x))
        return torch.stack(
            [
                said["style"].argmax(1) == style,
                said["group"].argmax(1) == group,
                match[row, :, manner].argmax(1) == word,
                match[row, word].argmax(1) == manner,
            ],
            dim=1,
        ).double()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--before", help="the folder of other weights")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--styles", type=lambda text: text.split(","), default=[])
    given = parser.parse_args()
    schedule = named("squaredcos_cap_v2")
    told = [
        Told(source, given.data, given.split, given.styles)
        for source in (given.before, given.model)
        if source
    ]
    print("t      " + "".join(f"{name:32}" for name in WHAT))
    for t in LEVELS:
        found = []
        for one in told:
            x0 = on_white(one.drawings.pixels)
            x = schedule.alpha(t) * x0 + schedule.sigma(t) * Seeded(SEED).draw("prior", 0, 0, x0)
            index = max(round(t * schedule.steps) - 1, 0)
            parts = [slice(k, k + ROWS) for k in range(0, len(x), ROWS)]
            found.append(torch.cat([one.right(x[part], index, part) for part in parts]))
        for name, right in zip(("before", "now"), found, strict=False):
            label = name if len(found) > 1 else ""
            print(f"{t:<6g} " + "".join(f"{kernel.mean(c)!s:32}" for c in right.T) + label)
        if len(found) > 1:
            more = found[1] - found[0]
            print(f"{t:<6g} " + "".join(f"{kernel.mean(c)!s:32}" for c in more.T) + "more")


if __name__ == "__main__":
    main()
