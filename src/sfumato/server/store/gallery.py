"""The gallery's rows: pictures that jobs have made, searched, paged, hidden, and what they are of.

Words are looked for anywhere in the folded text, by a scan: Korean puts endings to its words, which
an index of whole words would not find.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

PICTURES = (
    "FROM jobs j JOIN shown s ON s.number = j.number JOIN results r ON r.job = j.id"
    " JOIN pictures p ON p.sha256 = r.sha256"
    " WHERE j.client = ? AND p.width IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM jobs t WHERE t.id = j.parent AND t.kind = 'train')"
)
COLUMNS = (
    "SELECT j.number, j.id AS job, j.parent, j.request, j.created AS at, r.place, r.name, r.seed,"
    " r.hidden, p.sha256, p.bytes, p.width, p.height, p.media_type"
)


def folded(text: str) -> str:
    """The text as it is searched: without case, accents, and forms of the same letters."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(p for p in parts if not unicodedata.combining(p)))


@dataclass(frozen=True)
class Search:
    """words: all of which are in the prompt or the job's name; model and method: of its recipe."""

    words: str = ""
    model: str | None = None
    method: str | None = None

    def clauses(self) -> tuple[str, list[Any]]:
        """What rows have to be, and the values of it."""
        words = folded(self.words).split()
        sql = " AND instr(s.words, ?)" * len(words)
        values: list[Any] = [*words]
        if self.model is not None:
            sql += " AND s.model = ?"
            values.append(self.model)
        if self.method is not None:
            sql += " AND instr(s.methods, ?)"
            values.append(f" {self.method} ")
        return sql, values


def page(
    client: str, search: Search, before: tuple[int, int] | None, limit: int
) -> tuple[str, list[Any]]:
    """Pictures, the newest job's first, after the one of that number and place."""
    clauses, values = search.clauses()
    sql = f"{COLUMNS} {PICTURES} AND r.hidden IS NULL{clauses}"
    values = [client, *values]
    if before is not None:
        number, place = before
        sql += " AND j.number <= ? AND (j.number < ? OR r.place > ?)"
        values += [number, number, place]
    return f"{sql} ORDER BY j.number DESC, r.place LIMIT ?", [*values, limit]


def count(client: str, search: Search) -> tuple[str, list[Any]]:
    """How many there are."""
    clauses, values = search.clauses()
    return f"SELECT count(*) AS n {PICTURES} AND r.hidden IS NULL{clauses}", [client, *values]


def one(client: str, job: str, place: int) -> tuple[str, list[Any]]:
    """A picture, a hidden one too."""
    return f"{COLUMNS} {PICTURES} AND j.id = ? AND r.place = ?", [client, job, place]


def hide(
    connection: sqlite3.Connection, pictures: Iterable[tuple[str, int]], at: float | None
) -> None:
    """Hide pictures of jobs from that time on, or show them again."""
    connection.executemany(
        "UPDATE results SET hidden = ? WHERE job = ? AND place = ?",
        [(at, job, place) for job, place in pictures],
    )


def makers(client: str, hashes: Sequence[str]) -> tuple[str, list[Any]]:
    """Jobs that have made any of these pictures, with what each of them took."""
    marks = ", ".join("?" * len(hashes))
    sql = (
        "SELECT DISTINCT i.sha256 AS source, r.sha256 AS made, j.request FROM results r"
        " JOIN jobs j ON j.id = r.job JOIN inputs i ON i.job = j.id"
        f" WHERE j.client = ? AND j.kind = 'recipe' AND r.sha256 IN ({marks})"
    )
    return sql, [client, *hashes]


def takers(client: str, hashes: Sequence[str]) -> tuple[str, list[Any]]:
    """Jobs that took any of these pictures, with what each of them has made."""
    marks = ", ".join("?" * len(hashes))
    sql = (
        "SELECT DISTINCT i.sha256 AS source, r.sha256 AS made, j.request FROM inputs i"
        " JOIN jobs j ON j.id = i.job JOIN results r ON r.job = j.id"
        f" WHERE j.client = ? AND j.kind = 'recipe' AND i.sha256 IN ({marks})"
        " AND r.hidden IS NULL"
    )
    return sql, [client, *hashes]


def described(client: str, hashes: Sequence[str]) -> tuple[str, list[Any]]:
    """Each picture once, with the first job of the client's that made it, if any did."""
    marks = ", ".join("?" * len(hashes))
    sql = (
        "SELECT p.sha256, p.width, p.height, p.created AS at, min(j.number) AS number,"
        " j.id AS job, j.request, r.place, r.hidden FROM pictures p"
        " LEFT JOIN results r ON r.sha256 = p.sha256"
        " AND r.job IN (SELECT id FROM jobs WHERE client = ? AND kind = 'recipe')"
        " LEFT JOIN jobs j ON j.id = r.job"
        f" WHERE p.width IS NOT NULL AND p.sha256 IN ({marks}) GROUP BY p.sha256"
    )
    return sql, [client, *hashes]
