"""A recipe in the making, of what another program says, and lines of what has no place in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato.recipe.fields import UNKNOWN
from sfumato.recipe.foreign import samplers
from sfumato.recipe.names import WEIGHTS
from sfumato.recipe.value import Recipe

LINES = 50  # of what is left, in detail
PLAIN_WEIGHT = re.compile(r"\(\(|\[|\bBREAK\b|\bAND\b")
"""Signs of A1111's prompts that are text here."""
LORA = re.compile(r"<lora:([^:<>]+)(?::([-+]?[0-9.]+))?(?::[^<>]*)?>")
OTHER = re.compile(r"<(?:hypernet|lyco):[^<>]*>")


@dataclass(frozen=True)
class Foreign:
    """program: whose settings; left: lines of what was not carried over; needs: of what is missing
    to run it, empty if nothing is."""

    program: str
    recipe: Recipe
    left: tuple[str, ...]
    needs: tuple[str, ...]


@dataclass
class Draft:
    """What has been understood so far. where: what errors call the text."""

    program: str
    where: str
    fields: dict[str, Any] = field(default_factory=dict)
    methods: list[dict[str, Any]] = field(default_factory=list)
    adapters: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)

    def keep(self, **fields: Any) -> None:
        """Fields of the recipe; None is not said."""
        self.fields |= {name: value for name, value in fields.items() if value is not None}

    def leave(self, name: str, value: object, why: str = "is not carried over") -> None:
        """One line."""
        self.left.append(f"{name} {value!s:.80} {why}".replace("  ", " "))

    def model(self, name: str | None) -> None:
        """By the name of a file, of which folders are nobody's business here."""
        if name:
            self.fields["model"] = last(name)
        else:
            self.needs.append("it names no model; give --recipe and --model")

    def adapter(self, name: str, scale: float) -> None:
        """A LoRA by the name of its file, maybe without its ending."""
        file = last(name)
        file = file if file.endswith(WEIGHTS) else f"{file}.safetensors"
        self.adapters.append({"file": file, "sha256": UNKNOWN, "scale": scale})

    def guided(self, scale: float | None, rescale: float = 0.0) -> None:
        """Classifier-free guidance."""
        if scale is not None:
            rescaled = {"rescale": rescale} if rescale else {}
            self.methods.append({"method": "cfg", "scale": float(scale), **rescaled})

    def distilled(self, scale: float) -> None:
        self.methods.append({"method": "distilled_guidance", "scale": float(scale)})

    def sampled(self, sampler: str | None, schedule: str | None = None) -> None:
        """Solver and spacing of a sampler's and a schedule's names."""
        if not sampler:
            return
        solver, spacing, lines = samplers.meant(sampler, schedule)
        self.keep(solver=solver, spacing=spacing)
        self.left += lines

    def worded(self, prompt: str, negative: str = "") -> None:
        """Prompts; LoRA named in them become adapters."""
        for name, scale in LORA.findall(prompt):
            self.adapter(name, float(scale) if samplers.is_number(scale) else 1.0)
        for word in OTHER.findall(prompt):
            self.leave("prompt:", word)
        prompt = OTHER.sub("", LORA.sub("", prompt)).strip().strip(",").strip()
        self.keep(prompt=prompt, negative=negative.strip())
        if PLAIN_WEIGHT.search(f"{prompt} {negative}"):
            self.left.append(
                "prompt: brackets without a number, [words], BREAK and AND are text here; "
                "(words:1.3) weighs them"
            )

    def began(self, name: str | None, strength: float | None) -> None:
        """From a picture that the file does not hold."""
        level = "" if strength is None else f" --t0 {strength:g}"
        which = f" {name!s:.80}" if name else ""
        self.needs.append(
            f"it began from a picture{which} that is not in the file; sfumato sdedit PICTURE "
            f"--recipe this{level}"
        )

    def seeded(self, seed: int | None) -> None:
        if seed is None:
            return
        if not 0 <= seed < 1 << 63:
            self.leave("seed", seed, "is beyond the seeds here, and was brought into their range")
            seed %= 1 << 63
        self.keep(seed=seed)

    def done(self) -> Foreign:
        """The recipe, read as strictly as any."""
        data = {
            "schema": 1, "model": "unknown", **self.fields, "methods": self.methods,
            "adapters": self.adapters,
        }  # fmt: skip
        if len(self.left) > LINES:
            self.left[LINES:] = [f"and {len(self.left) - LINES:,} more that are not carried over"]
        self.left.append("noise is drawn otherwise here: the same seed gives another picture")
        recipe = Recipe.from_data(data, self.where)
        return Foreign(self.program, recipe, tuple(self.left), tuple(self.needs))


def last(name: str) -> str:
    """The last part of a path of either kind."""
    return re.split(r"[/\\]", name.strip())[-1]


def extras(draft: Draft, values: Mapping[str, Any], quiet: frozenset[str]) -> None:
    """A line for every entry that says something and that nobody reads."""
    for name, value in values.items():
        if name not in quiet and value not in (None, "", [], {}, False, "None"):
            draft.leave(f"{name}:", value)
