"""Models of a hub: found locally, pulled when asked, checked by their digests. The one place that
uses the network, and only in `pull`.

HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to every other program.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError, quoted
from sfumato.documents import read_json, read_text
from sfumato.models.files.hashes import take_in
from sfumato.recipe.names import HUB

log = logging.getLogger("sfumato")

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
UNUSED_PARTS = ("safety_checker/", "feature_extractor/")
VARIANTS = (None, "fp16", "fp32", "bf16")
"""Number formats in names of weights' files, the best first."""
FOREIGN_FORMATS = ("flax", "tf_model", "openvino", "onnx", "rust_model")


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
    return HUB.fullmatch(text) is not None


def parse(name: str) -> tuple[str, str | None]:
    """(repository, revision or None)."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def cache_folder(repository: str) -> Path:
    """The cache's folder of a repository, in the layout that all programs of the hub share."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def find(name: str) -> Path | None:
    """The local folder of a hub's model, None where it was not pulled. Asks nobody."""
    if not is_name(name):
        return None
    repository, revision = parse(name)
    root = cache_folder(repository)
    if ".." in (revision or "").split("/"):
        return None
    ref = root / "refs" / (revision or "main")
    commit = read_text(ref, 1000).strip() if ref.is_file() else revision or "main"
    if "/" in commit or commit in ("", ".", ".."):
        return None
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None


def blob_folder(snapshot: Path) -> Path | None:
    """Where the files of a snapshot in the hub's cache really lie; None of any other folder."""
    root = snapshot.resolve()
    folder = root.parent.parent / "blobs"
    # a link: a folder made to look like a repository, which leads anywhere
    return folder if root.parent.name == "snapshots" and not folder.is_symlink() else None


def pull(name: str) -> Path:
    """Download what a model needs, go on where an earlier pull stopped, and verify every file.

    Large files first, each to a part beside its place in the cache; the snapshot, which is what
    `find` looks for, is made when all are there.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if not is_name(name):
        raise SfumatoError(f"pull {quoted(name)}: write org/name or org/name@revision")
    if constants.HF_HUB_OFFLINE:
        raise SfumatoError(f"pull {name}: HF_HUB_OFFLINE is set; unset it to use the network")
    repository, revision = parse(name)
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        files = files_to_pull(remotes(info.siblings or []))
        if not files:
            raise SfumatoError(f"pull {name}: no weights there that sfumato reads")
        total = sum(file.size for file in files) / 1e6
        log.info("%s: %d files, %.1f MB, revision %s", name, len(files), total, info.sha)
        for file in files:
            if file.digest is not None:
                fetch(repository, str(info.sha), file)
        folder = Path(
            snapshot_download(
                repository, revision=revision or "main", allow_patterns=[f.path for f in files]
            )
        )
    except SfumatoError:
        raise
    except Exception as error:  # the hub's library raises whatever its transport does
        raise SfumatoError(f"pull {name}: {first_line(error)}; started again it goes on") from None
    for file in files:
        if not matches(folder / file.path, file):
            (folder / file.path).unlink()
            raise SfumatoError(f"{file.path}: differs from its digest and was removed; pull again")
    return folder


def fetch(repository: str, commit: str, file: Remote) -> None:
    """A large file into the cache: what is there of it stays, and it counts when its digest is
    right. The hub's library would begin anew."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    folder = cache_folder(repository) / "blobs"
    target, part = folder / str(file.digest), folder / f"{file.digest}.part"
    if target.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    offset = part.stat().st_size if part.is_file() else 0
    if offset < file.size:
        with part.open("ab") as stream:
            http_get(
                hf_hub_url(repository, file.path, revision=commit),
                stream,
                resume_size=offset,
                headers=build_hf_headers(),
                expected_size=file.size,
            )
    if not matches(part, file):
        part.unlink()
        raise SfumatoError(f"{file.path}: differs from its digest and was removed; pull again")
    part.replace(target)


