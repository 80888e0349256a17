"""Models of others that can be had: what they are for, under which terms, where they lie and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aerialseg.errors import UsageError
from aerialseg.legend import LandClass, Legend
from aerialseg.model.download import RemoteFile
from aerialseg.toml import build, convert, naming_file, read_toml

CATALOGUE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that can be had. mean, std: a band, of pixels 0 to 255. legend: the name of one in the catalogue.

    never: names of classes that the network answers for and was not trained on. published: scores as its makers state
    them. network, encoder, prefix: which network has the weights in the file, and what their names begin with there.
    """

    purpose: str
    gsd_m: float
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    legend: str
    licence: str
    attribution: str
    terms: str
    page: str
    address: str
    size: int
    sha256: str
    network: str
    encoder: str
    prefix: str = ""
    never: tuple[str, ...] = ()
    published: str = ""

    @property
    def file(self) -> RemoteFile:
        return RemoteFile(self.address, self.size, self.sha256)

    @property
    def file_name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def classes(self) -> Legend:
        """In the order of the network's answers."""
        return _read(CATALOGUE)[1][self.legend]

    @property
    def void(self) -> tuple[int, ...]:
        """Ids of the classes that are never predicted."""
        return tuple(entry.id for entry in self.classes if entry.name in self.never)

    @property
    def licence_text(self) -> str:
        """On one line, for people and for the card."""
        return f"{self.licence}: {self.terms}. Attribution: {self.attribution}"


def read_catalogue() -> dict[str, Offer]:
    """The models that can be had: name to offer, in the order of the catalogue."""
    return _read(CATALOGUE)[0]


@cache
def _read(path: Path) -> tuple[dict[str, Offer], dict[str, Legend]]:
    tables = read_toml(path, "catalogue")
    with naming_file(path):
        given: dict[str, dict[str, str]] = convert(tables.pop("legends", {}), dict[str, dict[str, str]], "legends")
        legends = {name: _legend(colours, f"legends.{name}") for name, colours in given.items()}
        offers = {name: build(Offer, values, name) for name, values in tables.items()}
        for name, offer in offers.items():
            _check(name, offer, legends)
    return offers, legends


def _legend(colours: dict[str, str], where: str) -> Legend:
    return Legend(
        tuple(LandClass(n, name, _colour(value, f"{where}.{name}")) for n, (name, value) in enumerate(colours.items()))
    )


def _colour(value: str, where: str) -> tuple[int, int, int]:
    try:
        red, green, blue = bytes.fromhex(value.removeprefix("#"))
    except ValueError:
        raise UsageError(f"{where} is {value!r}: wanted a colour such as #aabbcc") from None
    return red, green, blue


def _check(name: str, offer: Offer, legends: dict[str, Any]) -> None:
    if offer.legend not in legends:
        raise UsageError(f"{name}.legend is {offer.legend!r}: wanted one of {', '.join(legends)}")
    unknown = [one for one in offer.never if one not in legends[offer.legend].names]
    if unknown:
        raise UsageError(f"{name}.never has {unknown[0]!r}, which is no class of legends.{offer.legend}")
