"""A page for each family of models: what loads, in which formats, with which limits.

Put together of docs/models.md, which says it for all, and of the loaders' own words and tables.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from docsite import DOCS, prose
from docsite.methods import slug, toctree

SOURCE = DOCS / "models.md"
FENCES = re.compile(r"(?ms)^```.*?^```$")
FLOWS = "Flow models"
INNER = ("single_file",)
"""Loaders whose later paragraphs are about their code."""


@dataclass(frozen=True)
class Family:
    """rows: what its lines in the table of docs/models.md begin with or hold. loaders: modules of
    models/loaders. sections: of docs/models.md, whole. named: what the bullets
    of the section on flows call it, as patterns. released: the loader that
    knows files by their names, and how their titles begin. command: what to show."""

    name: str
    title: str
    rows: tuple[str, ...]
    loaders: tuple[str, ...]
    sections: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    released: tuple[str, str] | None = None
    command: str = 'generate --model org/name -p "a harbour at dawn"'


FAMILIES = (
    Family(
        "emoji", "The bundled model", ("the bundled cascade",), (),
        command='generate "red apple, 3d render"',
    ),
    Family(
        "stable-diffusion", "Stable Diffusion 1.x, 2.x, XL", ("Stable Diffusion 1.x",),
        ("single_file", "text_encoders"), ("Adapters", "Prompts", "Latents"),
        command='sdedit photo.png --model org/name -p "an oil painting" --t0 0.6',
    ),
    Family(
        "refiner", "SDXL's refiner", ("SDXL's refiner",), (), ("SDXL's refiner",),
        command='sdedit photo.png --model org/refiner --t0 0.3 -p "a lion in the sun"',
    ),
    Family(
        "few-steps", "LCM and the turbos", ("latent consistency",), (), ("Models of few steps",),
        command='generate --model org/lcm -p "a harbour at dawn" --steps 4',
    ),
    Family(
        "edm", "Playground 2.5, CosXL", ("Playground 2.5",), ("edm",), ("Models of EDM's kind",)
    ),
    Family(
        "stable-diffusion-3", "Stable Diffusion 3 and 3.5", ("Stable Diffusion 3",), ("sd3",),
        named=("Stable Diffusion 3", "SD 3"),
    ),
    Family(
        "flux", "Flux.1: dev, schnell, Fill, Kontext", ("Flux.1 dev",), ("flux",),
        named=(r"Flux(?!\.2)", "schnell", "Fill", "Kontext"),
        command='flow_edit photo.png --model org/name -p "a dog" --source "a cat"',
    ),
    Family("flux-2", "Flux.2 Klein", ("Flux.2 Klein",), ("flux2",), named=(r"Flux\.2",)),
    Family("z-image", "Z-Image", ("Z-Image",), ("z_image",), named=("Z-Image",)),
    Family("qwen-image", "Qwen-Image", ("Qwen-Image",), ("qwen_image",), named=("Qwen-Image",)),
    Family("sana", "Sana", ("Sana",), ("sana",), named=("Sana",)),
    Family("pixart", "PixArt-Sigma", ("PixArt-Sigma",), ("pixart",)),
    Family("hunyuan", "Hunyuan-DiT", ("Hunyuan-DiT",), ("hunyuan",)),
    Family(
        "unclip", "Stable unCLIP, Kandinsky 2.2's decoder", ("Stable unCLIP",), ("kandinsky",),
        ("Decoders that read what a picture shows",),
        command="generate --model org/unclip --variation photo.png",
    ),
    Family(
        "ddpm", "DDPM and latent diffusion without words",
        ("unconditional DDPM", "SDEdit's authors"), ("single_file",),
        command="sdedit strokes.png --model church.ckpt --t0 0.5",
    ),
    Family(
        "adm", "OpenAI's ADM", ("OpenAI's ADM",), (), released=("openai", "ADM"),
        command="sdedit strokes.png --model 256x256_diffusion_uncond.pt --t0 0.5",
    ),
    Family(
        "glide", "GLIDE", ("GLIDE",), ("glide",), released=("openai", "GLIDE"),
        command='generate "a corgi" --model glide/',
    ),
    Family(
        "v-diffusion", "v-diffusion", ("v-diffusion",), ("vdiffusion",), ("v-diffusion",),
        released=("vdiffusion", "v-diffusion"),
        command='diffstyler photo.png --model cc12m_1_cfg.pth -p "a watercolour"',
    ),
    Family(
        "own", "A model of your own", ("one that you trained",), (),
        command='generate "red apple" --model my-model/',
    ),
)  # fmt: skip

ALWAYS = ("Files and the network", "What differs from diffusers by design", "What is tested")
"""Sections of docs/models.md that hold for all, and are linked."""


def pages() -> dict[str, str]:
    """Page by its path in the site, and the index of all."""
    made = {f"families/{family.name}.md": page(family) for family in FAMILIES}
    return {**made, "families/index.md": index()}


def index() -> str:
    lines = [
        "# Model families",
        "",
        "What loads, from which files, and what to know of it. [Models](models.md) has all in one.",
        "",
        "| family | what is loaded |",
        "|---|---|",
    ]
    for family in FAMILIES:
        what = "; ".join(row[0] for row in rows_of(family))
        lines.append(f"| [{family.title}](families/{family.name}.md) | {what} |")
    return "\n".join([*lines, "", toctree([family.name for family in FAMILIES]), ""])


def page(family: Family) -> str:
    """A family's page in Markdown; links are as from a page in docs/."""
    parts = [f"# {family.title}"]
    parts += ["```\n" + f"sfumato {family.command}" + "\n```"]
    parts += ["## What loads", "| what | as | notes |\n|---|---|---|\n" + "\n".join(
        f"| {' | '.join(row)} |" for row in rows_of(family)
    )]  # fmt: skip
    for name in family.loaders:
        told = loader(name).__doc__ or ""
        parts.append(prose.markdown(told.partition("\n\n")[0] if name in INNER else told))
    if family.released:
        parts += ["### Released files", "\n".join(released(*family.released))]
    for title, text in sections(family):
        parts += [f"## {title}", text]
    links = [f"- [{title}](models.md#{slug(title)})" for title in ALWAYS]
    links.append("- [Choose your method](choose.md)")
    parts += ["## For every family", limits(), "\n".join(links)]
    return "\n\n".join(parts) + "\n"


