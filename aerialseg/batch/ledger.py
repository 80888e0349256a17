"""What was done, in SQLite: one line an input, one line a run. It decides what need not be done again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aerialseg.errors import OutputError

LEDGER = "ledger.sqlite"
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS inputs (source TEXT PRIMARY KEY, {columns});
CREATE INDEX IF NOT EXISTS of_run ON inputs (run, status);
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, began REAL, ended REAL, exit_code INTEGER, totals TEXT);
PRAGMA user_version = 1;
COMMIT;
"""
COMMIT_EVERY_S = 0.5
"""Small rasters come faster than a disk can be flushed; what a kill takes from the ledger is done again, the same."""
_JSON = ("settings", "outputs", "areas", "seconds", "source_fields")
_NUMBER = (int, float)
_INSIDE: dict[str, Any] = {"outputs": str, "source_fields": str, "areas": _NUMBER, "seconds": _NUMBER}
"""What is in the JSON objects."""
_RUN: dict[str, Any] = {"id": int, "began": _NUMBER, "ended": (*_NUMBER, type(None)), "exit_code": (int, type(None))}
_TIMES = ("began", "ended")
_YEAR_9999_S = 253_370_764_800
"""Seconds since the epoch: dates end there."""
_OUTSIDE = tuple(f"SQLITE_{name}" for name in ("FULL", "IOERR", "READONLY", "BUSY", "LOCKED", "CANTOPEN", "PERM"))
"""Errors of the disk, not of the ledger."""


@dataclass(slots=True)
class Entry:
    """One input: what is known of it since it was last looked at.

    identity, sha256: of the input when it was done. model, numerics, settings, version: what it was done with.
    began, ended: of the last try, in seconds since the epoch. areas: class name to m². seconds: by stage.
    """

    source: str
    name: str
    status: str = WAITING
    reason: str = ""
    run: int = 0
    attempts: int = 0
    identity: str = ""
    sha256: str = ""
    model: str = ""
    numerics: str = ""
    version: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    source_fields: dict[str, str] = field(default_factory=dict)
    error_kind: str = ""
    error: str = ""
    began: float = 0.0
    ended: float = 0.0
    worker: str = ""
    pixels: int = 0
    valid_px: int = 0
    lost_px: int = 0
    polygons: int = 0
    areas: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    thumbnail: bytes = b""


_NAMES = [entry.name for entry in fields(Entry)]
_KINDS = {"str": str, "int": int, "float": _NUMBER, "bytes": bytes}
_TYPES: dict[str, Any] = {entry.name: _KINDS.get(str(entry.type), dict) for entry in fields(Entry)}


class Ledger:
    """The ledger of a job's folder; ``read_only`` opens one that another process may be writing."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / LEDGER
        self._committed = 0.0
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with self._using():
            # Several threads use it, one at a time (the run's lock sees to that).
            self._base = sqlite3.connect(uri, uri=True, timeout=60, check_same_thread=False)
            self._base.row_factory = sqlite3.Row
            if not read_only:
                self._prepare()
            self._base.execute(f"SELECT {', '.join(_NAMES)} FROM inputs LIMIT 0")
            self._base.execute(f"SELECT {', '.join(_RUN)} FROM runs LIMIT 0")

    def _prepare(self) -> None:
        """Make what a new ledger lacks; one that is damaged is found here, before any work."""
        # A rollback journal, unlike a write-ahead log, works on network file systems as well.
        self._base.execute("PRAGMA journal_mode = DELETE")
        (found,) = self._base.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise ValueError(found)
        columns = ", ".join(name for name in _NAMES if name != "source")
        self._base.executescript(_SCHEMA.format(columns=columns))

    def close(self) -> None:
        try:
            self.commit()
        finally:
            self._base.close()

    def commit(self, *, only_if_due: bool = False) -> None:
        """Flush what was changed; ``only_if_due``: not more often than twice a second."""
        if not self._base.in_transaction or (only_if_due and time.monotonic() - self._committed < COMMIT_EVERY_S):
            return
        with self._using():
            self._base.commit()
        self._committed = time.monotonic()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """A block in which whatever is wrong with the database becomes OutputError."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(_OUTSIDE):
                hint = "check the folder, its permissions and its free space"
                raise OutputError(f"cannot use the ledger {self.path}: {error}; {hint}") from error
            raise self._damaged(error) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> OutputError:
        return OutputError(
            f"the ledger {self.path} is damaged ({error}): delete it to start anew; finished outputs stay, but the "
            "next run computes every input again"
        )

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._using():
            yield self._base
        self.commit(only_if_due=True)

    def begin_run(self, began: float) -> int:
        """The number of a new run."""
        with self._changing() as base:
            return int(base.execute("INSERT INTO runs (began) VALUES (?)", (began,)).lastrowid or 0)

    def end_run(self, run: int, ended: float, exit_code: int, totals: Mapping[str, Any]) -> None:
        with self._changing() as base:
            base.execute(
                "UPDATE runs SET ended = ?, exit_code = ?, totals = ? WHERE id = ?",
                (ended, exit_code, json.dumps(totals), run),
            )
        self.commit()

    def last_run(self) -> dict[str, Any] | None:
        with self._using():
            row = self._base.execute(f"SELECT {', '.join(_RUN)} FROM runs ORDER BY id DESC LIMIT 1").fetchone()
            return None if row is None else _checked(row, _RUN)

    def put(self, *entries: Entry) -> None:
        """Write the entries."""
        marks = ", ".join("?" * len(_NAMES))
        with self._changing() as base:
            base.executemany(
                f"INSERT OR REPLACE INTO inputs ({', '.join(_NAMES)}) VALUES ({marks})", map(_row, entries)
            )

    def change(self, sources: Iterable[str], **values: Any) -> None:
        """Set some columns of some inputs."""
        what = ", ".join(f"{name} = ?" for name in values)
        with self._changing() as base:
            base.executemany(
                f"UPDATE inputs SET {what} WHERE source = ?", [(*values.values(), source) for source in sources]
            )

    def entries(self, *, thumbnails: bool = False, **where: Any) -> Iterator[Entry]:
        """Entries in the order of their names, read as they are asked for."""
        columns = [name if thumbnails or name != "thumbnail" else "x'' AS thumbnail" for name in _NAMES]
        condition = " AND ".join(f"{name} = ?" for name in where) or "1"
        query = f"SELECT {', '.join(columns)} FROM inputs WHERE {condition} ORDER BY name, source"
        with self._using():
            for row in self._base.execute(query, tuple(where.values())):
                yield Entry(**_checked(row, _TYPES))


def _checked(row: sqlite3.Row, types: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row, JSON decoded. Raises ValueError for one of another type."""
    values = {name: json.loads(str(row[name] or "{}")) if kind is dict else row[name] for name, kind in types.items()}
    for name, kind in types.items():
        inside, value = _INSIDE.get(name), values[name]
        if not isinstance(value, kind) or (inside and not all(isinstance(one, inside) for one in value.values())):
            raise ValueError(f"column {name} holds {str(value)[:40]!r}")
        if name in _TIMES and value is not None and not 0 <= value < _YEAR_9999_S:
            raise ValueError(f"column {name} holds {value:g}")
    return values


def _row(entry: Entry) -> list[Any]:
    values = {name: getattr(entry, name) for name in _NAMES}
    return [json.dumps(value, default=str) if name in _JSON else value for name, value in values.items()]
