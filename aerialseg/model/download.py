"""A file fetched from the web: resumed where it broke off, and only taken when its size and SHA-256 are those wanted.

urllib follows redirects and the usual environment variables (https_proxy, no_proxy, SSL_CERT_FILE). A byte range is
asked for on the condition that the file is still the same one (RFC 9110, If-Range), so parts of two files are not
joined; the SHA-256 would find that, too, but only at the end.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.errors import InputError, ModelError, OutputError, ResourceError
from aerialseg.files import move_into_place, naming_errors, part_of, read_json, remove_if_there, write_json
from aerialseg.locks import locked
from aerialseg.progress import Progress, spoken_bytes

TIMEOUT_S = 60.0
"""Without a byte; then the connection is given up and made again."""
PAUSES_S = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Before each new attempt. They begin anew when bytes have come in meanwhile."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may be others in a while."""
CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What is to be fetched. size: in bytes. sha256: of the whole file, in hexadecimal."""

    address: str
    size: int
    sha256: str


class _Broken(Exception):
    """The connection broke off, or the server cannot answer now."""


def download(what: RemoteFile, path: Path, progress: Progress) -> Path:
    """``path``, once it is the file wanted; a part of it that an earlier call has left is continued.

    Raises ModelError (it cannot be had there, or is another file), ResourceError (no room), OutputError.
    """
    part = part_of(path)

    def busy() -> str:
        return f"{path.name} is being fetched by another process: wait for that one"

    with locked(path.with_name(path.name + ".lock"), busy, remove=True):
        if path.exists():
            check_file(path, what)
            return path
        if _size(part) > what.size:
            _forget(part)
        _check_room(path.parent, what.size - _size(part))
        progress.stage("download", what.size)
        progress.advance(min(_size(part), what.size))
        _fetch_all(what, part, progress)
        try:
            check_file(part, what)
        except ModelError:
            _forget(part)
            raise
        move_into_place(part, path)
        _forget(part)
    return path


def check_file(path: Path, what: RemoteFile) -> None:
    """Raise ModelError where a file is not the one wanted, InputError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            digest = hashlib.file_digest(file, "sha256").hexdigest() if size == what.size else ""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if size != what.size:
        raise ModelError(
            f"{path.name} has {size:,} bytes, wanted {what.size:,}: it is cut short or another file; fetch it again "
            f"from {what.address}"
        )
    if digest != what.sha256:
        raise ModelError(
            f"{path.name} has the SHA-256 {digest[:16]}..., wanted {what.sha256[:16]}...: it is damaged or another "
            f"file, and is not used; fetch it again from {what.address}"
        )


def _fetch_all(what: RemoteFile, part: Path, progress: Progress) -> None:
    pauses = iter(PAUSES_S)
    while (before := _size(part)) < what.size:
        try:
            _fetch(what, part, progress.advance)
            reason = "the connection was closed"
        except _Broken as error:
            reason = str(error)
        if (now := _size(part)) >= what.size:
            return
        if now > before:
            pauses = iter(PAUSES_S)
        pause = next(pauses, None)
        if pause is None:
            here = f"; {spoken_bytes(now)} of {spoken_bytes(what.size)} are here and stay" if now else ""
            raise ModelError(
                f"cannot fetch {what.address}: {reason}{here}: run the command again to resume, or fetch the file in a "
                "browser and give it with --file"
            )
        progress.note(f"{reason} after {spoken_bytes(now)} of {spoken_bytes(what.size)}: again in {pause:.0f} s")
        time.sleep(pause)


def _fetch(what: RemoteFile, part: Path, advance: Callable[[float], None]) -> None:
    """One connection: what it brings is appended to ``part``. Raises _Broken, ModelError, OutputError."""
    have, etag = _size(part), str(read_json(_about(part)).get("etag", ""))
    if not etag:  # nobody knows what the bytes are of
        advance(-have)
        have = 0
    with closing(_open(what, have, etag)) as answer:
        if answer.status != http.client.PARTIAL_CONTENT or not _continues(answer, have, what.size):
            advance(-have)
            have = 0
        _check_length(what, answer, have)
        with naming_errors(part), open(part, "r+b" if have else "wb") as file:
            write_json(_about(part), {"etag": answer.headers.get("ETag") or "none"})
            file.seek(have)
            while have < what.size and (chunk := _read(answer, min(CHUNK, what.size - have))):
                file.write(chunk)
                have += len(chunk)
                advance(len(chunk))


def _open(what: RemoteFile, have: int, etag: str) -> Any:
    request = urllib.request.Request(what.address, headers={"User-Agent": f"aerialseg/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if etag.startswith('"'):  # a weak one does not tell bytes apart
            request.add_header("If-Range", etag)
    try:
        return urllib.request.build_opener().open(request, timeout=TIMEOUT_S)  # reads the environment's proxies now
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _open(what, 0, "")
        if error.code in PASSING:
            raise _Broken(f"the server answers {error.code} {error.reason}") from error
        raise ModelError(
            f"cannot fetch {what.address}: the server answers {error.code} {error.reason}; fetch the file in a browser "
            "and give it with --file, or ask whoever runs the network about a proxy (https_proxy)"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_spoken(error)) from error


def _read(answer: Any, size: int) -> bytes:
    try:
        return bytes(answer.read(size))
    except http.client.IncompleteRead as error:
        raise _Broken("the connection was closed") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_spoken(error)) from error


def _continues(answer: Any, have: int, size: int) -> bool:
    """Whether the answer is the rest of the file wanted."""
    return bool(answer.headers.get("Content-Range", "").replace(" ", "") == f"bytes{have}-{size - 1}/{size}")


def _check_length(what: RemoteFile, answer: Any, have: int) -> None:
    if answer.length is not None and have + answer.length != what.size:
        raise ModelError(
            f"{what.address} has {have + answer.length:,} bytes, wanted {what.size:,}: it is another file (a page that "
            "asks for a login, perhaps); fetch the right one in a browser and give it with --file"
        )


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(f"{folder} has {spoken_bytes(free)} free, wanted {spoken_bytes(needed)}: free some")


def _spoken(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(getattr(reason, "strerror", None) or reason).split()) or type(error).__name__


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error


def _about(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    remove_if_there(part)
    remove_if_there(_about(part))
