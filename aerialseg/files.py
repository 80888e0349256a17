"""Files that appear at their names whole or not at all, locks, and JSON."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aerialseg.errors import OutputError, UsageError


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
    return " ".join(str(error).split()) or type(error).__name__


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


def remove_if_there(part: Path) -> None:
    """Remove what is not finished, if it is there."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file; none where there is no file. Raises OutputError for one that cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
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


@contextlib.contextmanager
def locked(path: Path, busy: Callable[[], str], *, remove: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, in a folder that is made if need be. The system drops the lock of a dead process.

    remove: the file goes with the lock. Raises OutputError with what ``busy`` says where it is held, by another process
    or by another thread of this one.
    """
    with naming_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(path)
    if handle is None:
        raise OutputError(busy())
    try:
        yield
    finally:
        if remove:
            remove_if_there(path)
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    if not path.exists():
        return False
    try:
        handle = _take(path)
    except OSError:
        return True
    if handle is not None:
        os.close(handle)
    return handle is None


def _take(path: Path) -> int | None:
    """A handle that holds the lock, or None where another one does. Raises OSError."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(handle):
                os.close(handle)
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever held it has removed it meanwhile


def _try_lock(handle: int) -> bool:
    """Lock an open file for this handle alone, as flock(2) does; False where it is locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