def limits() -> str:
    """What is not supported, of any family."""
    paragraphs = SOURCE.read_text(encoding="utf-8").split("\n\n")
    return next(part for part in paragraphs if part.startswith("Methods work on every one"))


def loader(name: str) -> ModuleType:
    return importlib.import_module(f"sfumato.models.loaders.{name}")


def released(name: str, beginning: str) -> Iterator[str]:
    """The files that a loader knows by name, of titles that begin so."""
    yield "| file | what |"
    yield "|---|---|"
    for file, preset in loader(name).PRESETS.items():
        if preset.title.startswith(beginning):
            size = getattr(preset, "native", None)
            yield f"| `{file}` | {preset.title}{f', {size} px' if size else ''} |"


def rows() -> list[tuple[str, str, str]]:
    """The table of docs/models.md: what, how it is named, notes."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| ")]
    found = [tuple(cell.strip() for cell in row) for row in cells if len(row) == 3]
    return [(a, b, c) for a, b, c in found if a != "what"]


def rows_of(family: Family) -> list[tuple[str, str, str]]:
    return [row for row in rows() if any(part in row[0] for part in family.rows)]


def sections(family: Family) -> Iterator[tuple[str, str]]:
    """What docs/models.md says of it."""
    written = by_heading()
    if family.named:
        general, *bullets = blocks(written[FLOWS])
        told = [bullet for bullet in bullets if tells_of(family, bullet)]
        yield FLOWS, "\n\n".join([general, "\n".join(told)])
    for title in family.sections:
        yield title, written[title]


def by_heading() -> dict[str, str]:
    """Sections of docs/models.md by their heading, without it."""
    parts = re.split(r"(?m)^## (.+)$", SOURCE.read_text(encoding="utf-8"))
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def blocks(section: str) -> list[str]:
    """The paragraphs and bullets of a section before its first part with a heading."""
    text = FENCES.sub("", section).partition("\n### ")[0]
    return [part.strip() for part in re.split(r"\n\n|\n(?=- )", text) if part.strip()]


def tells_of(family: Family, bullet: str) -> bool:
    """Whether a bullet speaks of a family, or of all; one that begins with a name is that one's."""
    head = re.match(r"- \*\*(.+?)\*\*", bullet)
    owners = [one for one in FAMILIES if head and any(re.match(p, head[1]) for p in one.named)]
    if owners:
        return family in owners
    every = bullet.startswith(("- **Times**", "- Taps"))
    return every or any(re.search(pattern, bullet) for pattern in family.named)
