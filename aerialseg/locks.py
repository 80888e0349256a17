"""Lock files, which the system drops when their process dies."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from aerialseg.errors import OutputError
from aerialseg.files import naming_errors, remove_if_there


@contextlib.contextmanager
def locked(path: Path, busy: Callable[[], str], *, remove: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, in a folder that is made if need be.

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
