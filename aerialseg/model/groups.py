"""Classes of a model put together into a few of one's own: the table that says so, and a model that answers so.

The probability of a group is the sum of those of its classes, which no map of the single classes can tell: where three
kinds of green get 20 % each and paved ground 40 %, green is meant.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError, ModelError, OutputError, UsageError
from aerialseg.files import link_or_copy, naming_errors, printable, read_table, write_atomically
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, NETWORK, WEIGHTS, model_dir
from aerialseg.model.lineage import Parent, derived_from
from aerialseg.model.store import HISTORY

if TYPE_CHECKING:
    from torch import Tensor

NONE = -1
"""In place of a group: the class is never said."""
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups in the order in which the table names them, and of each class, by its name, the number of its group.

    A class without a group has `NONE`. The groups' own names are theirs.
    """

    names: tuple[str, ...]
    members: Mapping[str, int]
    colours: Mapping[int, Colour]

    @classmethod
    def from_csv(cls, path: str | Path) -> Groups:
        """The table ``class,group`` with, if wanted, a colour ``r,g,b`` in a line of each group. Raises InputError."""
        names: dict[str, int] = {}
        members: dict[str, int] = {}
        colours: dict[int, Colour] = {}
        for line, row in read_table(path, "groups", ("class", "group"), optional=("r", "g", "b")):
            where = f"groups {printable(path)}, line {line}"
            if row["class"] in members:
                raise InputError(f"{where}: the class {row['class']!r} is there twice: it belongs to one group")
            usual = next((name for name in names if name.casefold() == row["group"].casefold()), row["group"])
            if usual != row["group"]:
                raise InputError(f"{where}: the groups {usual!r} and {row['group']!r} differ in case alone: write one")
            number = names.setdefault(row["group"], len(names)) if row["group"] else NONE
            members[row["class"]] = number
            if number != NONE and any(row.get(band) for band in "rgb"):
                colours.setdefault(number, _colour(row, where))
        own = {name: number for name, number in names.items() if name not in members}
        return cls(tuple(names), {**members, **own}, colours)

    def legend(self, known: Legend) -> Legend:
        """The groups as classes; without a colour of its own a group has that of its first class in ``known``."""
        first = {self.members.get(self.key(entry), NONE): entry.on_maps.color for entry in reversed(list(known))}
        grey: Colour = (128, 128, 128)
        return Legend(
            tuple(
                LandClass(number, name, self.colours.get(number, first.get(number, grey)))
                for number, name in enumerate(self.names)
            )
        )

    def key(self, entry: LandClass) -> str:
        """What the table calls a class: its name, or what maps call it."""
        return entry.name if entry.name in self.members else entry.title

    def numbers(self, legend: Legend, where: str, leave_out: Container[int] = ()) -> NDArray[np.uint8]:
        """Of each class id the group, 255 for ids without one. Raises InputError for a class without a line."""
        found = np.full(NODATA + 1, NODATA, np.uint8)
        for entry in legend:
            if entry.id not in leave_out and (group := self.of(entry, where)) != NONE:
                found[entry.id] = group
        return found

    def of(self, entry: LandClass, where: str) -> int:
        """The group of a class, or `NONE`. Raises InputError for a class that the table does not name."""
        name = self.key(entry)
        if name not in self.members:
            raise InputError(
                f"{where} has the class {entry.spoken}, which the groups do not name: add a line for it, without a "
                "group if it is not wanted"
            )
        return self.members[name]


def _colour(row: Mapping[str, str], where: str) -> Colour:
    try:
        red, green, blue = (int(row.get(band, "")) for band in "rgb")
    except ValueError:
        raise InputError(f"{where}: a colour is {row}: wanted three whole numbers, r, g and b") from None
    return red, green, blue


def regroup(
    model: str | Path | None,
    groups: str | Path | Groups,
    out: str | Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """The folder ``out`` with a model that says groups of another model's classes, by the sum of their probabilities.

    groups: a CSV file ``class,group`` (and ``r,g,b``), with a line for each class that the model says; one without a
    group is never said. The weights are those of the other model, its licence holds, and its scores are left out: they
    are of its own classes. Raises InputError, ModelError, OutputError, UsageError.
    """
    source, out = model_dir(model), Path(out)
    if any((out / file).exists() for file in (CARD, WEIGHTS)) and not overwrite:
        raise UsageError(f"{out} holds a model already: add --overwrite to replace it")
    table = groups if isinstance(groups, Groups) else Groups.from_csv(groups)
    card = _regrouped(ModelCard.read(source / CARD), table, name or out.resolve().name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {out}: {error.strerror}") from error
    for file in (WEIGHTS, NETWORK, HISTORY):
        if (source / file).exists() and (source / file).resolve() != (out / file).resolve():
            with naming_errors(out / file):
                link_or_copy(source / file, out / file)
    with write_atomically(out / CARD) as part:
        card.write(part)
    return out


def _regrouped(parent: ModelCard, table: Groups, name: str) -> ModelCard:
    said = parent.groups or tuple(range(len(parent.legend)))
    group_of = {
        entry.id: NONE if entry.id in parent.void else table.of(entry, f"the model {parent.name!r}")
        for entry in parent.legend
    }
    empty = [one for number, one in enumerate(table.names) if number not in group_of.values()]
    if empty:
        raise ModelError(f"the group {empty[0]!r} has none of the classes that the model {parent.name!r} says")
    card = replace(
        parent,
        name=name,
        legend=table.legend(parent.legend),
        groups=tuple(NONE if one == NONE else group_of[one] for one in said),
        void=(),
        scores={},
        quantization={key: value for key, value in parent.quantization.items() if key != "mean_iou"},
        licence="",
        lineage=(),
    )
    return derived_from(card, [Parent.of(parent)], "Classes put together of the model")


def members_of(card: ModelCard) -> list[list[int]]:
    """Of each class of the legend, which ones of the network's are part of it."""
    groups = card.groups or range(len(card.legend))
    return [[number for number, group in enumerate(groups) if group == entry.id] for entry in card.legend]


def group_logits(logits: Tensor, card: ModelCard) -> Tensor:
    """Logits (B, groups, h, w) of those of the network (B, classes, h, w); unchanged where the card has no groups.

    softmax(logits / temperature) of what comes out is the sum of softmax(logits / temperature) of what went in.
    """
    import torch

    if not card.groups:
        return logits
    scaled = logits / card.temperature
    parts = [torch.logsumexp(scaled[:, list(members)], dim=1) for members in members_of(card)]
    return torch.stack(parts, dim=1) * card.temperature
