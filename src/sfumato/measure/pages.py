"""How a sweep is shown: a contact sheet, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import csv
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato import images
from sfumato.images.writing import write_whole
from sfumato.measure.axis import said
from sfumato.models import replay
from sfumato.models.result import data_url

if TYPE_CHECKING:
    from sfumato.measure.points import Cell
    from sfumato.measure.sweep import Sweep

LARGEST = 4096  # of a sheet's side, in pixels
CAPTION = 40  # letters of a value


def rows(sweep: Sweep) -> list[tuple[str, list[tuple[Cell, Path | None]]]]:
    """A row for each prompt and seed: its label, and a place for each value."""
    seeds = max((len(cell.files) for cell in sweep.cells), default=0)
    labelled = []
    for text in sweep.prompts:
        mine = [cell for cell in sweep.cells if cell.prompt == text]
        for j in range(seeds):
            label = f"{text}, seed {sweep.parent.seed + j}"
            places = [(cell, cell.files[j] if cell.files else None) for cell in mine]
            labelled.append((label.lstrip(", "), places))
    return labelled


def sheet(sweep: Sweep) -> None:
    """sheet.png: the guides, then values in columns, prompts and seeds in rows.

    The marked value says so.
    """
    lines = rows(sweep)
    if not lines:
        return
    values = sweep.axis.values
    first: list[Any] = list(sweep.guides.values())  # in the first row; those below stay empty
    columns = len(first) + len(values)
    side = max(64, min(256, LARGEST // columns, LARGEST // len(lines)))
    captions = [
        f"{said(v)[:CAPTION]}{' (marked)' if v == sweep.curve.chosen else ''}" for v in values
    ]
    cells, below = [], []
    for k, (_, places) in enumerate(lines):
        cells += [*(first if k == 0 else [None] * len(first)), *(file for _, file in places)]
        below += [*(sweep.guides if k == 0 else [""] * len(first)), *captions]
    page = images.sheet(
        cells,
        below,
        columns,
        title=sweep.axis.name,
        rows=[label for label, _ in lines],
        cell=side,
    )
    composite = bool(first)
    images.Picture.of(page, recipe=sweep.parent, composite=composite).save(
        sweep.folder / "sheet.png"
    )


STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:24px;color:#1c1c1e;background:#fafaf9}
table{border-collapse:separate;border-spacing:6px}
th{font-weight:600;font-size:13px;text-align:left;max-width:160px}
thead th{position:sticky;top:0;background:#fafaf9;text-align:center;padding:6px}
th.chosen{color:#c1344b}
td img{width:128px;display:block;cursor:zoom-in;image-rendering:auto;border:1px solid #e0e0dd}
td.failed{width:128px;font-size:12px;color:#a33;vertical-align:top}
figure.guide{display:inline-block;margin:0 12px 12px 0;font-size:13px}
figure.guide img{max-width:256px;max-height:256px;display:block;border:1px solid #e0e0dd}
img.curve{max-width:100%;height:auto}
dialog{border:1px solid #ccc;border-radius:8px;max-width:min(90vw,900px);padding:16px}
dialog img{min-width:256px;max-width:100%}
dialog pre{white-space:pre-wrap;font-size:12px;max-height:40vh;overflow:auto}
"""
SCRIPT = """
const box=document.querySelector('dialog');
document.querySelectorAll('td img').forEach(i=>i.onclick=()=>{
  box.querySelector('img').src=i.src;box.querySelector('h3').textContent=i.alt;
  box.querySelector('pre').textContent=i.dataset.more;box.showModal()});
box.onclick=()=>box.close();
"""


def html(sweep: Sweep) -> None:
    """index.html: the curve, the grid, and every picture's measures and recipe on a click."""
    measures = _measures(sweep.folder / "pictures.csv")
    head = "".join(
        f"<th{' class=chosen' if v == sweep.curve.chosen else ''}>{escape(said(v))}</th>"
        for v in sweep.axis.values
    )
    body = "".join(
        f"<tr><th>{escape(label)}</th>{''.join(_place(sweep, *p, measures) for p in places)}</tr>"
        for label, places in rows(sweep)
    )
    curve = sweep.folder / "curve.png"
    drawn = f'<p><img class="curve" src="{_data(curve)}" alt="curve"></p>' if curve.exists() else ""
    mark = sweep.curve.chosen
    chosen = (
        "" if mark is None else f"<p>Marked: {escape(said(mark))} ({escape(sweep.curve.rule)}).</p>"
    )
    name = escape(sweep.axis.name)
    guides = "".join(
        f'<figure class=guide><img src="{data_url(_small(picture))}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, picture in sweep.guides.items()
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>sweep of {name}</title>"
        f"<style>{STYLE}</style><h1>{name}</h1>{guides}{chosen}{drawn}"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        "<h2>Recipe</h2>"
        f"<pre>{escape(sweep.parent.to_json(indent=1))}</pre>"
        "<dialog><h3></h3><img alt=''><pre></pre></dialog>"
        f"<script>{SCRIPT}</script></html>\n"
    )
    write_whole(sweep.folder / "index.html", page.encode())


def _small(picture: images.Picture) -> images.Picture:
    small = picture.with_alpha()
    small.thumbnail((512, 512))
    return small


def _place(sweep: Sweep, cell: Cell, file: Path | None, measures: dict[str, Any]) -> str:
    if file is None:
        return f'<td class="failed">{escape(cell.error)}</td>'
    own = measures.get(file.relative_to(sweep.folder).as_posix(), {})
    recipe = replay.read_recipe(file).to_data()
    more = json.dumps({"measures": own, "recipe": recipe}, indent=1, ensure_ascii=False)
    alt = f"{sweep.axis.name} = {said(cell.value)}, {cell.prompt}"
    return (
        f'<td><img loading=lazy src="{_data(file)}" alt="{escape(alt)}" '
        f'data-more="{escape(more)}"></td>'
    )


def _measures(file: Path) -> dict[str, Any]:
    with file.open(newline="", encoding="utf-8") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def _data(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
