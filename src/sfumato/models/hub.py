"""Models of a hub: found locally, pulled when asked, checked by their digests. The one place that
uses the network, and only in `pull`.

HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to every other program.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError

log = logging.getLogger("sfumato")

NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$")
WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
UNUSED = ("safety_checker/", "feature_extractor/", "image_encoder/")
FOREIGN = ("flax", "tf_model", "openvino", "onnx", "rust_model")


@dataclass(frozen=True)
class Remote:
    """A file of a repository: size in bytes, and what its content must hash to.

    digest: sha256 of a large file; blob: git's own digest of a small one.
    """

    path: str
    size: int
    digest: str | None = None
    blob: str | None = None


def is_name(text: str) -> bool:
    """Whether it is written like org/name or org/name@revision."""
    return NAME.match(text) is not None


def parsed(name: str) -> tuple[str, str | None]:
    """(repository, revision or None)."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def find(name: str) -> Path | None:
    """The local folder of a hub's model, None where it was not pulled. Asks nobody."""
    if not is_name(name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = parsed(name)
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


def pull(name: str) -> Path:
    """Download what a model needs, go on where an earlier pull stopped, and verify every file."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if not is_name(name):
        raise SfumatoError(f"pull {name!r}: write org/name or org/name@revision")
    if constants.HF_HUB_OFFLINE:
        raise SfumatoError(f"pull {name}: HF_HUB_OFFLINE is set; unset it to use the network")
    repository, revision = parsed(name)
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = chosen(remotes(info.siblings or []))
        if not files:
            raise SfumatoError(f"pull {name}: no weights there that sfumato reads")
        total = sum(file.size for file in files) / 1e6
        log.info("%s: %d files, %.1f MB, revision %s", name, len(files), total, info.sha)
        folder = Path(
            snapshot_download(
                repository, revision=revision or "main", allow_patterns=[f.path for f in files]
            )
        )
    except SfumatoError:
        raise
    except Exception as error:  # the hub's library raises whatever its transport does
        raise SfumatoError(f"pull {name}: {said(error)}; started again it goes on") from None
    verify(folder, files)
    return folder


def said(error: Exception) -> str:
    """The first line of what the hub's library says."""
    return " ".join((str(error) or type(error).__name__).strip().split("\n")[0].split())[:200]


def remotes(siblings: Iterable[Any]) -> list[Remote]:
    """Files as the hub lists them."""
    made = []
    for file in siblings:
        lfs = getattr(file, "lfs", None)
        digest = getattr(lfs, "sha256", None) if lfs is not None else None
        made.append(Remote(file.rfilename, int(file.size or 0), digest, file.blob_id))
    return made


def chosen(files: Sequence[Remote]) -> list[Remote]:
    """What loading reads: configurations, vocabularies, and of each part one set of weights.

    safetensors before pickles, full precision before variants; of a pipeline no single-file copies
    and none of the parts that sfumato does not use.
    """
    pipeline = any(file.path == "model_index.json" for file in files)
    kept = []
    by_folder: dict[str, list[Remote]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if any(word in file.path for word in FOREIGN):
            continue
        if pipeline and file.path.startswith(UNUSED):
            continue
        if name.endswith(WEIGHTS):
            if folder or not pipeline:
                by_folder.setdefault(folder, []).append(file)
        elif name.endswith((".json", ".txt", ".gz", ".bpe")):
            kept.append(file)
    for group in by_folder.values():
        kept += one_set(group) if pipeline else group
    return kept


def one_set(files: Sequence[Remote]) -> list[Remote]:
    """One set of a part's weights."""
    for ending in WEIGHTS:
        found = [f for f in files if f.path.endswith(ending) and "non_ema" not in f.path]
        for variant in (None, "fp16", "fp32", "bf16"):
            if group := [f for f in found if variant_of(Path(f.path).name) == variant]:
                return group
    return []


def variant_of(name: str) -> str | None:
    """ "fp16" of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors."""
    inner = name.split(".")[1:-1]
    return inner[0].split("-")[0] if inner else None


def verify(folder: Path, files: Sequence[Remote]) -> None:
    """Compare every file with the digest that the hub gave; a wrong one is removed."""
    for file in files:
        path = folder / file.path
        if not path.is_file():
            raise SfumatoError(f"{path}: was not downloaded; start the pull again")
        if matches(path, file):
            continue
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise SfumatoError(f"{file.path}: differs from its digest and was removed; pull it again")


def matches(path: Path, file: Remote) -> bool:
    """Whether a file's content is what the hub says it is."""
    if file.digest is None and file.blob is None:
        return path.stat().st_size == file.size
    digest = sha256() if file.digest else sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == (file.digest or file.blob)


def pulled() -> list[tuple[str, str]]:
    """(name, kind) of every pipeline in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    found = []
    for repository in cache.repos:
        for revision in repository.revisions:
            index = revision.snapshot_path / "model_index.json"
            if repository.repo_type == "model" and index.is_file():
                kind = json.loads(index.read_text()).get("_class_name", "pipeline")
                found.append((repository.repo_id, str(kind)))
                break
    return sorted(found)
