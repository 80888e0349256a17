"""Files that appear at their names whole or not at all, JSON, and text as spreadsheets and editors save it."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, OutputError, UsageError

logger = logging.getLogger(__name__)


def absolute(path: str | Path) -> Path:
    """The path from the root, links kept. Raises UsageError for an empty one (an unset variable in a script, say)."""
    if not str(path):
        raise UsageError("an output has an empty name: give a file's name")
    return Path(os.path.abspath(path))


def printable(path: str | os.PathLike[str]) -> str:
    """The path as it stands in a message: on one line, whatever its name holds."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in os.fspath(path))


def one_line(error: BaseException) -> str:
    """The most telling message of an error of rasterio, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


MAX_REASON = 500
"""Characters of a library's message: some repeat what they could not read."""


MAX_TEXT_BYTES, MAX_TEXT_VALUES = 32 << 20, 3_000_000
"""Of a text that others made, and of its lines, cells and JSON values: more could take 500 MB to read."""


def read_text(path: str | Path, what: str) -> str:
    """The text of a file, which is a ``what``: UTF-8 or UTF-16 with or without a mark in front, else Windows-1252.

    Raises InputError.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the {what} {printable(path)}: {reason}") from error
    if len(content) > MAX_TEXT_BYTES or sum(map(content.count, b"\r\n\t,;[{")) > MAX_TEXT_VALUES:
        most = f"{MAX_TEXT_BYTES >> 20} MB, {MAX_TEXT_VALUES:,} lines and values"
        raise InputError(f"the {what} {printable(path)} is too large (at most {most}): split it, or name another file")
    encodings = ["utf-16"] if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    else:
        raise InputError(f"the {what} {printable(path)} is neither UTF-8 nor Windows-1252: save it as UTF-8")
    if encoding == "cp1252":
        logger.warning("%s is not UTF-8 and is read as Windows-1252: save it as UTF-8", printable(path))
    before, nul, _ = text.partition("\0")
    if nul:
        line = before.count("\n") + 1
        raise InputError(f"{what} {printable(path)}, line {line}: a NUL, so no text file; save it as UTF-8")
    return text


def parse_json(path: str | Path, what: str) -> Any:
    """The values of a JSON file that somebody else made, a ``what``. Raises InputError."""
    try:
        values = json.loads(read_text(path, what))
        json.dumps(values, ensure_ascii=False).encode()  # half a character can be escaped, and not be written again
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"cannot read the {what} {printable(path)}: {reason}; wanted valid JSON") from error
    return values


Row = tuple[int, dict[str, str]]
"""The line of a row in its file, from 1, and its cells by the names of their columns."""

_SEPARATORS = ",;\t"


def read_table(path: str | Path, what: str, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a CSV file, separated by commas, semicolons or tabs; blanks around cells and empty rows are dropped.

    columns, optional: those that must and may be there; upper and lower case do not matter for them. Raises InputError.
    """
    lines = read_text(path, what).splitlines(keepends=True)
    declared = re.fullmatch(r"sep=(.)\s*", lines[0], re.IGNORECASE) if lines else None  # Excel's own first line
    separator = declared[1] if declared else max(_SEPARATORS, key=next(filter(str.strip, lines), "").count)
    name, rows, line = f"{what} {printable(path)}", list[tuple[int, list[str]]](), 1 + bool(declared)
    reader = csv.reader(lines[bool(declared) :], delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                rows.append((line, cells))
            line = reader.line_num + 1 + bool(declared)
    except csv.Error as error:
        raise InputError(f"{name}, line {line}: {error}: correct or delete that line") from error
    known = {column.lower(): column for column in (*columns, *optional)}
    header = [known.get(cell.lower(), cell) for cell in (rows[0][1] if rows else [])]
    for column in columns:
        if column not in header:
            met = ", ".join(filter(None, header)) or "none"
            raise InputError(f"{name} lacks the column {column!r}: wanted {', '.join(columns)}, it has {met}")
    return [(line, _named(header, row, f"{name}, line {line}")) for line, row in rows[1:]]


def _named(header: Sequence[str], row: Sequence[str], where: str) -> dict[str, str]:
    if any(row[len(header) :]):
        raise InputError(
            f"{where}: {len(row)} cells under {len(header)} columns: put cells that hold the separator in quotes"
        )
    return {name: row[n] if n < len(row) else "" for n, name in enumerate(header) if name}


PART = ".part"
"""Added to the name of a file that is not whole yet."""


def part_of(path: Path) -> Path:
    """The name beside ``path`` under which it is written."""
    return path.with_name(path.name + PART)


def move_into_place(part: Path, final: Path, *, durable: bool = True) -> None:
    """Give a finished file its name: flush it to disk, rename, flush the folder. Raises OutputError.

    Files that a power cut may take (they can be told from whole ones, or are made anew) need not be ``durable``:
    flushing costs a small run more than its work.
    """
    try:
        if durable:
            _flush(part, os.O_RDWR)  # Windows flushes no handle that cannot write
        os.replace(part, final)
    except OSError as error:
        raise cannot_write(final, error) from error
    if durable:
        _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk where the system can: Windows and some network file systems cannot."""
    if os.name != "nt":
        with contextlib.suppress(OSError):
            _flush(folder, os.O_RDONLY)


def identity(path: str | Path) -> list[int]:
    """What is another one when the file is: size, time of change in ns, number on its disk. Raises OSError."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody changes in place a second name, or copy it where the file system cannot. OSError."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def flush(path: Path) -> None:
    """Have the system write a file to disk. Raises OutputError."""
    with naming_errors(path):
        _flush(path, os.O_RDWR)


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: BaseException) -> OutputError:
    """The error to raise when ``path`` cannot be written because of ``error``."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return OutputError(
        f"cannot write {printable(path)}: {reason}; check the folder, its permissions and its free space"
    )


FILE_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, SystemError)
"""What the operating system and the libraries that write files raise when a file cannot be written."""


@contextlib.contextmanager
def naming_errors(path: Path, errors: tuple[type[Exception], ...] = FILE_ERRORS) -> Iterator[None]:
    """A block in which ``errors`` become OutputError: ``path`` cannot be written."""
    try:
        yield
    except errors as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def write_atomically(
    path: Path, *, durable: bool = True, errors: tuple[type[Exception], ...] = FILE_ERRORS
) -> Iterator[Path]:
    """The name to write ``path`` under: published when the block ends well, removed when it does not.

    ``errors`` become OutputError.
    """
    part = part_of(path)
    try:
        with naming_errors(path, errors):
            yield part
            move_into_place(part, path, durable=durable)
    except BaseException:
        remove_if_there(part)
        raise


def check_new(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file may not be made at ``path``, OutputError where it cannot be."""
    check_place(path)
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"output {path} exists: add --overwrite to replace it")


