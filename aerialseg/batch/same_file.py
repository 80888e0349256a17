"""Which names may be one file: links resolved, hard links known, capitals and accents ignored."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


class Places:
    """Answers for many paths; each folder is listed once, so an answer is of the time of the first one."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, dict[str, bool]]] = {}

    def of(self, path: str) -> str:
        """Equal for two names that may be one file.

        On the disks of Windows and macOS names that differ in capitals are one file, and jobs move between machines.
        """
        folder, name = os.path.split(path)
        real, is_link = self._listed(folder)
        full = os.path.realpath(path) if is_link.get(name) else os.path.join(real, name)
        return full.lower() if full.isascii() else unicodedata.normalize("NFC", full).casefold()

    def holds(self, path: str) -> bool:
        """Whether there is a file, or a link, of this very name."""
        folder, name = os.path.split(path)
        return name in self._listed(folder)[1]

    def _listed(self, folder: str) -> tuple[str, dict[str, bool]]:
        """The folder's real path, and its names: whether each is a link."""
        found = self._folders.get(folder)
        if found is None:
            try:
                with os.scandir(folder) as entries:
                    names = {entry.name: entry.is_symlink() for entry in entries}
            except OSError:  # it does not exist yet, or is not to be listed
                names = {}
            found = self._folders[folder] = os.path.realpath(folder), names
        return found


def hard_link(path: str) -> Iterator[tuple[int, int]]:
    """What all names of a file with several names have in common; nothing for other files."""
    try:
        status = os.stat(path)
    except OSError:
        return
    if status.st_nlink > 1 and status.st_ino:
        yield status.st_dev, status.st_ino


class Given:
    """Files that are there to be read: ``files`` is path -> what it is, in words."""

    def __init__(self, files: Mapping[str, str], places: Places) -> None:
        self._said = {places.of(path): said for path, said in files.items()}
        self._links = {link: said for path, said in files.items() for link in hard_link(path)}

    def __call__(self, path: str, place: str) -> str | None:
        """What the file of this name and place is, if it is one of them."""
        said = self._said.get(place)
        if said is None and self._links:
            return next((self._links[link] for link in hard_link(path) if link in self._links), None)
        return said


def parents(paths: Iterable[str]) -> set[str]:
    """All folders above the paths."""
    near = {Path(path).parent for path in paths}
    return {str(folder) for folder in near.union(*(folder.parents for folder in near))}
