"""The public packages of drawings and of words: fetched, and what their files say of each emoji."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import read_json
from sfumato.train.values import foreign

LARGEST = 256 << 20  # bytes of a package's file


@dataclass(frozen=True)
class Source:
    """A package of drawings. box: part of the picture that the drawing's box fills."""

    package: str
    version: str
    box: float = 1.0

    @property
    def folder(self) -> str:
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}"


SOURCES: dict[str, Source] = {
    "fluent": Source("@iconify-json/fluent-emoji", "1.2.7"),
    "flat": Source("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "noto": Source("@iconify-json/noto", "1.2.9", 0.97),
    "blob": Source("@iconify-json/noto-v1", "1.2.5", 0.97),
    "twemoji": Source("@iconify-json/twemoji", "1.2.5", 0.94),
    "emojione": Source("@iconify-json/emojione", "1.2.3", 0.97),
    "ink": Source("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
}
WORDS = Source("emojibase-data", "17.0.0")


def fetch(source: Source, folder: Path) -> None:
    """Unpack a package into the folder, unless it is there."""
    place = folder / source.folder
    if place.is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SfumatoError(
            f"{source.package} {source.version}: npm is missing; install it, or unpack the package "
            f"into {source.folder} of a folder and give that as --packages"
        )
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{source.package}@{source.version}"
    command = [npm, "pack", "--silent", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archive = folder / f"{source.folder}.tgz"
    if done.returncode or not archive.is_file():
        reason = (done.stderr.strip().splitlines() or ["no archive came"])[-1]
        raise SfumatoError(f"{name}: could not be fetched by npm ({reason})")
    part = folder / f".{source.folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(part, filter="data")
        part.replace(place)
    except (OSError, tarfile.TarError) as error:
        raise SfumatoError(f"{place}: could not be unpacked ({error}); free some space") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def slug(text: str) -> str:
    """Lower-case words joined by hyphens, as icons are named."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("’", "").replace("'", "")).strip("-")


def sequence(code: str) -> str:
    """Code points joined by "-", lower case, without the variation selector."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def split_of(label: str) -> str:
    """ "test" for five percent of the concepts; gender variants fall on the same side."""
    words = re.sub(r"[^a-z0-9]+", " ", label.lower()).split()
    kept = [w for w in words if w not in GENDERS]
    digest = hashlib.sha256(" ".join(kept or words).encode()).hexdigest()
    return "test" if int(digest, 16) % 100 < 5 else "train"


GENDERS = {"man", "woman", "person", "boy", "girl", "men", "women", "people"}


@foreign
class Word:
    """An emoji in emojibase's data."""

    hexcode: str
    label: str
    emoji: str = ""
    tags: tuple[str, ...] = ()
    group: int | None = None
    subgroup: int | None = None


@foreign
class Groups:
    """Their groups' names by number."""

    groups: dict[str, str]
    subgroups: dict[str, str]


@foreign
class Icon:
    """A drawing of iconify's; sizes that are absent are those of the set."""

    body: str
    width: Annotated[float, Range(gt=0, le=1e5)] | None = None
    height: Annotated[float, Range(gt=0, le=1e5)] | None = None
    left: Annotated[float, Range(-1e5, 1e5)] = 0
    top: Annotated[float, Range(-1e5, 1e5)] = 0


@foreign
class Alias:
    """Another name of an icon."""

    parent: str


@foreign
class Icons:
    """A set of icons."""

    icons: dict[str, Icon]
    aliases: dict[str, Alias] = field(default_factory=dict)
    width: Annotated[float, Range(gt=0, le=1e5)] = 16
    height: Annotated[float, Range(gt=0, le=1e5)] = 16

    def icon(self, name: str) -> Icon | None:
        """An icon by its name or another one of it."""
        for _ in range(len(self.aliases) + 1):
            if name in self.icons:
                return self.icons[name]
            if name not in self.aliases:
                break
            name = self.aliases[name].parent
        return None


def concepts(folder: Path) -> dict[str, dict[str, Any]]:
    """Metadata of every emoji but flags and components, by code-point sequence."""
    english = read_json(list[Word], folder / "en" / "data.json", LARGEST)
    korean = read_json(list[Word], folder / "ko" / "data.json", LARGEST)
    in_korean = {row.hexcode: row for row in korean}
    file = folder / "meta" / "groups.json"
    groups = read_json(Groups, file, LARGEST)
    by_sequence = {}
    for row in english:
        group = groups.groups.get(str(row.group))
        if group in (None, "flags", "component"):
            continue
        if str(row.subgroup) not in groups.subgroups:
            raise SfumatoError(f"{file}: has no subgroup {row.subgroup}, that of {row.hexcode:.40}")
        other = in_korean.get(row.hexcode)
        by_sequence[sequence(row.hexcode)] = {
            "hex": sequence(row.hexcode),
            "emoji": row.emoji,
            "label": row.label,
            "tags": list(row.tags),
            "label_ko": other.label if other else "",
            "tags_ko": list(other.tags) if other else [],
            "group": group,
            "subgroup": groups.subgroups[str(row.subgroup)],
            "split": split_of(row.label),
        }
    return by_sequence


def table(folder: Path) -> dict[str, str]:
    """A package's code-point sequence -> icon, empty if it has no such table."""
    file = folder / "chars.json"
    if not file.is_file():
        return {}
    chars = read_json(dict[str, str], file, LARGEST)
    return {sequence(code): name for code, name in chars.items()}


def named(
    icons: Icons,
    rows: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """Code-point sequence -> icon: by the first table that names one that is there, or by label."""
    known = {*icons.icons, *icons.aliases}
    icon_of = {}
    for code, row in rows.items():
        names = [table[code] for table in tables if code in table] + [slug(row["label"])]
        if there := [name for name in names if name in known]:
            icon_of[code] = there[0]
    return icon_of
