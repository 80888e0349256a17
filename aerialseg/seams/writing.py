"""Writing the certificate of seams: its pictures and its JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.errors import UsageError
from aerialseg.seams.certificate import Certificate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where a certificate is written to: JSON, the plot by halo, the picture of the seams. None leaves one out."""

    json: Path | None = None
    plot: Path | None = None
    picture: Path | None = None

    def check(self, *, overwrite: bool) -> None:
        """Raise UsageError, before any work, where a file is there already or no picture can be drawn."""
        from aerialseg.seams.figures import check_matplotlib

        for path in (self.json, self.plot, self.picture):
            if path is not None and path.exists() and not overwrite:
                raise UsageError(f"{path} exists: add --overwrite to replace it")
        if self.plot is not None or self.picture is not None:
            check_matplotlib()

    def write(self, certificate: Certificate) -> list[Path]:
        """The files made. Raises OutputError."""
        from aerialseg.files import writing
        from aerialseg.seams.figures import draw_certificate, draw_seams

        made = []
        for path, draw in ((self.json, _write_json), (self.plot, draw_certificate), (self.picture, draw_seams)):
            if path is not None:
                with writing(path) as part:
                    draw(certificate, part)
                made.append(path)
        return made


def _write_json(certificate: Certificate, path: Path) -> None:
    path.write_text(json.dumps(certificate.to_json(), indent=1) + "\n", encoding="utf-8")