def check_place(path: Path) -> None:
    """Raise UsageError where ``path`` is a folder, OutputError where its folder is not there or cannot be written."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # too long, a NUL
        raise cannot_write(path, error) from error
    if os.path.isdir(path):
        raise UsageError(f"output {path} is a directory: give a file's name")
    folder = path.absolute().parent
    if not os.path.isdir(folder):
        raise OutputError(f"the folder {folder} of output {path.name} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written: choose another one")


def remove_if_there(part: Path) -> None:
    """Remove what is not finished, if it is there."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def check_own(folder: Path, files: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Raise OutputError where one of our names in ``folder`` is a link, or no file (no folder): it may lead elsewhere.

    So may a second name of a file that is written in place, which are those that are not whole yet.
    """
    kinds = ((name, kind) for names, kind in ((files, stat.S_ISREG), (folders, stat.S_ISDIR)) for name in names)
    for name, is_right in kinds:
        with contextlib.suppress(FileNotFoundError), naming_errors(folder / name, (NotADirectoryError,)):
            found = os.lstat(folder / name)
            if not is_right(found.st_mode) or (name.endswith(PART) and found.st_nlink > 1):
                raise OutputError(
                    f"{printable(folder / name)} is a link, or of a kind that aerialseg does not make there: delete it"
                )


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none where there is no file. Raises OutputError for one that cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"cannot read {path}: {error}; delete its directory to start anew") from error
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write beside the name, then rename. Raises OutputError."""

    part = part_of(path)
    try:
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    move_into_place(part, path, durable=False)  # after a power cut the run starts anew
