"""The tables, and how a database of an earlier version becomes one of this."""

from __future__ import annotations

import sqlite3

from sfumato.core.errors import SfumatoError

APPLICATION = 0x5FADA700  # marks a file as a database of this server
APPLICATION -= 1 << 31  # SQLite keeps 32 bits with a sign

FIRST = """
CREATE TABLE clients (
  name TEXT PRIMARY KEY,
  paused INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  client TEXT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  phase TEXT NOT NULL,
  parent TEXT REFERENCES jobs (id) ON DELETE CASCADE,
  name TEXT NOT NULL DEFAULT '',
  files TEXT NOT NULL DEFAULT '[]',
  priority INTEGER NOT NULL,
  position REAL NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0,
  cancelling TEXT,
  request TEXT NOT NULL,
  key TEXT,
  error TEXT,
  done REAL NOT NULL DEFAULT 0,
  total REAL,
  created REAL NOT NULL,
  started REAL,
  ended REAL,
  UNIQUE (client, key)
) STRICT;
CREATE INDEX jobs_of_client ON jobs (client, number);
CREATE INDEX jobs_of_parent ON jobs (parent, state) WHERE parent IS NOT NULL;
CREATE INDEX jobs_open ON jobs (state) WHERE state IN ('queued', 'running');

CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  parent TEXT,
  client TEXT NOT NULL,
  event TEXT NOT NULL,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_job ON events (job, number);
CREATE INDEX events_of_parent ON events (parent, number) WHERE parent IS NOT NULL;
CREATE INDEX events_of_client ON events (client, number);

CREATE TABLE pictures (
  sha256 TEXT PRIMARY KEY,
  bytes INTEGER NOT NULL,
  media_type TEXT NOT NULL,
  width INTEGER,
  height INTEGER,
  created REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
  client TEXT NOT NULL,
  sha256 TEXT NOT NULL REFERENCES pictures (sha256),
  used REAL NOT NULL,
  PRIMARY KEY (client, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_of_picture ON uploads (sha256);

CREATE TABLE inputs (
  job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  sha256 TEXT NOT NULL REFERENCES pictures (sha256),
  PRIMARY KEY (job, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX inputs_of_picture ON inputs (sha256);

CREATE TABLE results (
  job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  place INTEGER NOT NULL,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL REFERENCES pictures (sha256),
  seed INTEGER,
  PRIMARY KEY (job, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX results_of_picture ON results (sha256);

CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

SHOWN = """
INSERT INTO shown (number, words, model, methods)
SELECT number,
  folded(coalesce(request ->> '$.recipe.prompt', '') || ' ' || name),
  coalesce(request ->> '$.recipe.model', ''),
  ' ' || coalesce((SELECT group_concat(value ->> '$.method', ' ')
                   FROM json_each(jobs.request, '$.recipe.methods')), '') || ' '
FROM jobs WHERE kind = 'recipe'
"""
"""What is searched for among pictures, of every job that makes some."""

COSTS = """
CREATE TABLE costs (
  model TEXT NOT NULL,
  size TEXT NOT NULL,
  device TEXT NOT NULL,
  seconds REAL NOT NULL,
  samples INTEGER NOT NULL,
  PRIMARY KEY (model, size, device)
) STRICT, WITHOUT ROWID;
"""

DURATIONS = """
CREATE TABLE durations (
  model TEXT NOT NULL,
  size TEXT NOT NULL,
  device TEXT NOT NULL,
  seconds REAL NOT NULL,
  samples INTEGER NOT NULL,
  PRIMARY KEY (model, size, device)
) STRICT, WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
"""

GALLERY = f"""
ALTER TABLE results ADD COLUMN hidden REAL;

CREATE TABLE shown (
  number INTEGER PRIMARY KEY REFERENCES jobs (number) ON DELETE CASCADE,
  words TEXT NOT NULL,
  model TEXT NOT NULL,
  methods TEXT NOT NULL
) STRICT;
{SHOWN};
"""

TRAININGS = """
CREATE INDEX jobs_trained ON jobs (client, number) WHERE kind = 'train';
"""
"""Few among many jobs, and looked up whenever a page asks what methods may name."""

MIGRATIONS = (FIRST, COSTS, DURATIONS, GALLERY, TRAININGS)
"""What leads from each version to the next; the last is this one's."""
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring a database, maybe an empty one, to this version; all of it or nothing."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if (tables or version) and application != APPLICATION:
        raise SfumatoError(f"{name}: is another program's database; give another --folder")
    if version > VERSION:
        raise SfumatoError(
            f"{name}: is of schema {version}, this version reads up to {VERSION}; update sfumato"
        )
    if version == VERSION:
        return
    steps = "".join(MIGRATIONS[version:])
    connection.executescript(
        f"BEGIN IMMEDIATE;{steps}PRAGMA application_id={APPLICATION};"
        f"PRAGMA user_version={VERSION};COMMIT;"
    )
