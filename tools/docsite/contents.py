"""What the site holds, in the order of its navigation; a page that is not here fails the build."""

from __future__ import annotations

from docsite import DOCS

CONTENTS: dict[str, tuple[str, ...]] = {
    "Begin": (
        "first-picture", "choose", "studio", "command-line", "masks", "coming-from", "compat",
    ),
    "한국어": ("ko/index", "ko/first-picture", "ko/choose"),
    "Methods": ("methods/index", "examples/index", "compositions", "solvers"),
    "Guides": (
        "diffstyler", "diffuseit", "prompt-to-prompt", "null-text", "dense-diffusion", "sdg",
        "sine", "controlnet", "ip-adapter", "asyrp", "stego",
    ),
    "Models": ("models", "families/index", "speed"),
    "Teaching": ("dreambooth", "custom-edit", "training"),
    "Server": ("server", "clients", "deploy", "scale"),
    "Reference": ("api", "architecture", "decisions/README", "benchmarks", "changes"),
}  # fmt: skip


def trees() -> dict[str, str]:
    """Navigation to put below a page, by its path."""
    parts = [tree(names, caption) for caption, names in CONTENTS.items()]
    decisions = sorted(file.stem for file in (DOCS / "decisions").glob("[a-z]*.md"))
    return {"index.md": "\n\n".join(parts), "decisions/README.md": tree(decisions)}


def tree(names: tuple[str, ...] | list[str], caption: str = "") -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])
