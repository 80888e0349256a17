"""Damage to a file, by the kind of the file: the same random numbers do the same damage."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64, -(2**63), 10**400)
FLOATS = (0.0, -0.0, 0.5, -1e-9, 5e-324, 1e-300, 1e30, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    " ",
    "x" * 5000,
    "nul\0",
    "a\nb",
    "\ud800",
    "é",
    "../../up",
    "/nonexistent/a.tif",
    "%s{0}$x",
    "[b]",
    "1e999",
)
NESTED: Any = json.loads("[" * 200 + "]" * 200)
ODD: tuple[Any, ...] = (None, True, False, *NUMBERS, *FLOATS, *TEXTS, [], {}, [None], {"": None}, [[]], NESTED)
"""Values that JSON and SQLite can hold and nobody expects."""
WORDS = (
    "",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    "9" * 30,
    "true",
    "''",
    '"',
    '"\\u0000"',
    "[]",
    "{}",
    "[[1]]",
    "\0",
    "\t",
    "é",
)
CONTROL = (
    "\0",
    "\x1b",
    "\r",
    "\n",
    "\ufeff",
    "\u2028",
    ",",
    ";",
    '"',
    "[",
    "]",
    "=",
    "<",
    "&#0;",
    "]]>",
    "<!DOCTYPE x>",
)


def mutate(path: Path, rng: Random) -> None:
    """Damage the file in one to three places."""
    mutator = _BY_SUFFIX.get(path.suffix, _bytes)
    for _ in range(rng.choice((1, 1, 2, 3))):
        chosen = _bytes if rng.random() < 0.15 else mutator
        if chosen is _database:
            _database(path, rng)
            continue
        content = path.read_bytes()
        path.unlink()  # it may be a second name of the template's
        path.write_bytes(chosen(content, rng))


def _bytes(content: bytes, rng: Random) -> bytes:
    """Bits flipped, a piece lost, doubled, zeroed or overwritten; rather at the beginning, where headers are."""
    reach = max(1, len(content) if rng.random() < 0.5 else min(len(content), 400))
    at, length = rng.randrange(reach), rng.choice((1, 1, 2, 4, 8, 64, 1000))
    piece = content[at : at + length]
    new = rng.choice(
        (
            bytes([(piece or b"\0")[0] ^ (1 << rng.randrange(8))]) + piece[1:],
            b"",
            piece * 2,
            bytes(len(piece)),
            b"\xff" * len(piece),
            rng.randbytes(len(piece)),
        )
    )
    return content[:at] if rng.random() < 0.1 else content[:at] + new + content[at + length :]


def _tiff(content: bytes, rng: Random) -> bytes:
    """A field of an entry of one of its directories, or a number that an entry points at."""
    changed = bytearray(content)
    try:
        at = rng.choice(_directories(content))
        (count,) = struct.unpack_from("<H", content, at)
        entry = at + 2 + 12 * rng.randrange(count + 1)  # the last one is the pointer to the next directory
        kind, length, pointer = struct.unpack_from("<HII", content, entry + 2)
        wide = {3: 2, 4: 4, 5: 8, 12: 8, 16: 8}.get(kind, 1)
        choice = rng.randrange(6)
        if choice < 2 and length * wide > 4:
            place = pointer + wide * rng.randrange(min(length, 500))
            value = struct.pack("<d", rng.choice(FLOATS)) if wide == 8 else _number(wide, rng)
        else:
            place, size = ((entry, 2), (entry + 2, 2), (entry + 4, 4), (entry + 8, 4), (entry + 8, 4), (entry + 8, 2))[
                choice
            ]
            value = _number(size, rng, (*range(1, 19), 33550, 34736, 42112, 42113, at, len(content)))
        changed[place : place + len(value)] = value
    except (struct.error, IndexError):  # damaged before
        return _bytes(content, rng)
    return bytes(changed)


def _number(size: int, rng: Random, others: tuple[int, ...] = ()) -> bytes:
    return (rng.choice((*NUMBERS[:12], *others)) % (1 << 8 * size)).to_bytes(size, "little")


def _directories(content: bytes) -> list[int]:
    """Where the directories of a little-endian classic TIFF begin."""
    found: list[int] = []
    (at,) = struct.unpack_from("<I", content, 4)
    while at and at not in found and at < len(content):
        found.append(at)
        (count,) = struct.unpack_from("<H", content, at)
        (at,) = struct.unpack_from("<I", content, at + 2 + 12 * count)
    return found


def _json(content: bytes, rng: Random) -> bytes:
    """A value of the tree replaced, removed, renamed or moved to another place."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return _text(content, rng)
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return json.dumps(rng.choice(ODD)).encode()
    parent, key = rng.choice(places)
    choice = rng.randrange(8)
    if choice == 0:
        del parent[key]
    elif choice == 1 and isinstance(parent, dict):
        parent[rng.choice(TEXTS)] = parent.pop(key)
    elif choice == 2:
        other, name = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name]))
    elif choice == 3:
        parent[key] = [parent[key]]
    else:
        parent[key] = rng.choice(ODD)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    """(its parent, its key) of each value in the tree."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def _text(content: bytes, rng: Random) -> bytes:
    """A word replaced, a line lost, doubled or moved, a character put in."""
    text = content.decode("utf-8", "replace")
    lines, words = text.splitlines(keepends=True), list(re.finditer(r"[\w.+-]+|\"[^\"\n]*\"", text))
    choice = rng.randrange(8)
    if choice == 0 or not words:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(CONTROL) + text[at:]
    elif choice < 3:
        line = lines.pop(rng.randrange(len(lines)))
        lines[(at := rng.randrange(len(lines) + 1)) : at] = [line] * rng.choice((0, 1, 2))
        text = "".join(lines)
    else:
        word, others = rng.choice(words), [*WORDS, rng.choice(words)[0]]
        text = text[: word.start()] + rng.choice(others) + text[word.end() :]
    return text.encode(rng.choice(("utf-8",) * 12 + ("utf-16", "cp1252")), "replace")


def _tensors(content: bytes, rng: Random) -> bytes:
    """The header of a safetensors file, which is JSON, or the length of it."""
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size]
    if rng.random() < 0.2 or not header:
        return _number(8, rng, (size + 1, size - 1)) + content[8:]
    names = [b"F64", b"F16", b"BF16", b"I64", b"I8", b"BOOL", b"F8_E4M3", b"X9"]
    new = _json(header, rng) if rng.random() < 0.7 else header.replace(b'"F16"', b'"%s"' % rng.choice(names), 3)
    return (len(new) if rng.random() < 0.9 else size).to_bytes(8, "little") + new + content[8 + size :]


def _database(path: Path, rng: Random) -> None:
    """A cell, a column or a table of an SQLite file."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as base:
            base.execute("PRAGMA writable_schema = ON")
            table = rng.choice(base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall())[0]
            column = rng.choice(base.execute(f'PRAGMA table_info("{table}")').fetchall())[1]
            value = rng.choice([one for one in ODD if isinstance(one, (str, float, bytes, type(None)))] + [2**62, -1])
            if isinstance(value, str):
                value = value.encode("utf-8", "surrogatepass") if rng.random() < 0.3 else value.replace("\ud800", "?")
            choice = rng.randrange(8)
            if choice == 0:
                base.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
            elif choice == 1:
                base.execute(f'DROP TABLE "{table}"' if rng.random() < 0.5 else f'DELETE FROM "{table}"')
            else:
                base.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid % ? = 0', (value, rng.choice((1, 2))))
    except (sqlite3.Error, IndexError):
        path.write_bytes(_bytes(content, rng))


_BY_SUFFIX: dict[str, Any] = {
    **dict.fromkeys((".tif", ".msk", ".ovr"), _tiff),
    **dict.fromkeys((".json", ".geojson"), _json),
    **dict.fromkeys((".toml", ".csv", ".txt", ".xml"), _text),
    **dict.fromkeys((".gpkg", ".sqlite"), _database),
    ".safetensors": _tensors,
}