def first_line(error: Exception) -> str:
    """The first line of what the hub's library says."""
    return " ".join((str(error) or type(error).__name__).strip().split("\n")[0].split())[:200]


def remotes(siblings: Iterable[Any]) -> list[Remote]:
    """Files as the hub lists them."""
    files = []
    for file in siblings:
        lfs = getattr(file, "lfs", None)
        digest = getattr(lfs, "sha256", None) if lfs is not None else None
        files.append(Remote(file.rfilename, int(file.size or 0), digest, file.blob_id))
    return files


def files_to_pull(files: Sequence[Remote]) -> list[Remote]:
    """What loading reads: configurations, vocabularies, and of each part one set of weights.

    safetensors before pickles, full precision before variants; of a pipeline no single-file copies
    and none of the parts that sfumato does not use.
    """
    pipeline = any(file.path == "model_index.json" for file in files)
    needed = []
    by_folder: dict[str, list[Remote]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if any(mark in file.path for mark in FOREIGN_FORMATS):
            continue
        if pipeline and file.path.startswith(UNUSED_PARTS):
            continue
        if name.endswith(WEIGHTS):
            if folder or not pipeline:
                by_folder.setdefault(folder, []).append(file)
        elif name.endswith((".json", ".txt", ".gz", ".bpe", "spiece.model")):
            needed.append(file)
    for group in by_folder.values():
        needed += weight_set(group) if pipeline else without_twins(group)
    return needed


def without_twins(files: Sequence[Remote]) -> list[Remote]:
    """Weights of many kinds, each once: no pickle and no variant of what is there in a better way.

    transformers calls its pickles pytorch_model and the same as safetensors model.
    """
    best: dict[str, tuple[int, int, Remote]] = {}
    for file in files:
        name = Path(file.path).name
        ending = next(k for k, ending in enumerate(WEIGHTS) if name.endswith(ending))
        variant = variant_of(name)
        stem = name.removesuffix(WEIGHTS[ending]).removeprefix("pytorch_")
        order = VARIANTS.index(variant) if variant in VARIANTS else 0
        if order:
            stem = stem.replace(f".{variant}", "", 1)
        rank = (ending, order, file)
        if stem not in best or rank[:2] < best[stem][:2]:
            best[stem] = rank
    return [file for *_, file in best.values()]


def weight_set(files: Sequence[Remote]) -> list[Remote]:
    """One set of a part's weights."""
    for ending in WEIGHTS:
        candidates = [f for f in files if f.path.endswith(ending) and "non_ema" not in f.path]
        for variant in VARIANTS:
            if group := [f for f in candidates if variant_of(Path(f.path).name) == variant]:
                return group
    return []


def variant_of(name: str) -> str | None:
    """ "fp16" of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors."""
    inner = name.split(".")[1:-1]
    return inner[0].split("-")[0] if inner else None


def matches(path: Path, file: Remote) -> bool:
    """Whether a file's content is what the hub says it is."""
    if file.digest is None and file.blob is None:
        return path.stat().st_size == file.size
    digest = sha256() if file.digest else sha1(f"blob {path.stat().st_size}\0".encode())
    take_in(digest, path)
    return digest.hexdigest() == (file.digest or file.blob)


def pulled_pipelines() -> list[tuple[str, str]]:
    """(name, kind) of every pipeline in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    except (OSError, ValueError) as error:  # no folder, or one that may not be read
        log.warning("the hub's cache: cannot be listed (%s)", error)
        return []
    pipelines = []
    for repository in cache.repos:
        for revision in repository.revisions:
            index = revision.snapshot_path / "model_index.json"
            if repository.repo_type == "model" and index.is_file():
                pipelines.append((repository.repo_id, _kind(index)))
                break
    return sorted(pipelines)


def _kind(index: Path) -> str:
    """Class of a pipeline, or what is wrong with its file: the others are listed all the same."""
    try:
        name = read_json(dict[str, Any], index).get("_class_name")
    except SfumatoError as error:
        return f"damaged ({error})"
    return name if isinstance(name, str) else "pipeline"
