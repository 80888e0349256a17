"""Writing the certificate of seams: its pictures and its JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aerialseg.errors import UsageError
from aerialseg.files import check_new, write_atomically
from aerialseg.seams.certificate import Certificate


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate is written to: JSON, the plot by halo, the picture of the seams. None leaves one out."""

    json: Path | None = None
    plot: Path | None = None
    picture: Path | None = None

    def check(self, *, overwrite: bool) -> None:
        """Raise UsageError, before any work, where a file may not be made or a picture is not to be an SVG."""
        for path in (self.plot, self.picture):
            if path is not None and path.suffix.lower() != ".svg":
                raise UsageError(f"{path}: pictures are written as SVG: name it {path.with_suffix('.svg').name}")
        for path in (self.json, self.plot, self.picture):
            if path is not None:
                check_new(path, overwrite=overwrite)

    def write(self, certificate: Certificate) -> list[Path]:
        """The files made. Raises OutputError."""
        from aerialseg.seams.figures import draw_certificate, draw_seams

        made = []
        for path, draw in ((self.json, _json), (self.plot, draw_certificate), (self.picture, draw_seams)):
            if path is not None:
                with write_atomically(path) as part:
                    part.write_text(draw(certificate), encoding="utf-8")
                made.append(path)
        return made


def _json(certificate: Certificate) -> str:
    return json.dumps(certificate.to_json(), indent=1) + "\n"
