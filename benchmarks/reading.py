"""How hard the docs are to read, before and after, and how long README and --help are.

    python benchmarks/reading.py 55581ad f9fee35 HEAD       # commits of this repository

Grade is the Automated Readability Index (Smith and Senter 1967), about the school year in the USA that a text needs:
4.71 characters / words + 0.5 words / sentences - 21.43. Counted is the prose: headings, tables, code, targets of links
and pages that are made from the source are left out. Options are those of the commands of the package that is
installed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator

import click

from aerialseg.cli.commands import cli

MADE = {"docs/api.md", "docs/faults.md", "docs/errors.md"}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def prose(markdown: str) -> list[str]:
    """The sentences of a page."""
    text = re.sub(r"```.*?```|<!--.*?-->|!\[[^]]*]\([^)]*\)", "", markdown, flags=re.DOTALL)
    text = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(\||#|>|    )", line)]
    text = re.sub(r"^\s*([*-]|\d+\.) ", "\n\n", "\n".join(lines), flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"[*_]{1,2}", "", text))
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n|(?<=[.!?])\s", text)]
    return [part for part in parts if len(part.split()) > 2]


def grade(sentences: list[str]) -> float:
    words = [word for one in sentences for word in re.findall(r"[\w'-]+", one)]
    return 4.71 * sum(map(len, words)) / len(words) + 0.5 * len(words) / len(sentences) - 21.43


def page_texts(commit: str) -> Iterator[tuple[str, str]]:
    names = git("ls-tree", "--name-only", commit, "README.md", "docs/").split()
    return ((name, git("show", f"{commit}:{name}")) for name in names if name.endswith(".md") and name not in MADE)


def options(group: click.Group, path: str = "") -> Iterator[tuple[str, int]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from options(command, f"{name} ")
        else:
            yield path + name, sum(isinstance(one, click.Option) and not one.hidden for one in command.params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commits", nargs="+")
    commits = parser.parse_args().commits
    pages = {commit: dict(page_texts(commit)) for commit in commits}
    print(f"{'grade':28}" + "".join(f"{commit:>10}" for commit in commits))
    for name in sorted(set().union(*pages.values())):
        grades = [f"{grade(prose(pages[one][name])):10.1f}" if name in pages[one] else f"{'':10}" for one in commits]
        print(f"{name:28}" + "".join(grades))
    every = [[one for text in pages[commit].values() for one in prose(text)] for commit in commits]
    print(f"{'all':28}" + "".join(f"{grade(one):10.1f}" for one in every))
    lengths = [sum(len(one.split()) for one in sentences) / len(sentences) for sentences in every]
    print(f"{'words a sentence':28}" + "".join(f"{one:10.1f}" for one in lengths))
    print(f"{'lines of README.md':28}" + "".join(f"{pages[one]['README.md'].count(chr(10)):10}" for one in commits))
    print("options: " + ", ".join(f"{name} {count}" for name, count in options(cli)))


if __name__ == "__main__":
    main()
