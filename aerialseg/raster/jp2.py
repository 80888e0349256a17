"""What a JPEG 2000 file holds beside its pixels, looked at before GDAL sees it."""

from __future__ import annotations

import html
import struct
from pathlib import Path

_PIXELS = b"jp2c"
_CODESTREAM = b"\xffO\xffQ"
"""A file that begins so has pixels and no boxes."""
_HEADER_BYTES = 8


def jp2_texts(path: Path, *, most: int) -> str | None:
    """All boxes but the pixels', as one text (a byte is a character); None where there are more than ``most`` bytes.

    Raises OSError.
    """
    found = b""
    with open(path, "rb") as file:
        if file.read(len(_CODESTREAM)) == _CODESTREAM:
            return ""
        file.seek(0)
        while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
            length, kind = struct.unpack(">I4s", header)
            taken = _HEADER_BYTES
            if length == 1:  # the length follows, for boxes of more than 4 GiB
                length = int.from_bytes(file.read(8), "big")
                taken += 8
            found += header
            if kind == _PIXELS and not length:  # up to the end
                break
            if kind == _PIXELS:
                file.seek(max(0, length - taken), 1)
            else:
                found += file.read(min(most + 1, max(0, length - taken)) if length else most + 1)
            if len(found) > most:
                return None
    return html.unescape(found.decode("latin-1"))
