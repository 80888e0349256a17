"""What the documentation site has beside docs/*.md: all commands, and the project's own pages. Called by mkdocs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aerialseg.cli.commands import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Page of the repository -> page of the site."""

_LINK = re.compile(r"\[([^]]*)]\((?!https?:|mailto:|#)([^)#]*)(#[^)]*)?\)")
HEAD = "# Commands\n\n`segment-raster` is `aerialseg segment`. Each command says the same with `--help`.\n\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in docs/."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=commands_page()))
    for name, page in PAGES.items():
        text = ROOT.joinpath(name).read_text("utf-8").replace("](docs/", "](").replace('src="docs/', 'src="')
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository lead to their page of the site, or become plain text."""
    return _LINK.sub(_link, markdown)


def _link(found: re.Match[str]) -> str:
    text, path, anchor = found[1], found[2], found[3] or ""
    if path.removeprefix("../") in PAGES:
        return f"[{text}]({PAGES[path.removeprefix('../')]}{anchor})"
    if path.startswith("../") or ROOT.joinpath(path).exists():
        return text
    return found[0]


def commands_page() -> str:
    context = click.Context(cli, info_name="aerialseg")
    return HEAD + "\n".join(command_section(*one) for one in commands(cli, context))


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Each command with a context of its own, groups taken apart."""
    for name, command in sorted(group.commands.items()):
        own = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from commands(command, own)
        else:
            yield command, own


def command_section(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = [" ".join(part.split()) for part in (command.help or "").strip().split("\n\n")]
    records = [_record(context, one) for one in command.get_params(context) if isinstance(one, click.Option)]
    rows = [f"| {_code(one[0])} | {_cell(one[1])} |" for one in records if one]
    parts = [f"## {context.command_path}", f"```text\n{usage}\n```", *map(_escaped, text)]
    return "\n\n".join([*parts, "\n".join(["| option | |", "| --- | --- |", *rows])]) + "\n"


def _record(context: click.Context, option: click.Option) -> tuple[str, str] | None:
    return None if "--help" in option.opts else option.get_help_record(context)


def _escaped(text: str) -> str:
    return re.sub(r"([<*_\[])", r"\\\1", text)


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _code(text: str) -> str:
    """Code inside a table, where a bar ends the cell even between backticks."""
    return "<code>" + text.replace("<", "&lt;").replace("|", "&#124;") + "</code>"
